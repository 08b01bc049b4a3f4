import pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import {
  embeddedUrl,
  killPostgres,
  makeDataFolder,
  removeDataFolder,
  startServer,
} from '../support/server-process.ts'
import { mintToken, Operator } from './independent/operator.ts'
import { enrolUntilAnswered, newClaim, Robot } from './independent/robot.ts'
import { countsOf, settings, storedHeartbeats } from './scene.ts'

const ROBOTS = 20
const CLAIMS = 150

test('the private PostgreSQL killed under load: the server recovers by itself and has lost nothing it answered for', async () => {
  const folder = await makeDataFolder()
  onTestFinished(() => removeDataFolder(folder))
  const adminToken = mintToken('rf_pat_')
  const server = await startServer(settings(folder, adminToken))
  onTestFinished(() => server.kill9())
  const operator = new Operator(server.url, adminToken)
  const site = await operator.site('Plant')
  const fleet = await operator.fleet(site.id, 'Carts')
  const key = await operator.key(site, fleet, { max_uses: 1_000 })

  const robots = await Promise.all(
    Array.from({ length: ROBOTS }, () => Robot.enrol([server.url], key.key_value, 30)),
  )
  onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
  for (const robot of robots) robot.start()
  await eventually(() => robots.every((robot) => robot.acknowledged.length >= 5))

  const readiness: number[] = []
  let watching = true
  const watch = (async () => {
    while (watching) {
      const { status } = await fetch(`${server.url}/readyz`)
      if (readiness.at(-1) !== status) readiness.push(status)
    }
  })()

  let answered = 0
  const claims = Array.from({ length: CLAIMS }, newClaim)
  const claiming = Promise.all(
    Array.from({ length: 8 }, async () => {
      const answers = []
      for (let claim = claims.pop(); claim; claim = claims.pop()) {
        answers.push(await enrolUntilAnswered([server.url], key.key_value, claim))
        answered += 1
      }
      return answers
    }),
  )
  await eventually(() => answered >= 20)
  expect(killPostgres(folder)).toBeGreaterThan(3)
  const before = robots.map((robot) => robot.acknowledged.length)

  const answers = (await claiming).flat()
  await eventually(() => robots.every((robot, index) => robot.acknowledged.length > before[index]! + 5))
  await eventually(() => readiness.at(-1) === 200)
  watching = false
  await watch
  expect(readiness).toEqual([200, 503, 200])
  expect(server.hasExited).toBe(false)

  for (const robot of robots) robot.rest()
  await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))
  const pool = new pg.Pool({ connectionString: await embeddedUrl(folder), max: 2 })
  try {
    for (const answer of answers) expect([200, 201]).toContain(answer.status)
    const all = ROBOTS + CLAIMS
    expect(await countsOf(pool, key.id)).toEqual({ uses: all, robots: all })
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM robots')
    const told = [...answers.map((answer) => answer.body.robot_id), ...robots.map((robot) => robot.id)]
    expect(new Set(told)).toEqual(new Set(rows.map((row) => row.id)))
    for (const robot of robots) {
      const stored = await storedHeartbeats(pool, robot.id)
      expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(robot.acknowledged)
      // PostgreSQL was away, the robots were not.
      expect(robot.closes).toEqual([])
    }
  } finally {
    await pool.end()
  }
  await Promise.all(robots.map((robot) => robot.stop()))
  expect(await server.stop()).toBe(0)
}, 60_000)
