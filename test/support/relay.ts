import { type AddressInfo, createServer, type Socket } from 'node:net'

/** A connection that goes through a relay, by its two halves. */
export interface Relayed {
  readonly client: Socket
  readonly upstream: Socket
  /** Drops both halves. */
  end(): void
}

export interface RelayRules {
  /** Dials where connections go on to. */
  reach(): Socket
  /** False: this connection is not passed on, and the rules have done with it what they want. */
  takes?(client: Socket): boolean
  opened?(connection: Relayed): void
  fromClient(connection: Relayed, chunk: Buffer): void
  fromUpstream(connection: Relayed, chunk: Buffer): void
  /** One of its halves is gone; unless told otherwise the other goes, too. */
  gone?(connection: Relayed, half: 'client' | 'upstream'): void
}

export interface Relay {
  readonly port: number
  readonly connections: ReadonlySet<Relayed>
  stop(): Promise<void>
}

/** Listens on a port of its own and stands between whoever connects there and somebody else, as the rules say. */
export async function startRelay(rules: RelayRules): Promise<Relay> {
  const connections = new Set<Relayed>()
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    keep(client)
    if (rules.takes?.(client) === false) return
    const upstream = rules.reach()
    keep(upstream)
    const connection: Relayed = {
      client,
      upstream,
      end() {
        client.destroy()
        upstream.destroy()
      },
    }
    connections.add(connection)
    for (const half of ['client', 'upstream'] as const)
      connection[half].on('close', () => {
        if (!rules.gone || (client.destroyed && upstream.destroyed)) connections.delete(connection)
        if (rules.gone) rules.gone(connection, half)
        else connection.end()
      })
    client.on('data', (chunk: Buffer) => rules.fromClient(connection, chunk))
    upstream.on('data', (chunk: Buffer) => rules.fromUpstream(connection, chunk))
    rules.opened?.(connection)
  })
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    connections,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
