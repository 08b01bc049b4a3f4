import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server } from 'socket.io'
import { MAX_FRAME_BYTES } from '../../src/protocol/limits.ts'

// Bare socket.io over WebSocket alone: one token for all, and an acknowledgement for each event. Says its port.

const token = process.argv[2]
const http = createServer()
const io = new Server(http, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
  maxHttpBufferSize: MAX_FRAME_BYTES,
  // Idle is idle, as with the others.
  pingInterval: 3_600_000,
})
io.use((socket, next) => {
  next(socket.handshake.auth.token === token ? undefined : new Error('unauthorized'))
})
io.on('connection', (socket) => {
  socket.on('heartbeat', (_body: unknown, acknowledge: () => void) => acknowledge())
})
http.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  process.stdout.write(
    `listening on port ${(http.address() as AddressInfo).port} as process ${process.pid}\n`,
  )
})
