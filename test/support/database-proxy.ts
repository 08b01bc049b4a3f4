import { connect } from 'node:net'
import { join } from 'node:path'
import { startRelay } from './relay.ts'

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
  let mode: 'open' | 'cut' | 'swallow' | 'silent' | 'hold' = 'open'
  let held: (() => void)[] = []

  const relay = await startRelay({
    reach: () =>
      socketFolder === null
        ? connect(Number(target.port || 5432), target.hostname)
        : connect(join(socketFolder, '.s.PGSQL.5432')),
    takes(client) {
      if (mode === 'cut') client.destroy()
      return mode !== 'cut'
    },
    opened({ client, upstream }) {
      if (mode !== 'silent') return
      client.pause()
      upstream.pause()
    },
    fromClient: ({ upstream }, chunk) => upstream.write(chunk),
    fromUpstream(connection, chunk) {
      const { client } = connection
      if (mode === 'swallow') connection.end()
      else if (mode === 'hold') held.push(() => client.writable && client.write(chunk))
      else client.write(chunk)
    },
  })
  return {
    url: `postgresql://${target.username}:${target.password}@127.0.0.1:${relay.port}${target.pathname}`,
    get connections() {
      return relay.connections.size
    },
    cut() {
      mode = 'cut'
      for (const connection of relay.connections) connection.end()
    },
    restore() {
      mode = 'open'
      for (const { client, upstream } of relay.connections) {
        client.resume()
        upstream.resume()
      }
      for (const pass of held) pass()
      held = []
    },
    fallSilent() {
      mode = 'silent'
      for (const { client, upstream } of relay.connections) {
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
    stop: () => relay.stop(),
  }
}
