import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/runtime.ts'
import { chooseEngine } from '../../src/transport/engines.ts'
import type { Engine, GatewayListener, ListenOptions } from '../../src/transport/transport.ts'
import { attachWsTransport, wsEngine } from '../../src/transport/ws.ts'

/** Something that takes robots on a real port. */
export interface RealEngine {
  readonly name: string
  /** It cannot stop reading, and holds what comes while paused. */
  readonly holdsInMemory: boolean
  listen(options?: Partial<ListenOptions>): Promise<{ readonly port: number; stop(): Promise<void> }>
}

/** One that has its port to itself. */
export interface ListeningEngine extends RealEngine {
  listen(options?: Partial<ListenOptions>): Promise<GatewayListener>
}

const DEFAULTS: ListenOptions = {
  host: '127.0.0.1',
  port: 0,
  shared: false,
  path: '/agent/ws',
  tls: undefined,
  trustedProxies: [],
  headers: () => ({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }),
  notReadyFor: () => [],
  admit: async () => {
    throw new Error('nobody was meant to ask')
  },
  clock: systemClock,
  log: createLog('silent'),
}

function listening(engine: Engine): ListeningEngine {
  return {
    name: engine.name,
    holdsInMemory: engine.name === 'uws',
    listen: (options) => engine.listen({ ...DEFAULTS, ...options }),
  }
}

/** The ws engine on somebody else's HTTP server, as it stands on the REST edge. */
const attached: RealEngine = {
  name: 'ws on an HTTP server',
  holdsInMemory: false,
  async listen(options) {
    const server = createServer((_request, response) => response.end('plain'))
    const detach = attachWsTransport({ ...DEFAULTS, ...options, server })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const sockets = new Set<{ destroy(): void }>()
    server.on('connection', (socket) => sockets.add(socket))
    return {
      port: (server.address() as AddressInfo).port,
      stop: async () => {
        detach()
        const closed = new Promise((resolve) => server.close(resolve))
        for (const socket of sockets) socket.destroy()
        await closed
      },
    }
  },
}

const uws = await chooseEngine('uws').catch((error: Error) => error)

if (uws instanceof Error) {
  // Installing brings the build for the Node that installs, where there is one.
  if (process.env.CI && /^v(20|22)\./.test(process.version)) throw uws
  process.stdout.write(`the uws engine is not tested on Node ${process.version}: ${uws.message}\n`)
}

/** Engines with a port of their own. The uws engine is left out where it does not load, and that is said. */
export const LISTENING: readonly ListeningEngine[] = [
  listening(wsEngine),
  ...(uws instanceof Error ? [] : [listening(uws.engine)]),
]

export const ALL: readonly RealEngine[] = [attached, ...LISTENING]
