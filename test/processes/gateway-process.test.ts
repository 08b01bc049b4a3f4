import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { type GatewayProcess, startGatewayProcess } from '../../src/processes/gateway-process.ts'
import type { GatewaySettings } from '../../src/processes/messages.ts'
import { reservePort } from '../../src/processes/port.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

async function settingsFor(engine: 'ws' | 'uws', databaseUrl: string): Promise<GatewaySettings> {
  const host = '127.0.0.1'
  const { port, release } = await reservePort({
    host,
    port: 0,
    clock: systemClock,
    log: createLog('silent'),
  })
  await release()
  return {
    name: 'gateway-1',
    serverId: newId(),
    databaseUrl,
    engine,
    host,
    port,
    path: '/agent/ws',
    tls: undefined,
    publicUrl: undefined,
    trustedProxies: [],
    logLevel: 'silent',
    heartbeatIntervalMs: 10_000,
    clonePolicy: 'alert',
    heartbeatLingerMs: 5,
    sessionsPerSecond: 0,
    returnsPerSecond: 0,
    reconnectSpreadMs: undefined,
    expectedRobots: 0,
    goneServers: [],
  }
}

/** Moves time until the process has stopped, and answers with how far. */
async function stop(process_: GatewayProcess, clock: ManualClock): Promise<number> {
  const from = clock.monotonic()
  let stopped = false
  void process_.stop().then(() => {
    stopped = true
  })
  await eventually(() => {
    if (!stopped) clock.advance(20)
    return stopped
  }, 'its end')
  return clock.monotonic() - from
}

describe.each(['ws', 'uws'] as const)('a gateway process, %s', (engine) => {
  it('tells whoever sends it robots when PostgreSQL cannot be reached, and when it can again', async () => {
    const proxy = await startDatabaseProxy(db.url)
    const clock = new ManualClock(Date.now())
    const settings = await settingsFor(engine, proxy.url)
    const process_ = await startGatewayProcess(settings, { clock, random: systemRandom, tell() {} })
    const ask = async () => {
      const response = await fetch(`http://127.0.0.1:${settings.port}/readyz`)
      return [response.status, await response.json()]
    }
    expect(await ask()).toEqual([200, { ready: true, reasons: [] }])
    proxy.cut()
    clock.advance(5_000)
    const away = { ready: false, reasons: ['database_unavailable'] }
    await eventually(async () => (await ask())[0] === 503, 'the failed beat')
    expect(await ask()).toEqual([503, away])
    proxy.restore()
    clock.advance(5_000)
    await eventually(async () => (await ask())[0] === 200, 'the next beat')
    await stop(process_, clock)
    await proxy.stop()
  })

  it('ends within its time while PostgreSQL says nothing, with nothing left behind', async () => {
    const proxy = await startDatabaseProxy(db.url)
    const clock = new ManualClock(Date.now())
    const settings = await settingsFor(engine, proxy.url)
    const process_ = await startGatewayProcess(settings, { clock, random: systemRandom, tell() {} })
    proxy.fallSilent()
    clock.advance(5_000)
    expect(await stop(process_, clock)).toBeLessThan(15_000)
    expect(clock.pending).toBe(0)
    proxy.restore()
    await eventually(() => proxy.connections === 0, 'its connections to go')
    await proxy.stop()
  })
})
