import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { TemplatedApp, us_listen_socket } from '@uwsjs/core'
import type { Engine, GatewayListener, ListenOptions } from './transport.ts'
import { takeRequests } from './uws-http.ts'
import { type Carried, SOCKETS } from './uws-socket.ts'

/** The package, whoever ships it. */
export type Uws = typeof import('@uwsjs/core')

/** Carries robot sessions on uWebSockets.js, on a port of its own. `build` names the package. */
export function createUwsEngine(uws: Uws, build: string): Engine {
  return { name: 'uws', build, listen: (options) => listen(uws, options) }
}

async function listen(uws: Uws, options: ListenOptions): Promise<GatewayListener> {
  const { tls } = options
  const app = tls ? uws.SSLApp({ cert_file_name: tls.certFile, key_file_name: tls.keyFile }) : uws.App()
  const take = takeRequests(options)
  app.ws<Carried>('/*', { ...SOCKETS, upgrade: take })
  app.any('/*', (response, request) => take(response, request))
  // As node:net does; the engine would ask for IPv6 first.
  const { address } = await lookup(options.host)
  let token = await bind(app, address, options)
  if (!token) {
    app.close()
    throw await reasonNotToListen(address, options.port)
  }
  const port = uws.us_socket_local_port(token)
  let stopped = false
  return {
    port,
    pause() {
      if (token && !stopped) uws.us_listen_socket_close(token)
      token = false
    },
    async resume() {
      if (token || stopped) return
      token = await bind(app, address, { ...options, port })
      if (!token) throw await reasonNotToListen(address, port)
    },
    stop: async () => {
      stopped = true
      app.close()
    },
  }
}

/** LIBUS_LISTEN_EXCLUSIVE_PORT, which the engine's types put where its code does not. Otherwise it sets SO_REUSEPORT. */
const EXCLUSIVE_PORT = 1

/** The overload that takes everything is missing in the engine's types. */
type Bind = (
  host: string,
  port: number,
  options: number,
  told: (token: us_listen_socket | false) => void,
) => void

function bind(
  app: TemplatedApp,
  host: string,
  { port, shared }: ListenOptions,
): Promise<us_listen_socket | false> {
  return new Promise((resolve) => {
    ;(app.listen as unknown as Bind).call(app, host, port, shared ? 0 : EXCLUSIVE_PORT, resolve)
  })
}

/** The engine does not say why it cannot listen. */
async function reasonNotToListen(host: string, port: number): Promise<Error> {
  const probe = createServer()
  try {
    await once(probe.listen({ host, port, exclusive: true }), 'listening')
    probe.close()
    return Object.assign(new Error(`listen EADDRINUSE: address already in use ${host}:${port}`), {
      code: 'EADDRINUSE',
    })
  } catch (error) {
    return error as Error
  }
}
