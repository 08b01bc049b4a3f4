import { sql } from 'kysely'
import type { Database } from './database.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** A table that has a partition for each span of time, from a multiple of `spanMs` since 1970 on. */
export interface PartitionedTable {
  readonly name: 'heartbeats' | 'heartbeat_packs' | 'heartbeat_minutes' | 'heartbeat_hours'
  readonly spanMs: number
  /** Its partitions are only added to, and gone before a vacuum would be worth it. */
  readonly isShortLived?: boolean
}

/** By arrival. Those of older versions hold six hours each. */
export const HEARTBEATS: PartitionedTable = { name: 'heartbeats', spanMs: HOUR_MS, isShortLived: true }
/** By arrival. */
export const PACKS: PartitionedTable = { name: 'heartbeat_packs', spanMs: DAY_MS }
/** By the robot's clock. */
export const MINUTES: PartitionedTable = { name: 'heartbeat_minutes', spanMs: DAY_MS }
export const HOURS: PartitionedTable = { name: 'heartbeat_hours', spanMs: 28 * DAY_MS }

const LONGEST_HEARTBEATS_MS = 6 * HOUR_MS

/** "parts" in ASCII, and one more: whoever holds them makes, or drops, partitions. */
const MAKE_LOCK = 0x7061727473
const DROP_LOCK = 0x7061727474

/** Longer than any statement of ours holds a lock; a foreign one that is in the way is met again next time. */
const LOCK_TIMEOUT = '1s'

export interface Partition {
  readonly name: string
  readonly startMs: number
  readonly endMs: number
  /** `detaching`: an earlier pass ended in the middle. `detached`: a table of its own that only waits to be dropped. */
  readonly state: 'attached' | 'detaching' | 'detached'
}

export function partitionName({ name }: PartitionedTable, startMs: number): string {
  const [, year, month, day, hour] = /^(\d{4})-(\d\d)-(\d\d)T(\d\d)/.exec(new Date(startMs).toISOString())!
  return `${name}_p${year}${month}${day}_${hour}`
}

function startOf(name: string): number {
  const [, year, month, day, hour] = /_p(\d{4})(\d\d)(\d\d)_(\d\d)$/.exec(name)!
  return Date.parse(`${year}-${month}-${day}T${hour}:00:00Z`)
}

/** All partitions of a table, the oldest first. */
export async function listPartitions(database: Database, table: PartitionedTable): Promise<Partition[]> {
  const { rows } = await sql<{ name: string; detaching: boolean | null; end: Date | null }>`
    SELECT relation.relname AS name, inheritance.inhdetachpending AS detaching,
      substring(pg_get_expr(relation.relpartbound, relation.oid) FROM $$ TO [(]'([^']*)'[)]$$)::timestamptz AS end
    FROM pg_class AS relation
    LEFT JOIN pg_inherits AS inheritance ON inheritance.inhrelid = relation.oid
    WHERE relation.relkind = 'r'
      AND relation.relname ~ ${`^${table.name}_p[0-9]{8}_[0-9]{2}$`}
      AND relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = ${table.name}::regclass)
    ORDER BY relation.relname
  `.execute(database)
  return rows.map(({ name, detaching, end }) => {
    const startMs = startOf(name)
    // A detached one does not say how long it was.
    const longest = table === HEARTBEATS ? LONGEST_HEARTBEATS_MS : table.spanMs
    return {
      name,
      startMs,
      endMs: end?.getTime() ?? startMs + longest,
      state: detaching === null ? 'detached' : detaching ? 'detaching' : 'attached',
    }
  })
}

/**
 * Makes a partition, within a transaction. Attaching a table that is there already needs no lock that writers would wait
 * for, as PARTITION OF would.
 */
async function makePartition(
  transaction: Database,
  table: PartitionedTable,
  startMs: number,
): Promise<string> {
  const name = partitionName(table, startMs)
  const [lower, upper] = [startMs, startMs + table.spanMs].map((time) =>
    sql.lit(new Date(time).toISOString()),
  )
  const [parent, partition] = [sql.table(table.name), sql.table(name)]
  const options = table.isShortLived ? sql`WITH (autovacuum_enabled = false)` : sql``
  await sql`CREATE TABLE IF NOT EXISTS ${partition} (LIKE ${parent} INCLUDING ALL) ${options}`.execute(
    transaction,
  )
  await sql`ALTER TABLE ${parent} ATTACH PARTITION ${partition} FOR VALUES FROM (${lower}) TO (${upper})`.execute(
    transaction,
  )
  return name
}

/** Within a transaction, makes those partitions that these times need and that are not there; answers their names. */
export async function ensurePartitionsAt(
  transaction: Database,
  table: PartitionedTable,
  times: Iterable<number>,
): Promise<string[]> {
  const starts = new Set([...times].map((time) => time - (time % table.spanMs)))
  if (starts.size === 0) return []
  await sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`.execute(transaction)
  const covered = (await listPartitions(transaction, table)).filter(({ state }) => state === 'attached')
  const made: string[] = []
  for (const start of starts)
    if (!covered.some(({ startMs, endMs }) => startMs <= start && start < endMs))
      made.push(await makePartition(transaction, table, start))
  return made
}

/** As `ensurePartitionsAt`, in a transaction of its own and with no other server at the same. */
export function ensurePartitions(
  database: Database,
  table: PartitionedTable,
  timesOf: (transaction: Database) => Promise<Iterable<number>>,
): Promise<string[]> {
  return database.transaction().execute(async (transaction) => {
    await sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`.execute(transaction)
    await sql`SELECT pg_advisory_xact_lock(${MAKE_LOCK})`.execute(transaction)
    return ensurePartitionsAt(transaction, table, await timesOf(transaction))
  })
}

/**
 * Drops those partitions that `isDue` names; answers their names. No writer waits: a partition is detached concurrently
 * first, and a detachment that was cut short is finished. Nothing happens while another server is at it.
 */
export function dropPartitions(
  database: Database,
  table: PartitionedTable,
  isDue: (partition: Partition) => boolean,
): Promise<string[]> {
  return database.connection().execute(async (connection) => {
    const { rows } = await sql<{
      locked: boolean
    }>`SELECT pg_try_advisory_lock(${DROP_LOCK}) AS locked`.execute(connection)
    if (!rows[0]?.locked) return []
    try {
      await sql`SET lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`.execute(connection)
      const dropped: string[] = []
      const parent = sql.table(table.name)
      for (const partition of await listPartitions(connection, table)) {
        const name = sql.table(partition.name)
        if (partition.state === 'detaching')
          await sql`ALTER TABLE ${parent} DETACH PARTITION ${name} FINALIZE`.execute(connection)
        if (!isDue(partition)) continue
        if (partition.state === 'attached')
          await sql`ALTER TABLE ${parent} DETACH PARTITION ${name} CONCURRENTLY`.execute(connection)
        await sql`DROP TABLE ${name}`.execute(connection)
        dropped.push(partition.name)
      }
      return dropped
    } finally {
      // The connection goes back to the pool, and must not take these along; if it broke, they are gone with it.
      await sql`RESET lock_timeout`.execute(connection).catch(() => {})
      await sql`SELECT pg_advisory_unlock(${DROP_LOCK})`.execute(connection).catch(() => {})
    }
  })
}

/** Drops the partitions in which everything is older than `keptMs`; answers their names. */
export function dropOldPartitions(
  database: Database,
  table: PartitionedTable,
  now: number,
  keptMs: number,
): Promise<string[]> {
  return dropPartitions(database, table, ({ endMs }) => endMs <= now - keptMs)
}
