import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/runtime.ts'
import { chooseEngine } from '../../src/transport/engines.ts'
import { attachWsTransport, wsEngine } from '../../src/transport/ws.ts'
import { connectInMemory, type RobotEnd } from '../support/memory-transport.ts'
import { connectWebSocket } from '../support/ws-robot.ts'
import { itIsATransport } from './conformance.ts'

itIsATransport('in-memory', async (admit) => ({
  connect: (options) => connectInMemory(admit, options),
  stop: () => Promise.resolve(),
}))

itIsATransport('ws', async (admit) => {
  const server = createServer()
  const detach = attachWsTransport({
    server,
    path: '/agent/ws',
    trustedProxies: [],
    headers: () => ({}),
    admit,
    log: createLog('silent'),
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const robots: RobotEnd[] = []
  return {
    async connect(options) {
      const robot = await connectWebSocket(`ws://127.0.0.1:${port}/agent/ws`, options)
      robots.push(robot)
      return robot
    },
    async stop() {
      detach()
      for (const robot of robots) robot.vanish()
      await new Promise((resolve) => server.close(resolve))
    },
  }
})

const uws = await chooseEngine('uws').catch(() => undefined)
for (const engine of [wsEngine, ...(uws ? [uws.engine] : [])])
  itIsATransport(`${engine.name}, listening by itself,`, async (admit) => {
    const listener = await engine.listen({
      host: '127.0.0.1',
      port: 0,
      shared: false,
      path: '/agent/ws',
      tls: undefined,
      trustedProxies: [],
      headers: () => ({}),
      notReadyFor: () => [],
      admit,
      clock: systemClock,
      log: createLog('silent'),
    })
    return {
      connect: (options) => connectWebSocket(`ws://127.0.0.1:${listener.port}/agent/ws`, options),
      stop: () => listener.stop(),
    }
  })
