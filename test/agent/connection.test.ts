import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { Connection } from '../../agent/connection.ts'
import type { Log } from '../../agent/log.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { ArraySpool } from './support/array-spool.ts'
import { startControlPlane } from './support/control-plane.ts'
import { plainNetwork } from './support/network.ts'

const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} }

function connectTo(url: string) {
  const clock = new ManualClock()
  const spool = new ArraySpool()
  const connection = new Connection({
    clock,
    log: silentLog,
    network: plainNetwork(clock),
    spool,
    url,
    token: 'rf_robot_test',
    hello: () => ({ type: 'hello', protocol: 1, agent: {} }),
    ownIntervalMs: undefined,
    listener: {
      welcomed() {},
      intervalChanged() {},
      tokenWanted() {},
      tokenStored() {},
      acknowledged: (from, to) => spool.acknowledge(from, to),
      eventsAcknowledged() {},
    },
  })
  onTestFinished(() => connection.leave())
  const beat = (seq: number) => {
    spool.add({ seq, text: JSON.stringify({ type: 'heartbeat', seq, at: '2026-01-01T00:00:00Z' }) })
    connection.beat(seq)
  }
  return { clock, spool, connection, beat }
}

test('a connection whose other end froze is dropped after three intervals and five seconds', async () => {
  const server = await startControlPlane()
  server.heartbeatIntervalMs = 10_000
  const { clock, connection, beat } = connectTo(`ws://127.0.0.1:${server.port}/agent/ws`)
  await eventually(() => connection.session?.phase === 'open', 'a welcome')
  const session = server.sessions.all[0]!
  session.freeze()
  beat(1)
  clock.advance(34_999)
  expect(connection.session?.phase).toBe('open')
  clock.advance(1)
  expect(await connection.ended).toMatchObject({
    kind: 'closed',
    code: 1006,
    reason: 'the server fell silent',
  })
})

test('an acknowledged heartbeat leaves the spool, another stays', async () => {
  const server = await startControlPlane()
  server.isAcknowledging = false
  const { connection, spool, beat } = connectTo(`ws://127.0.0.1:${server.port}/agent/ws`)
  const session = await server.sessions.next()
  beat(1)
  beat(2)
  await session.heartbeats.first(2)
  session.send({ type: 'ack', seq: 1 })
  await eventually(() => spool.size === 1, 'the acknowledgement')
  session.vanish()
  expect(await connection.ended).toMatchObject({ kind: 'closed', code: 1006 })
  expect(spool.oldestSeq).toBe(2)
})

test('addresses that lead nowhere end as unreachable', async () => {
  for (const url of ['ws://127.0.0.1:1/agent/ws', 'ws://beacon.invalid/agent/ws', 'no address', 'ftp://x/'])
    expect(await connectTo(url).connection.ended).toMatchObject({ kind: 'unreachable' })
})

test('somebody who takes connections and never answers is given up after 15 s', async () => {
  const silent = createServer(() => {})
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  onTestFinished(() => void silent.close())
  const { clock, connection } = connectTo(`ws://127.0.0.1:${(silent.address() as AddressInfo).port}/agent/ws`)
  const [socket] = (await once(silent, 'connection')) as [Socket]
  // It asks, and so the time for its answer has begun.
  await once(socket, 'data')
  let isOver = false
  const ending = connection.ended.finally(() => {
    isOver = true
  })
  await clock.pass(14_999)
  expect(isOver).toBe(false)
  await clock.pass(1)
  expect(await ending).toEqual({ kind: 'unreachable', why: 'no answer in time' })
})

test('an answer that never ends is not waited for', async () => {
  const server = await startControlPlane()
  server.onUpgrade = () => ({
    status: 503,
    headers: { 'retry-after': '7', 'content-length': '10' },
    text: '',
  })
  const { clock, connection } = connectTo(`ws://127.0.0.1:${server.port}/agent/ws`)
  await server.upgrades.next()
  let isOver = false
  const ending = connection.ended.finally(() => {
    isOver = true
  })
  await eventually(async () => {
    await clock.pass(1_000)
    return isOver
  }, 'an end')
  expect(await ending).toMatchObject({ kind: 'refused', status: 503, notBeforeMs: 7_000 })
})
