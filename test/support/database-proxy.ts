import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'

export interface DatabaseProxy {
  /** The database's address by way of the proxy. */
  readonly url: string
  /** Cuts every connection and takes no new one: the database is away. */
  cut(): void
  restore(): void
  /**
   * Passes statements on, but cuts each connection before the answer of its next statement: whether that took effect
   * is not to be known.
   */
  swallowAnswers(): void
  /** Keeps every connection and lets nothing through, as a stopped database or a broken network does. */
  fallSilent(): void
  stop(): Promise<void>
}

/** Stands between a server and PostgreSQL. */
export async function startDatabaseProxy(databaseUrl: string): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl.replace('@/', '@socket/'))
  const socketFolder = target.searchParams.get('host')
  const reach = () =>
    socketFolder === null
      ? connect(Number(target.port || 5432), target.hostname)
      : connect(join(socketFolder, '.s.PGSQL.5432'))
  const pairs = new Set<{ client: Socket; upstream: Socket }>()
  let mode: 'open' | 'cut' | 'swallow' | 'silent' = 'open'

  const server = createServer((client) => {
    if (mode === 'cut') {
      client.destroy()
      return
    }
    const upstream = reach()
    const pair = { client, upstream }
    pairs.add(pair)
    const end = () => {
      pairs.delete(pair)
      client.destroy()
      upstream.destroy()
    }
    client.on('data', (chunk) => {
      if (mode !== 'silent') upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      if (mode === 'swallow') end()
      else if (mode !== 'silent') client.write(chunk)
    })
    for (const socket of [client, upstream]) {
      socket.on('error', end)
      socket.on('close', end)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const cutAll = () => {
    for (const { client, upstream } of pairs) {
      client.destroy()
      upstream.destroy()
    }
  }
  return {
    url: `postgresql://${target.username}:${target.password}@127.0.0.1:${port}${target.pathname}`,
    cut() {
      mode = 'cut'
      cutAll()
    },
    restore() {
      mode = 'open'
    },
    fallSilent() {
      mode = 'silent'
    },
    swallowAnswers() {
      mode = 'swallow'
    },
    async stop() {
      cutAll()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
