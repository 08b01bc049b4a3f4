import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import { MAX_FRAME_BYTES } from '../../src/protocol/limits.ts'

// The baseline of everything that robots do: a bare engine that sends each message back, set as a careful user would.
// Says its port when it listens.

const HOST = '127.0.0.1'
/** LIBUS_LISTEN_EXCLUSIVE_PORT, which the engine's types hide in an enumeration that is not there at run time. */
const EXCLUSIVE_PORT = 1

/** As the engine takes it; its types know no host together with options. */
type ListenHere = (host: string, port: number, options: number, then: (socket: unknown) => void) => void

async function listenWithWs(): Promise<number> {
  const server = new WebSocketServer({
    host: HOST,
    port: 0,
    backlog: 4096,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
  })
  server.on('connection', (socket, request) => {
    request.socket.setNoDelay(true)
    socket.on('message', (data, binary) => socket.send(data, { binary }))
    socket.on('error', () => {})
  })
  await new Promise((resolve) => server.once('listening', resolve))
  return (server.address() as AddressInfo).port
}

async function listenWithUws(): Promise<number> {
  const { default: uws } = await import('@uwsjs/core')
  const app = uws.App().ws('/*', {
    compression: uws.DISABLED,
    maxPayloadLength: MAX_FRAME_BYTES,
    maxBackpressure: 64 * 1024,
    // Like ws: what says nothing stays, and is not asked.
    idleTimeout: 0,
    sendPingsAutomatically: false,
    message: (socket, message, binary) => {
      socket.send(message, binary)
    },
  })
  return new Promise((resolve, reject) => {
    ;(app.listen as unknown as ListenHere).call(app, HOST, 0, EXCLUSIVE_PORT, (listening) => {
      if (listening)
        resolve(uws.us_socket_local_port(listening as Parameters<typeof uws.us_socket_local_port>[0]))
      else reject(new Error('uWebSockets.js cannot listen'))
    })
  })
}

const port = await (process.argv[2] === 'uws' ? listenWithUws() : listenWithWs())
process.stdout.write(`listening on port ${port}\n`)
