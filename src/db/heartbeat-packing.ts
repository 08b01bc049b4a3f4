import { sql } from 'kysely'
import { arrayLiteral } from './array-literal.ts'
import type { Database } from './database.ts'

/** "packs" in ASCII: whoever holds it packs heartbeats. */
const PACK_LOCK = 0x7061636b73
const HIGHEST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** What packs hold at the most: heartbeats, and bytes of their bodies. */
const MAX_IN_PACK = 512
const MAX_PACK_BYTES = 512 * 1024
const SORT_MEMORY = '32MB'

/** Milliseconds since 1970 up to which all partitions of heartbeats are closed; 0: none is. */
export async function closedThrough(database: Database): Promise<number> {
  const row = await database
    .selectFrom('heartbeat_packing')
    .select((select) => select.fn.max('ends').as('ends'))
    .executeTakeFirst()
  return row?.ends ? new Date(row.ends).getTime() : 0
}

/** A closed partition of heartbeats that is not wholly packed. */
export interface Packing {
  readonly begins: Date
  readonly ends: Date
  readonly packedThrough: string | null
}

/**
 * The oldest closed partition of which something is left to pack; 'idle' without one, 'busy' while another transaction
 * packs. Until this one ends none other does.
 */
export async function beginPacking(transaction: Database): Promise<Packing | 'busy' | 'idle'> {
  const { rows } = await sql<{
    locked: boolean
  }>`SELECT pg_try_advisory_xact_lock(${PACK_LOCK}) AS locked`.execute(transaction)
  if (!rows[0]?.locked) return 'busy'
  const row = await transaction
    .selectFrom('heartbeat_packing')
    .select(['begins', 'ends', 'packed_through'])
    .where('packed_at', 'is', null)
    .orderBy('begins')
    .limit(1)
    .executeTakeFirst()
  return row ? { begins: row.begins, ends: row.ends, packedThrough: row.packed_through } : 'idle'
}

/** All up to this robot is packed; without one, the whole partition. */
export async function advancePacking(
  transaction: Database,
  { begins }: Packing,
  through: string | undefined,
  now: number,
): Promise<void> {
  await transaction
    .updateTable('heartbeat_packing')
    .set(
      through === undefined
        ? { packed_through: HIGHEST_ID, packed_at: new Date(now) }
        : { packed_through: through },
    )
    .where('begins', '=', begins)
    .execute()
}

/** The partition's rows that are not packed; bounds as literals, so that the planner sees which partition it is. */
function unpacked({ begins, ends, packedThrough }: Packing, after: string | null = packedThrough) {
  const [from, to] = [begins, ends].map((time) => sql.lit(time.toISOString()))
  const rest = after === null ? sql`true` : sql`robot_id > ${sql.lit(after)}::uuid`
  return sql`received_at >= ${from} AND received_at < ${to} AND ${rest}`
}

/** The last of the next robots, up to `count`, of which something is to be packed; undefined when none is. */
export async function nextRobots(
  transaction: Database,
  packing: Packing,
  count: number,
): Promise<string | undefined> {
  const { rows } = await sql<{ last: string | null }>`
    WITH RECURSIVE next AS (
      (SELECT robot_id FROM heartbeats WHERE ${unpacked(packing)} ORDER BY robot_id LIMIT 1)
      UNION ALL
      SELECT (SELECT robot_id FROM heartbeats AS others
              WHERE ${unpacked(packing, null)} AND others.robot_id > next.robot_id ORDER BY robot_id LIMIT 1)
      FROM next WHERE next.robot_id IS NOT NULL
    )
    SELECT (array_agg(robot_id))[count(*)] AS last
    FROM (SELECT robot_id FROM next WHERE robot_id IS NOT NULL LIMIT ${count}) AS found
  `.execute(transaction)
  return rows[0]?.last ?? undefined
}

/** Heartbeats of one robot that go into one pack: each as its fields, BETWEEN_FIELDS, the last one its body. */
export interface UnpackedRow {
  readonly robot_id: string
  /** Milliseconds since 1970. */
  readonly hour: number
  readonly count: number
  readonly beats: string
}
/** What no JSON text holds as it is. */
export const BETWEEN_FIELDS = '\u001f'
export const BETWEEN_BEATS = '\u001e'

/** Rows that PostgreSQL sorts at once: those of the usual number of robots are fewer. */
const MAX_SORTED = 16_384

/**
 * Heartbeats of the robots up to `last`, by robot and in the order of its clock, in portions of some packs each. However
 * much one robot says, no statement takes long, and little is in memory.
 */
export async function* readUnpacked(
  transaction: Database,
  packing: Packing,
  last: string,
  portion: number,
): AsyncGenerator<readonly UnpackedRow[]> {
  // Without statistics, PostgreSQL may think little of a robot that says much, and sort all of it for each part.
  await sql`SET LOCAL enable_seqscan = off`.execute(transaction)
  await sql`SET LOCAL enable_bitmapscan = off`.execute(transaction)
  await sql`SET LOCAL work_mem = ${sql.lit(SORT_MEMORY)}`.execute(transaction)
  for (let after: UnpackedRow | undefined, count = MAX_SORTED; count === MAX_SORTED; ) {
    await declareUnpacked(transaction, packing, last, after)
    count = 0
    for (;;) {
      const { rows } = await sql<UnpackedRow>`FETCH FORWARD ${sql.lit(portion)} FROM unpacked`.execute(
        transaction,
      )
      if (rows.length > 0) yield rows
      for (const row of rows) count += row.count
      after = rows.at(-1) ?? after
      if (rows.length < portion) break
    }
    await sql`CLOSE unpacked`.execute(transaction)
  }
}

async function declareUnpacked(
  transaction: Database,
  packing: Packing,
  last: string,
  after: UnpackedRow | undefined,
): Promise<void> {
  const microseconds = (column: string) => sql`(extract(epoch FROM ${sql.ref(column)}) * 1000000)::bigint`
  await sql`
    DECLARE unpacked NO SCROLL CURSOR FOR
    SELECT robot_id, hour, count(*)::integer AS count,
      string_agg(concat_ws(E'\\x1f', ${microseconds('at')}, ${microseconds('received_at')}, session_no, seq, body::text),
                 E'\\x1e' ORDER BY at, session_no, seq) AS beats
    FROM (
      SELECT *,
        (row_number() OVER of_hour - 1) / ${sql.lit(MAX_IN_PACK)} AS part,
        sum(pg_column_size(body)) OVER of_hour / ${sql.lit(MAX_PACK_BYTES)} AS size_part
      FROM (
        SELECT *, (extract(epoch FROM date_bin('1 hour', at, timestamptz 'epoch')) * 1000)::bigint AS hour
        FROM heartbeats
        WHERE ${unpacked(packing)} AND robot_id <= ${sql.lit(last)}::uuid AND ${after ? isBehind(after) : sql`true`}
        ORDER BY robot_id, at, session_no, seq
        LIMIT ${sql.lit(MAX_SORTED)}
      ) AS beat
      WINDOW of_hour AS (PARTITION BY robot_id, hour ORDER BY at, session_no, seq ROWS UNBOUNDED PRECEDING)
    ) AS placed
    GROUP BY robot_id, hour, part, size_part
    ORDER BY robot_id, hour, part, size_part
  `.execute(transaction)
}

/** What comes behind the last heartbeat of a row. */
function isBehind({ robot_id, beats }: UnpackedRow) {
  const [at, , sessionNo, seq] = beats.slice(beats.lastIndexOf(BETWEEN_BEATS) + 1).split(BETWEEN_FIELDS, 4)
  const time = new Date(Number(at!.slice(0, -3)))
    .toISOString()
    .replace('Z', `${at!.slice(-3).padStart(3, '0')}Z`)
  return sql`(robot_id, at, session_no, seq)
    > (${sql.lit(robot_id)}::uuid, ${sql.lit(time)}::timestamptz, ${sql.lit(sessionNo!)}::bigint, ${sql.lit(seq!)}::bigint)`
}

/** A pack as it is stored; times in microseconds since 1970, as text. */
export interface PackRow {
  readonly robotId: string
  /** Milliseconds since 1970. */
  readonly hour: number
  readonly firstAt: string
  readonly lastAt: string
  readonly lowestSeq: number
  readonly highestSeq: number
  readonly heartbeats: number
  readonly data: Buffer
}

export async function insertPacks(
  transaction: Database,
  { begins }: Packing,
  packs: readonly PackRow[],
): Promise<void> {
  if (packs.length === 0) return
  // In two steps, for microseconds of the year 9999 are more than PostgreSQL multiplies exactly.
  const from = (column: string) =>
    sql`timestamptz 'epoch' + ${sql.ref(column)} / 1000000 * interval '1 second'
      + ${sql.ref(column)} % 1000000 * interval '1 microsecond'`
  await sql`
    INSERT INTO heartbeat_packs
      (robot_id, hour, received_at, first_at, last_at, lowest_seq, highest_seq, heartbeats, data)
    SELECT robot_id, timestamptz 'epoch' + hour * interval '1 millisecond', ${begins}, ${from('first_at')},
      ${from('last_at')}, lowest_seq, highest_seq, heartbeats, data
    FROM unnest(
      ${arrayLiteral(packs.map((pack) => pack.robotId))}::uuid[],
      ${arrayLiteral(packs.map((pack) => pack.hour))}::bigint[],
      ${arrayLiteral(packs.map((pack) => pack.firstAt))}::bigint[],
      ${arrayLiteral(packs.map((pack) => pack.lastAt))}::bigint[],
      ${arrayLiteral(packs.map((pack) => pack.lowestSeq))}::bigint[],
      ${arrayLiteral(packs.map((pack) => pack.highestSeq))}::bigint[],
      ${arrayLiteral(packs.map((pack) => pack.heartbeats))}::integer[],
      ${bytesLiteral(packs.map((pack) => pack.data))}::bytea[]
    ) AS given (robot_id, hour, first_at, last_at, lowest_seq, highest_seq, heartbeats, data)
  `.execute(transaction)
}

/** Bytes as items of an array in PostgreSQL's notation. */
function bytesLiteral(items: readonly Buffer[]): string {
  return `{${items.map((item) => `"\\\\x${item.toString('hex')}"`).join(',')}}`
}

export type RollupTable = 'heartbeat_minutes' | 'heartbeat_hours'

/** Where a roll-up is kept; `begins` in milliseconds since 1970. */
export interface RollupKey {
  readonly robotId: string
  readonly begins: number
}

/** Keeps the heartbeats of one robot, which cannot be packed, as the rows that they are; answers how many. */
export async function setAside(transaction: Database, packing: Packing, robotId: string): Promise<number> {
  const { numAffectedRows } = await sql`
    INSERT INTO heartbeats_set_aside (robot_id, received_at, at, session_no, seq, body)
    SELECT robot_id, received_at, at, session_no, seq, body FROM heartbeats
    WHERE ${unpacked(packing, null)} AND robot_id = ${sql.lit(robotId)}::uuid
  `.execute(transaction)
  return Number(numAffectedRows ?? 0)
}

/** The partition stays as long as single heartbeats are kept: not all of it can be read. */
export async function keepUnreadable(transaction: Database, { begins }: Packing): Promise<void> {
  await transaction
    .insertInto('heartbeats_unreadable')
    .values({ begins })
    .onConflict((conflict) => conflict.column('begins').doNothing())
    .execute()
}

/** Those of the roll-ups that are there. */
export async function findRollups(
  transaction: Database,
  table: RollupTable,
  keys: readonly RollupKey[],
): Promise<(RollupKey & { readonly data: Buffer })[]> {
  const { rows } = await sql<{ robot_id: string; begins: Date; data: Buffer }>`
    SELECT stored.robot_id, stored.begins, stored.data
    FROM unnest(${arrayLiteral(keys.map((key) => key.robotId))}::uuid[],
                ${timesLiteral(keys)}::timestamptz[]) AS wanted (robot_id, begins)
    JOIN ${sql.table(table)} AS stored USING (robot_id, begins)
  `.execute(transaction)
  return rows.map((row) => ({ robotId: row.robot_id, begins: row.begins.getTime(), data: row.data }))
}

export async function putRollups(
  transaction: Database,
  table: RollupTable,
  rows: readonly (RollupKey & { readonly data: Buffer })[],
): Promise<void> {
  if (rows.length === 0) return
  await sql`
    INSERT INTO ${sql.table(table)} (robot_id, begins, data)
    SELECT * FROM unnest(${arrayLiteral(rows.map((row) => row.robotId))}::uuid[], ${timesLiteral(rows)}::timestamptz[],
                         ${bytesLiteral(rows.map((row) => row.data))}::bytea[])
    ON CONFLICT (robot_id, begins) DO UPDATE SET data = excluded.data
  `.execute(transaction)
}

function timesLiteral(rows: readonly RollupKey[]): string {
  return arrayLiteral(rows.map((row) => `"${new Date(row.begins).toISOString()}"`))
}
