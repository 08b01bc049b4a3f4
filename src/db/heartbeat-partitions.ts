import { sql } from 'kysely'
import type { Database } from './database.ts'

/** One partition holds what arrived in so long, from a multiple of it since 1970 on. */
export const PARTITION_MS = 6 * 3_600_000

/** Partitions exist for this long ahead: a day without maintenance, and some more. */
const AHEAD_MS = 30 * 3_600_000

/** "parts" in ASCII, and one more: whoever holds them makes, or drops, partitions. */
const MAKE_LOCK = 0x7061727473
const DROP_LOCK = 0x7061727474

/** Longer than any statement of ours holds a lock; a foreign one that is in the way is met again next time. */
const LOCK_TIMEOUT = '1s'
const NAME = /^heartbeats_p(\d{4})(\d{2})(\d{2})_(\d{2})$/

function nameOf(startMs: number): string {
  const [, year, month, day, hour] = /^(\d{4})-(\d\d)-(\d\d)T(\d\d)/.exec(new Date(startMs).toISOString())!
  return `heartbeats_p${year}${month}${day}_${hour}`
}

function startOf(name: string): number | undefined {
  const [, year, month, day, hour] = NAME.exec(name) ?? []
  return year === undefined ? undefined : Date.parse(`${year}-${month}-${day}T${hour}:00:00Z`)
}

interface Partition {
  readonly name: string
  readonly endMs: number
  /** `detaching`: an earlier pass ended in the middle. `detached`: a table of its own that only waits to be dropped. */
  readonly state: 'attached' | 'detaching' | 'detached'
}

async function listPartitions(database: Database): Promise<Partition[]> {
  const { rows } = await sql<{ name: string; detaching: boolean | null }>`
    SELECT relation.relname AS name, inheritance.inhdetachpending AS detaching
    FROM pg_class AS relation
    LEFT JOIN pg_inherits AS inheritance ON inheritance.inhrelid = relation.oid
    WHERE relation.relkind = 'r'
      AND relation.relname ~ ${NAME.source.replaceAll('\\d', '[0-9]')}
      AND relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'heartbeats'::regclass)
    ORDER BY relation.relname
  `.execute(database)
  return rows.map(({ name, detaching }) => ({
    name,
    endMs: startOf(name)! + PARTITION_MS,
    state: detaching === null ? 'detached' : detaching ? 'detaching' : 'attached',
  }))
}

/**
 * Makes the partitions from shortly before `now` to more than a day ahead; answers the names of the new ones. Attaching
 * a table that is there already needs no lock that writers would wait for, as PARTITION OF would.
 */
export function ensurePartitions(database: Database, now: number, historyMs: number): Promise<string[]> {
  const from = now - Math.min(PARTITION_MS, historyMs)
  return database.transaction().execute(async (transaction) => {
    await sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`.execute(transaction)
    await sql`SELECT pg_advisory_xact_lock(${MAKE_LOCK})`.execute(transaction)
    const attached = new Set(
      (await listPartitions(transaction))
        .filter((partition) => partition.state === 'attached')
        .map((partition) => partition.name),
    )
    const made: string[] = []
    for (let start = from - (from % PARTITION_MS); start <= now + AHEAD_MS; start += PARTITION_MS) {
      const name = nameOf(start)
      if (attached.has(name)) continue
      const [lower, upper] = [start, start + PARTITION_MS].map((time) =>
        sql.lit(new Date(time).toISOString()),
      )
      const table = sql.table(name)
      await sql`CREATE TABLE IF NOT EXISTS ${table} (LIKE heartbeats INCLUDING ALL)`.execute(transaction)
      await sql`ALTER TABLE heartbeats ATTACH PARTITION ${table} FOR VALUES FROM (${lower}) TO (${upper})`.execute(
        transaction,
      )
      made.push(name)
    }
    return made
  })
}

/**
 * Drops the partitions in which everything is older than `historyMs`; answers their names. No writer waits: a partition
 * is detached concurrently first, and a detachment that was cut short is finished. Nothing happens while another server
 * is at it.
 */
export function dropOldPartitions(database: Database, now: number, historyMs: number): Promise<string[]> {
  return database.connection().execute(async (connection) => {
    const { rows } = await sql<{
      locked: boolean
    }>`SELECT pg_try_advisory_lock(${DROP_LOCK}) AS locked`.execute(connection)
    if (!rows[0]?.locked) return []
    try {
      await sql`SET lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`.execute(connection)
      const dropped: string[] = []
      for (const partition of await listPartitions(connection)) {
        const isOld = partition.endMs <= now - historyMs
        const table = sql.table(partition.name)
        if (partition.state === 'detaching')
          await sql`ALTER TABLE heartbeats DETACH PARTITION ${table} FINALIZE`.execute(connection)
        if (!isOld) continue
        if (partition.state === 'attached')
          await sql`ALTER TABLE heartbeats DETACH PARTITION ${table} CONCURRENTLY`.execute(connection)
        await sql`DROP TABLE ${table}`.execute(connection)
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
