import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'

export interface DatabaseProxy {
  /** The database's address by way of the proxy. */
  readonly url: string
  /** How many connections stand. */
  readonly connections: number
  /** Cuts every connection and takes no new one: the database is away. */
  cut(): void
  restore(): void
  /**
   * Passes statements on, but cuts each connection before the answer of its next statement: whether that took effect
   * is not to be known.
   */
  swallowAnswers(): void
  /**
   * Keeps every connection and lets nothing through, not even its end, as a stopped database or a broken network does.
   * What was sent meanwhile arrives after `restore`.
   */
  fallSilent(): void
  /** Passes statements on, and keeps their answers until `restore`. */
  holdAnswers(): void
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
  let mode: 'open' | 'cut' | 'swallow' | 'silent' | 'hold' = 'open'
  let held: (() => void)[] = []

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
    client.on('data', (chunk) => upstream.write(chunk))
    upstream.on('data', (chunk) => {
      if (mode === 'swallow') end()
      else if (mode === 'hold') held.push(() => client.writable && client.write(chunk))
      else client.write(chunk)
    })
    for (const socket of [client, upstream]) {
      socket.on('error', end)
      socket.on('close', end)
      if (mode === 'silent') socket.pause()
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
    get connections() {
      return pairs.size
    },
    cut() {
      mode = 'cut'
      cutAll()
    },
    restore() {
      mode = 'open'
      for (const { client, upstream } of pairs) {
        client.resume()
        upstream.resume()
      }
      for (const pass of held) pass()
      held = []
    },
    fallSilent() {
      mode = 'silent'
      for (const { client, upstream } of pairs) {
        client.pause()
        upstream.pause()
      }
    },
    holdAnswers() {
      mode = 'hold'
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
