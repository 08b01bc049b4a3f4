import { sql } from 'kysely'
import type { Database } from './database.ts'

export type HistoryLevel = 'heartbeats' | 'raw' | 'minutes' | 'hours'

const TABLES: Readonly<Record<HistoryLevel, string>> = {
  heartbeats: 'heartbeats',
  raw: 'heartbeat_packs',
  minutes: 'heartbeat_minutes',
  hours: 'heartbeat_hours',
}

/** The bytes that each level of the history takes, with indexes and all; `heartbeats` are those not packed yet. */
export async function readHistorySizes(database: Database): Promise<Record<HistoryLevel, number>> {
  const { rows } = await sql<{ name: string; bytes: number }>`
    SELECT parent.relname AS name, coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint AS bytes
    FROM pg_class AS parent LEFT JOIN pg_inherits ON inhparent = parent.oid
    WHERE parent.oid = ANY (ARRAY[${sql.join(Object.values(TABLES).map((name) => sql.lit(name)))}]::regclass[])
    GROUP BY parent.relname
  `.execute(database)
  const bytesOf = new Map(rows.map(({ name, bytes }) => [name, bytes]))
  const levels = Object.entries(TABLES) as [HistoryLevel, string][]
  return Object.fromEntries(levels.map(([level, table]) => [level, bytesOf.get(table) ?? 0])) as Record<
    HistoryLevel,
    number
  >
}
