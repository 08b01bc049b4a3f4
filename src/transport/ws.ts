import cluster from 'node:cluster'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer, type ServerOptions as HttpOptions, type Server } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import { createRequire } from 'node:module'
import {
  type AddressInfo,
  type ListenOptions as BindOptions,
  Server as NetServer,
  type Socket,
} from 'node:net'
import { readCertificate, renewCertificate } from '../tls.ts'
import { isWebSocketUpgrade } from './handshake.ts'
import type { Engine, GatewayListener, ListenOptions } from './transport.ts'
import { answer, refuseGarbage, takeUpgrades, type WsTransportOptions } from './ws-http.ts'

export { isWebSocketUpgrade }

/** Carries robot sessions on the `ws` engine. Answers with a function that stops taking upgrades. */
export function attachWsTransport(options: WsTransportOptions): () => void {
  return takeUpgrades(options)
}

const { version } = createRequire(import.meta.url)('ws/package.json') as { version: string }

export const wsEngine: Engine = { name: 'ws', build: `ws ${version}`, listen }

/** How long a peer may take for its TLS handshake, and for its request's headers. */
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
/** How late those may strike. */
const TIMEOUT_CHECK_MS = 2_000
/** Connections that wait to be taken when all robots return at once. The kernel has a bound of its own, too. */
const BACKLOG = 4096

async function listen(options: ListenOptions): Promise<GatewayListener> {
  const { clock, log, tls } = options
  const connections = new Set<Socket>()
  const http: HttpOptions & { shouldUpgradeCallback: typeof isWebSocketUpgrade } = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // From Node 22.21 on.
    shouldUpgradeCallback: isWebSocketUpgrade,
  }
  const server: Server = tls
    ? createTlsServer({
        ...http,
        ...readCertificate(tls),
        handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
      })
    : createServer(http)
  server.on('request', (request, response) => answer(request, response, options))
  server.on('clientError', (error, stream) => refuseGarbage(error, stream as Socket, options))
  // All of them: the server itself forgets those that upgrade, and does not know those still in their TLS handshake.
  server.on('connection', (connection: Socket) => {
    connections.add(connection)
    connection.on('close', forget)
  })
  function forget(this: Socket): void {
    connections.delete(this)
  }
  const detach = takeUpgrades({ ...options, server })
  const { address } = await lookup(options.host)
  server.listen(bindOptions(address, options))
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  let stopped = false
  const endRenewal = tls
    ? renewCertificate({
        server: server as TlsServer,
        tls,
        clock,
        onRenewed: () => log.info('robots are shown the new certificate'),
        onError: (error) => log.error({ err: error }, 'the certificate could not be renewed'),
      })
    : () => {}
  return {
    port,
    pause() {
      // Not as an HTTP server closes: that would drop idle connections, and look for slow requests no more.
      NetServer.prototype.close.call(server)
    },
    async resume() {
      if (server.listening || stopped) return
      server.listen(bindOptions(address, { ...options, port }))
      await once(server, 'listening')
    },
    stop: async () => {
      stopped = true
      endRenewal()
      // Gives the port back at once.
      server.close()
      detach()
      for (const connection of connections) connection.destroy()
    },
  }
}

/** Within a cluster its primary shares the socket; elsewhere the kernel shares the port, where Node can ask it to (22.12 on). */
function bindOptions(host: string, { port, shared }: ListenOptions): BindOptions & { reusePort: boolean } {
  return {
    host,
    port,
    backlog: BACKLOG,
    exclusive: !shared,
    reusePort: shared && !cluster.isWorker,
  }
}
