import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Bus, BusMessage } from '../../src/bus/bus.ts'
import { createLocalBus } from '../../src/bus/local.ts'
import { createPostgresBus } from '../../src/bus/postgres.ts'
import { openPool } from '../../src/db/database.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
const stops: (() => Promise<void>)[] = []

beforeAll(async () => {
  db = await createTestDatabase()
})
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})
afterAll(() => db.drop())

async function postgresBus(url = db.url): Promise<Bus> {
  const pool = openPool({
    url,
    name: 'bus test',
    maxConnections: 2,
    statementTimeoutMs: 5_000,
    onIdleError: () => {},
  })
  const bus = await createPostgresBus({
    url,
    pool,
    serverId: newId(),
    clock: systemClock,
    log: createLog('silent'),
  })
  stops.push(async () => {
    await bus.stop()
    await pool.end()
  })
  return bus
}

function listen(bus: Bus): BusMessage[] {
  const heard: BusMessage[] = []
  bus.subscribe((message) => heard.push(message))
  return heard
}

const adapters: [string, () => Promise<Bus>][] = [
  ['local', async () => createLocalBus()],
  ['postgres', () => postgresBus()],
]

describe.each(adapters)('a %s bus', (_name, create) => {
  it('delivers to its own server before publishing is done, once, in order and to every handler', async () => {
    const bus = await create()
    const [first, second] = [listen(bus), listen(bus)]
    const messages: BusMessage[] = [
      { type: 'robots_revoked', robot_ids: [newId()] },
      { type: 'fleet_changed', fleet_id: newId() },
      { type: 'sessions_opened', sessions: [{ robot_id: newId(), session_no: 3 }] },
    ]
    for (const message of messages) {
      await bus.publish(message)
      expect(first.at(-1)).toEqual(message)
    }
    expect(first).toEqual(messages)
    expect(second).toEqual(messages)
  })
})

describe('servers on a postgres bus', () => {
  it('hear each other, also of more robots than fit into one message', async () => {
    const [here, there] = [await postgresBus(), await postgresBus()]
    const [heardHere, heardThere] = [listen(here), listen(there)]
    const robotIds = Array.from({ length: 500 }, () => newId())
    await here.publish({ type: 'robots_revoked', robot_ids: robotIds })
    const ids = () =>
      heardThere.flatMap((message) => (message.type === 'robots_revoked' ? message.robot_ids : []))
    await eventually(() => ids().length >= 500)
    expect(ids()).toEqual(robotIds)
    expect(heardHere).toHaveLength(1)
  })

  it('understand every kind of message', async () => {
    const [here, there] = [await postgresBus(), await postgresBus()]
    const heard = listen(there)
    const messages: { [Type in BusMessage['type']]: Extract<BusMessage, { type: Type }> } = {
      robots_revoked: { type: 'robots_revoked', robot_ids: [newId()] },
      robots_denied: { type: 'robots_denied', robot_ids: [newId()] },
      robots_retired: { type: 'robots_retired', robot_ids: [newId()] },
      robots_changed: { type: 'robots_changed', robot_ids: [newId()] },
      access_changed: { type: 'access_changed' },
      fleet_changed: { type: 'fleet_changed', fleet_id: newId() },
      sessions_opened: { type: 'sessions_opened', sessions: [{ robot_id: newId(), session_no: 1 }] },
    }
    for (const message of Object.values(messages)) await here.publish(message)
    await eventually(() => heard.length === Object.keys(messages).length)
    expect(heard).toEqual(Object.values(messages))
  })

  it('survive what is not a message', async () => {
    const [here, there] = [await postgresBus(), await postgresBus()]
    const heard = listen(there)
    for (const payload of [
      '',
      '{',
      '{"from":"x"}',
      '{"from":"x","message":{"type":"robots_revoked","robot_ids":["x"]}}',
    ])
      await db.pool.query("SELECT pg_notify('beacon', $1)", [payload])
    await here.publish({ type: 'fleet_changed', fleet_id: newId() })
    await eventually(() => heard.length > 0)
    expect(heard).toHaveLength(1)
  })

  it('say so when messages may have been lost, once they hear again', async () => {
    const proxy = await startDatabaseProxy(db.url)
    stops.push(() => proxy.stop())
    const bus = await postgresBus(proxy.url)
    const heard = listen(bus)
    let gaps = 0
    bus.onGap(() => {
      gaps += 1
    })
    proxy.cut()
    await expect(bus.publish({ type: 'fleet_changed', fleet_id: newId() })).rejects.toThrow()
    // Its own server was told all the same.
    expect(heard).toHaveLength(1)
    proxy.restore()
    await eventually(() => gaps === 1)
    const other = await postgresBus()
    await other.publish({ type: 'fleet_changed', fleet_id: newId() })
    await eventually(() => heard.length === 2)
  })

  it('ends while the database says nothing', async () => {
    const proxy = await startDatabaseProxy(db.url)
    stops.push(() => proxy.stop())
    const pool = openPool({
      url: proxy.url,
      name: 'bus test',
      maxConnections: 1,
      statementTimeoutMs: 5_000,
      onIdleError: () => {},
    })
    stops.push(() => pool.end())
    const clock = new ManualClock()
    const log = createLog('silent')
    const bus = await createPostgresBus({ url: proxy.url, pool, serverId: newId(), clock, log })
    proxy.fallSilent()
    const stopped = bus.stop()
    await clock.pass(2_100, 100)
    await stopped
    expect(clock.pending).toBe(0)
  })
})
