import { connect, createServer, type Socket } from 'node:net'

/** Stands between a robot and the server, hears what the robot says, and can keep the answers back. */
export interface WireTap {
  readonly url: string
  /** What robots sent since it was cleared last, as Latin-1. */
  readonly heard: string
  /** How many pieces of it arrived. */
  readonly pieces: number
  clear(): void
  holdAnswers(hold: boolean): void
  stop(): Promise<void>
}

export async function startWireTap(serverUrl: string): Promise<WireTap> {
  const { hostname, port } = new URL(serverUrl)
  const sockets = new Set<Socket>()
  let heard = ''
  let pieces = 0
  let holding = false
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    const end = () => {
      client.destroy()
      upstream.destroy()
      sockets.delete(client)
      sockets.delete(upstream)
    }
    client.on('data', (chunk) => {
      heard += chunk.toString('latin1')
      pieces += 1
      upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      if (!holding) client.write(chunk)
    })
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', end)
      socket.on('close', end)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${address.port}`,
    get heard() {
      return heard
    },
    get pieces() {
      return pieces
    },
    clear() {
      heard = ''
      pieces = 0
    },
    holdAnswers(hold) {
      holding = hold
    },
    async stop() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
