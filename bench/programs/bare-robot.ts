import { createRequire } from 'node:module'
import type * as Ws from 'ws'

// The least that could stand in for the agent: Node with one connection, over which it sends the same bytes as often.
// Arguments: the server's address, the interval in milliseconds, and the text of a heartbeat.

const require = createRequire(import.meta.url)
const WebSocket = require('ws') as typeof Ws.WebSocket
const [url, intervalMs, text] = process.argv.slice(2)
const socket = new WebSocket(url!, { perMessageDeflate: false })
socket.on('open', () => {
  setInterval(() => socket.send(text!), Number(intervalMs))
  process.stdout.write('connected\n')
})
socket.on('message', (data) => void JSON.parse(data.toString()))
socket.on('close', () => process.exit())
socket.on('error', () => process.exit(1))
