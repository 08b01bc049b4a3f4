import { sql } from 'kysely'
import type { Database } from './database.ts'

/** A line's place in the chain. */
export interface Link {
  readonly seq: number
  /** Hex. */
  readonly hash: string
}

/** Where the log begins and ends, at one moment. */
export interface AuditEnds {
  /** As the head says; undefined: there is no head. */
  readonly head: Link | undefined
  readonly lowest: number | null
  readonly highest: number | null
}

export async function readAuditEnds(database: Database): Promise<AuditEnds> {
  const { rows } = await sql<{
    seq: number | null
    hash: string | null
    lowest: number | null
    highest: number | null
  }>`
    SELECT head.seq, encode(head.hash, 'hex') AS hash, ends.lowest, ends.highest
    FROM (SELECT min(seq) AS lowest, max(seq) AS highest FROM audit_log) AS ends
    LEFT JOIN audit_head AS head ON true
    LIMIT 1
  `.execute(database)
  const { seq = null, hash = null, lowest = null, highest = null } = rows[0] ?? {}
  return { head: seq === null || hash === null ? undefined : { seq, hash }, lowest, highest }
}

/** What the hash of a line is over, each column as PostgreSQL's own text; and the hashes that are kept with it, in hex. */
export interface ChainedLine {
  readonly seq: number
  readonly fields: readonly (string | null)[]
  readonly previousHash: string
  readonly hash: string
}

type ChainedRow = Readonly<Record<(typeof FIELDS)[number], string | null>> & {
  readonly number: number
  readonly previous_hash: string
  readonly hash: string
}

/** Every column but the hashes, in the order in which they are hashed. */
const FIELDS = [
  'seq',
  'id',
  'at',
  'action',
  'outcome',
  'actor_kind',
  'actor_id',
  'actor_name',
  'target_kind',
  'target_id',
  'target_name',
  'site_id',
  'fleet_id',
  'request_id',
  'address',
  'data',
] as const

/** The lines after one, in order; the text of each is put together by the caller, not by the database's own function. */
export async function readChain(database: Database, after: number, limit: number): Promise<ChainedLine[]> {
  const fields = FIELDS.map((field) =>
    field === 'at'
      ? sql`extract(epoch FROM at)::text AS at`
      : sql`${sql.ref(field)}::text AS ${sql.ref(field)}`,
  )
  const { rows } = await sql<ChainedRow>`
    SELECT seq AS number, encode(previous_hash, 'hex') AS previous_hash, encode(hash, 'hex') AS hash,
      ${sql.join(fields)}
    FROM audit_log WHERE audit_log.seq > ${after}::bigint ORDER BY audit_log.seq LIMIT ${limit}
  `.execute(database)
  return rows.map((row) => ({
    seq: row.number,
    fields: FIELDS.map((field) => row[field]),
    previousHash: row.previous_hash,
    hash: row.hash,
  }))
}

/** The hash of one line; undefined: there is no such line. */
export async function findLink(database: Database, seq: number): Promise<Link | undefined> {
  const { rows } = await sql<Link>`
    SELECT seq, encode(hash, 'hex') AS hash FROM audit_log WHERE seq = ${seq}::bigint
  `.execute(database)
  return rows[0]
}

const TRIGGERS = [
  ['audit_log', 'audit_log_hold'],
  ['audit_log', 'audit_log_link'],
  ['audit_log', 'audit_log_advance'],
  ['audit_log', 'audit_log_refuse'],
  ['audit_head', 'audit_head_refuse'],
] as const

/** Which of the triggers that guard the log are gone, or do not always fire. */
export async function findIdleGuards(database: Database): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    SELECT guard.name
    FROM unnest(${TRIGGERS.map(([table]) => table)}::text[], ${TRIGGERS.map(([, name]) => name)}::text[])
      AS guard ("table", name)
    WHERE NOT EXISTS (
      SELECT FROM pg_trigger
      WHERE tgrelid = to_regclass(guard."table") AND tgname = guard.name AND tgenabled = 'A')
    ORDER BY guard.name
  `.execute(database)
  return rows.map(({ name }) => name)
}
