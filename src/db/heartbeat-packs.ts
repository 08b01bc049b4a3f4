import { sql } from 'kysely'
import { openPack } from '../history/pack.ts'
import { arrayLiteral, timeItem } from './array-literal.ts'
import type { Database } from './database.ts'

const HOUR_MS = 3_600_000

/** From `from` up to, not including, `to`, on the robot's own clock. */
export interface Range {
  readonly from: Date
  readonly to: Date
}

/** Which rows of a robot belong to its history besides its packs. */
export interface RowsLeft {
  /** Milliseconds since 1970 up to which, by arrival, its heartbeats are packed: rows before it are to be ignored. */
  readonly receivedFrom: number
  /** There are rows that could not be packed. */
  readonly hasSetAside: boolean
}

export async function rowsLeft(database: Database, robotId: string): Promise<RowsLeft> {
  const row = await database
    .selectFrom('heartbeat_packing')
    .select((select) => select.fn.max('ends').as('ends'))
    .select(
      sql<boolean>`EXISTS (SELECT FROM heartbeats_set_aside WHERE robot_id = ${robotId})`.as('has_set_aside'),
    )
    .where('packed_through', '>=', robotId)
    .executeTakeFirstOrThrow()
  return {
    receivedFrom: row.ends ? new Date(row.ends).getTime() : 0,
    hasSetAside: row.has_set_aside,
  }
}

export interface StoredPack {
  readonly first_at: Date
  readonly heartbeats: number
  readonly data: Buffer
}

/**
 * A robot's packs that overlap a range, in the order of their hours and in these of their beginning, from the `skip`th
 * on. The order is the same as long as nothing changes: to be read on in one snapshot.
 */
export function listPacks(
  database: Database,
  robotId: string,
  range: Range,
  page: { limit: number; skip: number },
): Promise<StoredPack[]> {
  const hour = new Date(range.from.getTime() - (range.from.getTime() % HOUR_MS))
  return database
    .selectFrom('heartbeat_packs')
    .select(['first_at', 'heartbeats', 'data'])
    .where('robot_id', '=', robotId)
    .where('hour', '>=', hour)
    .where('hour', '<', range.to)
    .where('first_at', '<', range.to)
    .where('last_at', '>=', range.from)
    .orderBy('hour')
    .orderBy('first_at')
    .orderBy(sql`tableoid`)
    .orderBy(sql`ctid`)
    .limit(page.limit)
    .offset(page.skip)
    .execute()
}

/** What tells a heartbeat from all others; `at` in RFC 3339. */
export interface HeartbeatKey {
  readonly robotId: string
  readonly at: string
  readonly seq: number
}

const PACKS_AT_ONCE = 16

/**
 * Those of the heartbeats that are stored, as rows or in packs. One statement looks at both, so that none is missed on
 * its way from the one to the other.
 */
export async function findStored<Key extends HeartbeatKey>(
  database: Database,
  keys: readonly Key[],
): Promise<Set<Key>> {
  const found = new Set<Key>()
  if (keys.length === 0) return found
  const { rows } = await sql<{ key: number; pack: string | null }>`
    WITH given AS MATERIALIZED (
      SELECT robot_id, at, seq, (place - 1)::integer AS key
      FROM unnest(
        ${arrayLiteral(keys.map((key) => key.robotId))}::uuid[],
        ${arrayLiteral(keys.map((key) => timeItem(key.at)))}::timestamptz[],
        ${arrayLiteral(keys.map((key) => key.seq))}::bigint[]
      ) WITH ORDINALITY AS given (robot_id, at, seq, place)
    )
    SELECT key, NULL AS pack FROM given
    WHERE EXISTS (SELECT FROM heartbeats AS beat
                  WHERE beat.robot_id = given.robot_id AND beat.at = given.at AND beat.seq = given.seq)
      OR EXISTS (SELECT FROM heartbeats_set_aside AS beat
                 WHERE beat.robot_id = given.robot_id AND beat.at = given.at AND beat.seq = given.seq)
    UNION ALL
    SELECT given.key, pack.tableoid || ' ' || pack.ctid
    FROM given JOIN heartbeat_packs AS pack ON pack.robot_id = given.robot_id
      AND pack.hour = date_bin('1 hour', given.at, timestamptz 'epoch')
      AND given.at BETWEEN pack.first_at AND pack.last_at
      AND given.seq BETWEEN pack.lowest_seq AND pack.highest_seq
  `.execute(database)
  const askedOf = new Map<string, number[]>()
  for (const { key, pack } of rows) {
    if (pack === null) found.add(keys[key]!)
    else {
      const asked = askedOf.get(pack)
      if (asked) asked.push(key)
      else askedOf.set(pack, [key])
    }
  }
  if (askedOf.size === 0) return found
  const times = await timesOf(database, keys)
  const packs = [...askedOf.keys()]
  for (let at = 0; at < packs.length; at += PACKS_AT_ONCE)
    for (const { pack, data } of await readPacks(database, packs.slice(at, at + PACKS_AT_ONCE))) {
      const { seq, at } = await openPack(data)
      const held = new Set(seq.map((number, index) => `${number} ${at.ms[index]} ${at.us[index]}`))
      for (const key of askedOf.get(pack) ?? [])
        if (held.has(`${keys[key]!.seq} ${times[key]}`)) found.add(keys[key]!)
    }
  return found
}

/** Packs by table and place in it; one that was dropped since is missing. */
async function readPacks(
  database: Database,
  packs: readonly string[],
): Promise<{ pack: string; data: Buffer }[]> {
  const places = packs.map((pack) => pack.split(' ') as [string, string])
  const { rows } = await sql<{ pack: string; data: Buffer }>`
    SELECT tableoid || ' ' || ctid AS pack, data FROM heartbeat_packs
    WHERE ctid = ANY (${places.map(([, place]) => place)}::tid[])
      AND tableoid = ANY (${places.map(([table]) => table)}::oid[])
  `.execute(database)
  return rows
}

/** Times as PostgreSQL keeps them: whole milliseconds since 1970, and microseconds beyond them. */
async function timesOf(database: Database, keys: readonly HeartbeatKey[]): Promise<string[]> {
  const { rows } = await sql<{ time: string }>`
    SELECT div(microseconds, 1000) || ' ' || microseconds % 1000 AS time
    FROM unnest(${arrayLiteral(keys.map((key) => timeItem(key.at)))}::timestamptz[]) WITH ORDINALITY AS given (at, place),
      trunc(extract(epoch FROM at) * 1000000) AS microseconds
    ORDER BY place
  `.execute(database)
  return rows.map((row) => row.time)
}
