import type { Socket } from 'node:net'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { Clock } from '../runtime.ts'
import { PreparingClient } from './prepared-statements.ts'
import type { Tables } from './tables.ts'

/** A pool of connections, or one transaction: what every statement in this folder takes. */
export type Database = Kysely<Tables>

export interface PoolOptions {
  readonly url: string
  /** Shown in pg_stat_activity. */
  readonly name: string
  readonly maxConnections: number
  /** PostgreSQL gives up on a statement after this long. */
  readonly statementTimeoutMs: number
  /** A connection that owes an answer and is silent for this long is dropped: longer than the statement's own limit. */
  readonly silenceTimeoutMs?: number
  /**
   * How long a transaction may stand open with nothing to do. Whoever adds to the audit log holds the end of it until the
   * commit: a process that is frozen there must not hold up all others.
   */
  readonly idleInTransactionMs?: number
  /**
   * One plan for whatever a statement is given, prepared or not. For few statements that are asked all the time and were
   * written for it: those of lists would be planned without knowing how many rows are wanted, or how rare they are.
   */
  readonly onePlanEach?: boolean
  /**
   * Connections stay when there is nothing to do: where a storm may leave no descriptor, and no time, for new ones.
   */
  readonly keepsIdle?: boolean
  readonly onIdleError: (error: Error) => void
}

/** No part of ours waits for anything but the database while it holds a transaction. */
const IDLE_IN_TRANSACTION_MS = 15_000

const BIGINT = 20
const types = new pg.TypeOverrides()
types.setTypeParser(BIGINT, Number)

/**
 * Opens a pool; nothing connects before the first statement. A connection that cannot be had within two seconds is
 * an error, so that callers can answer "database unavailable" instead of queueing for ever.
 */
export function openPool(options: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: options.url,
    application_name: options.name,
    max: options.maxConnections,
    connectionTimeoutMillis: 2_000,
    idleTimeoutMillis: options.keepsIdle ? 0 : 30_000,
    statement_timeout: options.statementTimeoutMs,
    idle_in_transaction_session_timeout: options.idleInTransactionMs ?? IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
    types,
    Client: PreparingClient,
    ...(options.onePlanEach ? { options: '-c plan_cache_mode=force_generic_plan' } : {}),
  })
  pool.on('error', options.onIdleError)
  // A connection that breaks while a transaction has it says so twice: to the statement, which is where it is handled,
  // and as an event that would end the process if nobody listened.
  pool.on('connect', (client) => void client.on('error', () => {}))
  const standing = new Set<Socket>()
  pool.on('connect', (client) => {
    const stream = streamOf(client)
    standing.add(stream)
    stream.once('close', () => standing.delete(stream))
  })
  streams.set(pool, standing)
  if (options.silenceTimeoutMs !== undefined) dropSilentConnections(pool, options.silenceTimeoutMs)
  return pool
}

/** Of each pool, what its connections run over. */
const streams = new WeakMap<pg.Pool, Set<Socket>>()

/** How long a connection may take to be gone. To a database that says nothing it would stand for a quarter of an hour. */
const DISCONNECT_WITHIN_MS = 2_000

/** Ends a pool of `openPool`, and resolves when its connections are gone. What one was asked that is dropped for it fails. */
export function closePool(pool: pg.Pool, clock: Pick<Clock, 'after'>): Promise<void> {
  return endInTime(() => pool.end(), streams.get(pool) ?? [], clock)
}

/** Ends a connection that is no pool's, and resolves when it is gone. */
export function disconnect(client: pg.Client, clock: Pick<Clock, 'after'>): Promise<void> {
  return endInTime(() => client.end(), [streamOf(client)], clock)
}

async function endInTime(
  end: () => Promise<void>,
  standing: Iterable<Socket>,
  clock: Pick<Clock, 'after'>,
): Promise<void> {
  const timer = clock.after(DISCONNECT_WITHIN_MS, () => {
    for (const stream of standing)
      stream.destroy(new Error(`Connection terminated: not gone within ${DISCONNECT_WITHIN_MS} ms`))
  })
  await end().catch(() => {})
  await Promise.all([...standing].map((stream) => stream.closed || closed(stream)))
  timer.cancel()
}

function closed(stream: Socket): Promise<void> {
  return new Promise((resolve) => stream.once('close', () => resolve()))
}

function streamOf(client: pg.ClientBase): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream
}

/** A database that is stopped, or behind a network that swallows packets, says nothing at all, not even no. */
function dropSilentConnections(pool: pg.Pool, silenceMs: number): void {
  const atWork = new Set<pg.PoolClient>()
  pool.on('acquire', (client) => void atWork.add(client))
  pool.on('release', (_error, client) => void atWork.delete(client))
  pool.on('connect', (client) => {
    const stream = streamOf(client)
    stream.setTimeout(silenceMs, () => {
      if (atWork.has(client))
        stream.destroy(new Error(`Connection terminated: no answer for ${silenceMs} ms`))
    })
  })
}

export function openDatabase(pool: pg.Pool): Database {
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) })
}

const CONNECTION_LOST = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
  '53300', // too_many_connections
  '25P03', // idle_in_transaction_session_timeout
  '25006', // read_only_sql_transaction: a primary that has just become a standby
])

/** True when the error says that the database could not be reached, so that the same statement may work later. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, syscall } = error as NodeJS.ErrnoException
  // No descriptor was left for a connection; of a file it would say nothing about the database.
  if (syscall === 'connect' && (code === 'EMFILE' || code === 'ENFILE')) return true
  if (typeof code === 'string' && (CONNECTION_LOST.has(code) || code.startsWith('08'))) return true
  return /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Cannot use a pool after calling end|server conn crashed/i.test(
    error.message,
  )
}

/** SQLSTATE of an error that PostgreSQL itself answered, or undefined. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined
}

/** True for a deadlock or serialisation failure: the same transaction, run again, will work. */
export function isRetryable(error: unknown): boolean {
  const state = sqlState(error)
  return state === '40P01' || state === '40001'
}

/** True when the data itself is refused (SQLSTATE class 22), which no repetition mends. */
export function isBadData(error: unknown): boolean {
  return sqlState(error)?.startsWith('22') ?? false
}

const UNIQUE_VIOLATION = '23505'

/** The violated unique constraint's name, or undefined when the error is another one. */
export function violatedUnique(error: unknown): string | undefined {
  return sqlState(error) === UNIQUE_VIOLATION ? (error as { constraint?: string }).constraint : undefined
}
