import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import type { ServerProcess } from '../support/server-process.ts'
import { Operator } from './independent/operator.ts'
import { Robot } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

/** Real servers over the end of an hour: what robots were acknowledged is there before, while and after it is packed. */

const SHIFTED_CLOCK = join(import.meta.dirname, '../support/shifted-clock.mjs')
const HOUR = 3_600_000
const ROBOTS = 1_500
const BEATS = 8

interface Beat {
  readonly seq: number
  readonly at: string
  readonly received_at: string
  readonly session_no: number
  readonly body: Record<string, unknown>
}
interface Steps {
  readonly items: readonly { readonly at: string; readonly heartbeats: number }[]
}

let folder: string
let clock: string
let scene: Scene

/** Where all servers' clocks are, against the database's. */
async function setClock(offsetMs: number): Promise<void> {
  await writeFile(`${clock}.new`, String(offsetMs))
  await rename(`${clock}.new`, clock)
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'beacon-history-'))
  clock = join(folder, 'clock')
  // Partitions of their past are made with the first server.
  await setClock(-2 * HOUR)
  scene = await startScene({
    env: { NODE_OPTIONS: `--import ${SHIFTED_CLOCK}`, BEACON_TEST_CLOCK: clock, BEACON_LOG_LEVEL: 'debug' },
  })
}, 60_000)
afterAll(async () => {
  await scene?.end()
  await rm(folder, { recursive: true, force: true })
})

/** Five hours, and one more: servers may be behind. */
function range(): string {
  const [from, to] = [-5 * HOUR, HOUR].map((ms) => new Date(hour + ms).toISOString())
  return `from=${from}&to=${to}`
}
const hour = Date.now() - (Date.now() % HOUR) + HOUR

async function historyOf(server: ServerProcess, robotId: string): Promise<Beat[]> {
  const operator = new Operator(server.url, scene.adminToken)
  const beats: Beat[] = []
  for (let cursor = ''; ; ) {
    const query = `${range()}&limit=100${cursor && `&cursor=${cursor}`}`
    const page = await operator.must<{ items: Beat[]; next_cursor: string | null }>(
      'GET',
      `/api/robots/${robotId}/heartbeats?${query}`,
    )
    beats.push(...page.items)
    if (page.next_cursor === null) return beats
    cursor = page.next_cursor
  }
}

const sql = async <Row>(text: string, ...values: unknown[]) =>
  (await scene.database.pool.query(text, values)).rows as Row[]

test('a server that is killed while it packs, and those after it, lose nothing and keep nothing twice', async () => {
  let server = scene.servers[0]!
  const { key_value } = await scene.operator.key(scene.site, scene.fleet)
  const robots = await Promise.all([0, 1, 2].map(() => Robot.enrol([server.url], key_value, 100)))
  for (const robot of robots) {
    robot.goTo([server.gatewayUrl.replace(/^ws/, 'http').replace(/\/agent\/ws$/, '')])
    robot.start()
  }
  await eventually(() => robots.every(({ acknowledged }) => acknowledged.length >= 15))
  await Promise.all(robots.map((robot) => robot.stop()))
  // A fleet that beats with them, so that packing takes its time.
  await sql(
    `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
     SELECT robot, received_at, at, 1, number, body
     FROM (SELECT received_at, at, body FROM heartbeats LIMIT 1) AS one,
       (SELECT gen_random_uuid() AS robot FROM generate_series(1, $1)) AS robots, generate_series(1, $2) AS number`,
    ROBOTS,
    BEATS,
  )
  const before = await Promise.all(robots.map((robot) => historyOf(server, robot.id)))
  for (const [index, robot] of robots.entries())
    expect(before[index]!.map(({ seq }) => seq)).toEqual(
      expect.arrayContaining(robot.acknowledged.map(({ seq }) => seq)),
    )

  // As long as the clocks do not agree that an hour is over, it is not: also while the server's own says so.
  await server.kill9()
  await setClock(2 * HOUR)
  server = await scene.addServer()
  await eventually(() => server.output.includes('partition'))
  const [closedTo] = await sql<{ ends: Date | null }>('SELECT max(ends) AS ends FROM heartbeat_packing')
  expect(closedTo!.ends === null || closedTo!.ends.getTime() <= Date.now()).toBe(true)

  // Killed again and again in the middle.
  let kills = 0
  const progress = async () =>
    (
      await sql<{ through: string | null; open: number }>(
        `SELECT max(packed_through::text) FILTER (WHERE packed_at IS NULL) AS through,
         count(*) FILTER (WHERE packed_at IS NULL)::int AS open FROM heartbeat_packing`,
      )
    )[0]!
  for (let last: string | null = null; ; ) {
    await eventually(async () => {
      const { through, open } = await progress()
      return through !== last || (open === 0 && (await packs()) > 0)
    })
    const { through, open } = await progress()
    if (open === 0 || kills === 3) break
    last = through
    await server.kill9()
    kills += 1
    server = await scene.addServer()
  }
  expect(kills).toBeGreaterThan(0)
  await eventually(async () => (await progress()).open === 0)
  expect(await Promise.all(robots.map((robot) => historyOf(server, robot.id)))).toEqual(before)
  const [sums] = await sql<{ packed: number; rows: number }>(
    `SELECT (SELECT sum(heartbeats) FROM heartbeat_packs)::int AS packed, (SELECT count(*) FROM heartbeats)::int AS rows`,
  )
  expect(sums!.packed).toBe(sums!.rows)

  // And when the rows are gone.
  await sql("UPDATE heartbeat_packing SET packed_at = packed_at - interval '1 day'")
  await server.kill9()
  server = await scene.addServer()
  await eventually(
    async () => (await sql<{ count: number }>('SELECT count(*)::int FROM heartbeats'))[0]!.count === 0,
  )
  expect(await Promise.all(robots.map((robot) => historyOf(server, robot.id)))).toEqual(before)
  const operator = new Operator(server.url, scene.adminToken)
  for (const [index, robot] of robots.entries()) {
    const query = `step=1h&${range()}`
    const steps = await operator.must<Steps>('GET', `/api/robots/${robot.id}/heartbeats?${query}`)
    expect(steps.items.reduce((sum, { heartbeats }) => sum + heartbeats, 0)).toBe(before[index]!.length)
  }
  expect(await server.stop()).toBe(0)
}, 120_000)

async function packs(): Promise<number> {
  return (await sql<{ count: number }>('SELECT count(*)::int FROM heartbeat_packs'))[0]!.count
}
