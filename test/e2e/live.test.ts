import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { LiveReader, type LiveReaderOptions } from '../support/live-reader.ts'
import type { ServerProcess } from '../support/server-process.ts'
import { Operator, type RobotRecord } from './independent/operator.ts'
import { Robot } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

const WITHIN_MS = 2_000
const PROCESSES = 2

/** A server whose robots are held by processes of their own, and one that holds them itself. */
let scene: Scene
let one: ServerProcess
let two: ServerProcess
beforeAll(async () => {
  scene = await startScene({ env: { BEACON_BUS: 'postgres', BEACON_GATEWAY_PROCESSES: String(PROCESSES) } })
  one = scene.servers[0]!
  two = await scene.addServer({ BEACON_GATEWAY_PROCESSES: '1' })
}, 60_000)
afterAll(() => scene?.end())

async function open(server: ServerProcess, options: LiveReaderOptions = {}): Promise<LiveReader> {
  const reader = await LiveReader.open(server.url, { token: scene.adminToken, ...options })
  onTestFinished(() => reader.close())
  expect(reader.status).toBe(200)
  await eventually(() => reader.isWhole)
  return reader
}

async function robots(count: number, server: ServerProcess): Promise<Robot[]> {
  const { key_value } = await scene.operator.key(scene.site, scene.fleet)
  const all = await Promise.all(
    Array.from({ length: count }, () => Robot.enrol([server.url], key_value, 300)),
  )
  for (const robot of all) {
    robot.goTo([server.gatewayUrl.replace(/^ws/, 'http').replace(/\/agent\/ws$/, '')])
    robot.start()
  }
  onTestFinished(async () => void (await Promise.all(all.map((robot) => robot.stop()))))
  await eventually(() => all.every((robot) => robot.acknowledged.length > 0))
  return all
}

// biome-ignore lint/suspicious/noExplicitAny: the robot as it was told
const still = ({ heartbeat, ...robot }: any) => {
  const { age_ms: _, ...rest } = heartbeat ?? {}
  return { ...robot, heartbeat: heartbeat && rest }
}

test('robots of all processes are told at every server, and all that happens to them', async () => {
  const [first, second] = [await open(one), await open(two, { query: '?detail=status' })]
  const [processes] = await Promise.all([robots(6, one), robots(2, two)])
  const online = (reader: LiveReader) =>
    [...reader.robots.values()].filter(({ connection }) => connection === 'online').length
  await eventually(() => online(first) === 8 && online(second) === 8)
  const { rows } = await scene.database.pool.query(
    "SELECT count(DISTINCT server_id)::int AS servers FROM robot_status WHERE connection = 'online'",
  )
  expect(rows[0].servers).toBeGreaterThan(1)

  const told = second.all('delta').length
  const beats = () => first.all('delta').length
  const before = beats()
  await eventually(() => beats() > before + 3)
  // Heartbeats that change nothing of the status were not told to whoever asked for that alone.
  expect(second.all('delta').length - told).toBeLessThan(2)

  const [silent, revoked, renamed] = processes as [Robot, Robot, Robot]
  await scene.operator.must('PATCH', `/api/robots/${renamed.id}`, { name: 'Renamed', labels: { zone: 'a' } })
  const revokedAt = performance.now()
  await scene.operator.must('POST', `/api/robots/${revoked.id}/revoke-token`)
  await eventually(() =>
    [first, second].every(({ robots }) => robots.get(revoked.id).connection === 'offline'),
  )
  expect(performance.now() - revokedAt).toBeLessThan(2 * WITHIN_MS)
  silent.session!.socket.pause()
  silent.rest()
  await eventually(() => [first, second].every(({ robots }) => robots.get(silent.id).connection === 'stale'))
  for (const { robots } of [first, second])
    expect(robots.get(renamed.id)).toMatchObject({ name: 'Renamed', labels: { zone: 'a' } })

  for (const robot of processes) robot.rest()
  await eventually(async () => {
    const items = await scene.operator.list<RobotRecord>('/api/robots')
    const listed = new Map(items.map((robot) => [robot.id, still(robot)]))
    const known = new Map([...first.robots].map(([id, robot]) => [id, still(robot)]))
    const due = new Map(items.map((robot) => [robot.id, robot.connection]))
    const shown = new Map([...second.robots].map(([id, { connection }]) => [id, connection]))
    return isDeepStrictEqual(known, listed) && isDeepStrictEqual(shown, due)
  })
}, 60_000)

test('a token revoked at one server ends the feeds at both within two seconds', async () => {
  const { id, token } = await scene.operator.must<{ id: string; token: string }>('POST', '/api/tokens', {
    name: 'reader',
    scopes: ['robots:read'],
  })
  const readers = [await open(one, { token }), await open(two, { token })]
  const begun = performance.now()
  await scene.operator.must('POST', `/api/tokens/${id}/revoke`)
  for (const reader of readers) {
    expect((await reader.closed) - begun).toBeLessThan(WITHIN_MS)
    expect(reader.all('end')).toMatchObject([{ code: 'token_revoked' }])
  }
})

test('a server with hundreds of readers says to each that it stops, and is gone in time', async () => {
  const third = await scene.addServer({ BEACON_GATEWAY_PROCESSES: '1' })
  const tokens = await Promise.all(
    Array.from({ length: 8 }, async (_, index) => {
      const path = `/api/fleets/${scene.fleet.id}/tokens`
      const asked = { name: `reader ${index}`, scopes: ['robots:read'] }
      return (await scene.operator.must<{ token: string }>('POST', path, asked)).token
    }),
  )
  const readers: LiveReader[] = []
  for (const token of tokens)
    readers.push(...(await Promise.all(Array.from({ length: 50 }, () => open(third, { token })))))
  // Some take nothing any more.
  for (const reader of readers.slice(0, 20)) reader.pause()
  const begun = performance.now()
  const exited = third.stop()
  for (const reader of readers.slice(20)) expect((await reader.closed) - begun).toBeLessThan(2 * WITHIN_MS)
  expect(await exited).toBe(0)
  expect(performance.now() - begun).toBeLessThan(5_000)
  for (const reader of readers.slice(20))
    expect(reader.all('end')).toMatchObject([{ code: 'server_stopping' }])
}, 60_000)

test('a server that stops ends its feeds before its robots have gone, and readers go on elsewhere', async () => {
  const third = await scene.addServer({ BEACON_GATEWAY_PROCESSES: '1' })
  const { key_value } = await new Operator(third.url, scene.adminToken).key(scene.site, scene.fleet)
  const robot = await Robot.enrol([third.url], key_value, 300)
  robot.start()
  onTestFinished(() => robot.stop())
  await eventually(() => robot.acknowledged.length > 0)
  const reader = await open(third)
  const begun = performance.now()
  const exited = third.stop()
  expect((await reader.closed) - begun).toBeLessThan(1_000)
  expect(reader.all('end')).toMatchObject([{ code: 'server_stopping' }])
  const again = await open(two, { headers: { 'last-event-id': reader.lastEventId } })
  expect(again.all('reset')).toEqual([{ reason: 'unknown_id' }])
  expect([...again.robots.keys()].sort()).toEqual([...reader.robots.keys()].sort())
  expect(await exited).toBe(0)
}, 60_000)
