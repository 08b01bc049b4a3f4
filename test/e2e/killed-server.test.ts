import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { Robot } from './independent/robot.ts'
import { startScene, storedHeartbeats } from './scene.ts'

const ROBOTS = 50

test('a server killed under heartbeats: each acknowledged one is there once, and nobody is called offline', async () => {
  const scene = await startScene()
  onTestFinished(() => scene.end())
  const [server] = scene.servers
  const key = await scene.operator.key(scene.site, scene.fleet, { max_uses: ROBOTS })
  const robots = await Promise.all(
    Array.from({ length: ROBOTS }, () => Robot.enrol([server!.url], key.key_value, 30)),
  )
  onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
  for (const robot of robots) robot.start()
  await eventually(() => robots.every((robot) => robot.acknowledged.length >= 5))

  await server!.kill9()
  const acknowledged = robots.map((robot) => [...robot.acknowledged])
  for (const [index, robot] of robots.entries()) {
    const stored = await storedHeartbeats(scene.database.pool, robot.id)
    for (const beat of acknowledged[index]!)
      expect(stored.filter((row) => row.seq === beat.seq && row.at.toISOString() === beat.at)).toHaveLength(1)
  }

  const statesSeen = new Set<string>()
  let watching = true
  const watch = (async () => {
    while (watching) {
      const { rows } = await scene.database.pool.query('SELECT DISTINCT connection FROM robot_status')
      for (const row of rows as { connection: string }[]) statesSeen.add(row.connection)
    }
  })()
  await scene.addServer({ BEACON_PORT: new URL(server!.url).port })
  await eventually(() => robots.every((robot) => robot.sessions.length >= 2 && robot.welcomed))
  await eventually(() =>
    robots.every((robot, index) => robot.acknowledged.length > acknowledged[index]!.length + 5),
  )
  for (const robot of robots) robot.rest()
  await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))

  for (const robot of robots) {
    expect(robot.sessions).toEqual([1, 2])
    const stored = await storedHeartbeats(scene.database.pool, robot.id)
    expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(robot.acknowledged)
    expect(stored).toHaveLength(robot.lastSent)
  }
  const shown = await scene.operator
    .must<{ items: { connection: string; heartbeat: { seq: number } }[] }>('GET', '/api/robots?limit=200')
    .then(({ items }) => items)
  expect(shown).toHaveLength(ROBOTS)
  watching = false
  await watch
  expect(statesSeen).not.toContain('offline')
  const { rows } = await scene.database.pool.query("SELECT 1 FROM robot_events WHERE code = 'offline'")
  expect(rows).toEqual([])
}, 60_000)
