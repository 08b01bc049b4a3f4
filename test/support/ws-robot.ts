import { WebSocket } from 'ws'
import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import { type ConnectOptions, type RobotEnd, UpgradeRefused } from './memory-transport.ts'

/** Connects a robot's end over a real socket; rejects with UpgradeRefused when it is not let in. */
export function connectWebSocket(url: string, options: ConnectOptions = {}): Promise<RobotEnd> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, [...(options.subprotocols ?? [SUBPROTOCOL])], {
      headers: options.authorization === undefined ? {} : { authorization: options.authorization },
      perMessageDeflate: false,
    })
    const frames: string[] = []
    const closed = new Promise<{ code: number; reason: string }>((resolveClosed) => {
      socket.on('close', (code, reason) => resolveClosed({ code, reason: reason.toString() }))
    })
    socket.on('message', (data) => frames.push(data.toString()))
    socket.on('error', reject)
    socket.on('unexpected-response', (_request, response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        body += chunk
      })
      response.on('end', () => {
        const { code } = JSON.parse(body) as { code: string }
        reject(new UpgradeRefused(response.statusCode ?? 0, code, response.headers['retry-after']))
      })
    })
    socket.on('open', () =>
      resolve({
        frames,
        closed,
        send: (text) => socket.send(text),
        sendBinary: (bytes) => socket.send(bytes),
        close: (code, reason) => socket.close(code, reason),
        vanish: () => socket.terminate(),
      }),
    )
  })
}
