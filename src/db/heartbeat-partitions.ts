import { sql } from 'kysely'
import type { Database } from './database.ts'
import { closedThrough } from './heartbeat-packing.ts'
import { dropPartitions, ensurePartitions, HEARTBEATS, listPartitions } from './history-partitions.ts'

const HOUR_MS = 3_600_000
/** Partitions exist for this long ahead: half a day without maintenance, and some more. */
const AHEAD_MS = 14 * HOUR_MS
/** An hour is closed so long after it is over: what took long to be stored is there. */
export const CLOSED_AFTER_MS = 2 * 60_000
/** A packed partition stays so long: whoever reads began before. */
export const DROPPED_AFTER_MS = 5 * 60_000

/** Heartbeats of the past are stored so far back, unless that is closed. */
const BACK_MS = HOUR_MS
/**
 * Longer than it takes until a vacuum makes way. Nobody waits for whoever waits to close a partition, but for those who
 * would add to it, an hour too late.
 */
const CLOSE_TIMEOUT_MS = 5_000

/** Makes the partitions of heartbeats from an hour before `now` to half a day ahead; answers the names of the new ones. */
export function ensureHeartbeatPartitions(database: Database, now: number): Promise<string[]> {
  return ensurePartitions(database, HEARTBEATS, async (transaction) => {
    const from = Math.max(now - BACK_MS, await closedThrough(transaction))
    const times: number[] = []
    // Where a clock was wrong for a while, what is closed may lie ahead: heartbeats go behind it.
    const to = Math.max(now + AHEAD_MS, from + HOUR_MS)
    for (let time = from - (from % HOUR_MS); time <= to; time += HOUR_MS) times.push(time)
    return times
  })
}

/**
 * Closes the oldest partition of heartbeats that is over and not closed; answers its name, or undefined. From then on
 * nothing is added to it: this waits for who is adding something, and refuses who comes later.
 */
export async function closePartition(
  database: Database,
  now: number,
  timeoutMs = CLOSE_TIMEOUT_MS,
): Promise<string | undefined> {
  return database.transaction().execute(async (transaction) => {
    const closed = await closedThrough(transaction)
    const [next] = (await listPartitions(transaction, HEARTBEATS)).filter(
      ({ state, endMs }) => state === 'attached' && endMs > closed,
    )
    if (!next || next.endMs > now - CLOSED_AFTER_MS) return undefined
    await sql`SET LOCAL lock_timeout = ${sql.lit(timeoutMs)}`.execute(transaction)
    await sql`
      CREATE OR REPLACE TRIGGER heartbeats_closed BEFORE INSERT ON ${sql.table(next.name)}
      FOR EACH ROW EXECUTE FUNCTION heartbeats_refuse_closed()
    `.execute(transaction)
    await transaction
      .insertInto('heartbeat_packing')
      .values({ begins: new Date(next.startMs), ends: new Date(next.endMs), packed_through: null })
      .onConflict((conflict) => conflict.column('begins').doNothing())
      .execute()
    return next.name
  })
}

/**
 * Drops the partitions of heartbeats that were packed some minutes ago; answers their names. Those that cannot be read as a
 * whole stay for `keptMs`, for whoever mends them.
 */
export async function dropPackedPartitions(
  database: Database,
  now: number,
  keptMs: number,
): Promise<string[]> {
  const rows = await database
    .selectFrom('heartbeat_packing')
    .leftJoin('heartbeats_unreadable as unreadable', 'unreadable.begins', 'heartbeat_packing.begins')
    .select('heartbeat_packing.begins')
    .where('packed_at', '<=', new Date(now - DROPPED_AFTER_MS))
    .where((is) => is.or([is('unreadable.begins', 'is', null), is('ends', '<=', new Date(now - keptMs))]))
    .execute()
  if (rows.length === 0) return []
  const packed = new Set(rows.map(({ begins }) => begins.getTime()))
  const dropped = await dropPartitions(database, HEARTBEATS, ({ startMs }) => packed.has(startMs))
  for (const { startMs } of await listPartitions(database, HEARTBEATS)) packed.delete(startMs)
  // The newest says up to when all is closed.
  await sql`
    DELETE FROM heartbeat_packing WHERE begins = ANY (${[...packed].map((ms) => new Date(ms))}::timestamptz[])
      AND begins < (SELECT max(begins) FROM heartbeat_packing)
  `.execute(database)
  await sql`
    DELETE FROM heartbeats_unreadable AS unreadable
    WHERE NOT EXISTS (SELECT FROM heartbeat_packing AS packing WHERE packing.begins = unreadable.begins)
  `.execute(database)
  return dropped
}
