import { type RawBuilder, sql } from 'kysely'
import type { Database } from './database.ts'

/** Everything that is sealed: where it lies, what names its row, and what its envelope is bound to. */
const SEALED = {
  enrollment_keys: {
    table: 'claim_credentials',
    column: 'secret_sealed',
    id: { id: 'uuid' },
    context: (id: readonly string[]) => `enrollment key ${id[0]}`,
  },
  answers: {
    table: 'idempotent_requests',
    column: 'body_sealed',
    id: { principal_id: 'uuid', key: 'text' },
    context: (id: readonly string[]) => `idempotent request ${id[0]} ${id[1]}`,
  },
  second_factors: {
    table: 'second_factors',
    column: 'secret_sealed',
    id: { user_id: 'uuid' },
    context: (id: readonly string[]) => `second factor ${id[0]}`,
  },
  sign_ins: {
    table: 'sign_ins',
    column: 'flow_sealed',
    id: { id: 'uuid' },
    context: (id: readonly string[]) => `sign-in ${id[0]}`,
  },
} as const satisfies Record<
  string,
  {
    table: string
    column: string
    id: Readonly<Record<string, 'uuid' | 'text'>>
    context: (id: readonly string[]) => string
  }
>

export type SealedKind = keyof typeof SEALED
export const SEALED_KINDS = Object.keys(SEALED) as SealedKind[]

/** The tables and columns, for whoever wants to know that none is missing. */
export const SEALED_COLUMNS = Object.values(SEALED).map(({ table, column }) => `${table}.${column}`)

/** What an envelope in this row is bound to: one that is copied to another row does not open there. */
export function sealContext(kind: SealedKind, ...id: readonly string[]): string {
  return SEALED[kind].context(id)
}

/** The id of the key is written behind the version of the envelope. */
const keyIdOf = (column: RawBuilder<unknown>) => sql<string>`encode(substring(${column} FROM 2 FOR 4), 'hex')`

export interface SealedCount {
  readonly kind: SealedKind
  readonly keyId: string
  readonly count: number
}

/** How many envelopes each key has sealed. Reads all of them. */
export async function countSealed(database: Database): Promise<readonly SealedCount[]> {
  const counts = SEALED_KINDS.map((kind) => {
    const column = sql.ref(SEALED[kind].column)
    return sql`SELECT ${sql.lit(kind)}::text AS kind, ${keyIdOf(column)} AS "keyId", count(*) AS count
      FROM ${sql.table(SEALED[kind].table)} WHERE ${column} IS NOT NULL GROUP BY 2`
  })
  const { rows } = await sql<SealedCount>`${sql.join(counts, sql` UNION ALL `)}`.execute(database)
  return rows
}

export interface SealedRow {
  readonly id: readonly string[]
  readonly envelope: Buffer
}

/** Envelopes in the order of their rows' ids, after `after`, that another key than `keyId` sealed. */
export async function findSealedOtherwise(
  database: Database,
  kind: SealedKind,
  keyId: string,
  { after, limit }: { after: readonly string[] | undefined; limit: number },
): Promise<readonly SealedRow[]> {
  const { table, column, id } = SEALED[kind]
  const columns = sql.join(Object.keys(id).map((name) => sql.ref(name)))
  const from = after
    ? sql`(${columns}) > (${sql.join(Object.values(id).map((type, index) => sql`${after[index]}::${sql.raw(type)}`))})`
    : sql`true`
  const { rows } = await sql<SealedRow>`
    SELECT ARRAY[${sql.join(Object.keys(id).map((name) => sql`${sql.ref(name)}::text`))}] AS id,
      ${sql.ref(column)} AS envelope
    FROM ${sql.table(table)}
    WHERE ${sql.ref(column)} IS NOT NULL AND ${keyIdOf(sql.ref(column))} <> ${keyId} AND ${from}
    ORDER BY ${columns} LIMIT ${limit}
  `.execute(database)
  return rows
}

/** Puts envelopes in the place of others, where those are still there; answers how many. */
export async function replaceSealed(
  database: Database,
  kind: SealedKind,
  rows: readonly (SealedRow & { readonly next: Buffer })[],
): Promise<number> {
  const { table, column, id } = SEALED[kind]
  const names = Object.keys(id)
  const lists = Object.values(id).map(
    (type, index) => sql`${rows.map((row) => row.id[index])}::${sql.raw(type)}[]`,
  )
  const { numAffectedRows } = await sql`
    UPDATE ${sql.table(table)} AS target SET ${sql.ref(column)} = given.next
    FROM unnest(${sql.join(lists)}, ${rows.map((row) => row.envelope)}::bytea[],
      ${rows.map((row) => row.next)}::bytea[]) AS given (${sql.join(names.map((name) => sql.ref(name)))}, envelope, next)
    WHERE ${sql.join(
      names.map((name) => sql`target.${sql.ref(name)} = given.${sql.ref(name)}`),
      sql` AND `,
    )} AND target.${sql.ref(column)} = given.envelope
  `.execute(database)
  return Number(numAffectedRows ?? 0)
}

/** Until the transaction ends, nobody else changes the keys that servers of this database share. */
export async function lockSecretKeys(database: Database): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended('beacon.secret_keys', 0))`.execute(database)
}

/** Transactions of servers that are open now. pg_locks tells of all of them, whatever role asks. */
export async function openTransactions(database: Database): Promise<readonly string[]> {
  const { rows } = await sql<{ name: string }>`
    SELECT l.virtualxid AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = current_database()
      AND a.application_name LIKE 'beacon %' AND pid <> pg_backend_pid()
  `.execute(database)
  return rows.map(({ name }) => name)
}

/** Says which keys these servers open with. Their rows may be written anew at any time: to be said again and again. */
export async function noteSecretKeys(
  database: Database,
  serverIds: readonly string[],
  keyIds: readonly string[],
): Promise<void> {
  await sql`
    UPDATE servers SET secret_key_ids = ${keyIds}
    WHERE id = ANY (${[...serverIds]}::uuid[]) AND secret_key_ids IS DISTINCT FROM ${keyIds}::text[]
  `.execute(database)
}

/** A server that lives and has not said that it opens what this key seals. */
export async function findServerWithoutKey(
  database: Database,
  keyId: string,
): Promise<{ hostname: string; processId: number } | undefined> {
  const { rows } = await sql<{ hostname: string; processId: number }>`
    SELECT hostname, process_id AS "processId" FROM servers
    WHERE beat_at > now() - interval '20 seconds' AND (secret_key_ids @> ARRAY[${keyId}]) IS NOT true
    ORDER BY started_at LIMIT 1
  `.execute(database)
  return rows[0]
}
