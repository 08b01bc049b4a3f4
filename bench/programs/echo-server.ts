import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import { answerQuestions } from '../support/answering.ts'

// The baseline of everything that robots do: the bare ws engine, sending each message back. Answers any question with
// its port.

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  backlog: 4096,
  clientTracking: false,
  perMessageDeflate: false,
})
const listening = new Promise((resolve) => server.once('listening', resolve))
server.on('connection', (socket, request) => {
  request.socket.setNoDelay(true)
  socket.on('message', (data, binary) => socket.send(data, { binary }))
  socket.on('error', () => {})
})

answerQuestions(async () => {
  await listening
  return (server.address() as AddressInfo).port
})
