import { CompiledQuery, sql } from 'kysely'
import { arrayLiteral, timeItem } from './array-literal.ts'
import type { Database } from './database.ts'

/** One heartbeat on its way into the database. */
export interface HeartbeatRow {
  readonly robotId: string
  readonly sessionNo: number
  readonly seq: number
  /** RFC 3339, the robot's clock. */
  readonly at: string
  /** Server's clock, milliseconds since 1970. */
  readonly receivedAt: number
  readonly health: string
  /** JSON text. */
  readonly body: string
  /** It may be stored already: look for the same robot, time and seq first. */
  recheck: boolean
  /** It is newer than the one shown as the robot's latest. */
  readonly latest: boolean
}

/**
 * The rows that may be there already, of those in `beat`. Left out of a statement that has none: to plan it over all
 * partitions and get it ready takes about a third of what PostgreSQL spends on a small group.
 */
const REPEATED = sql`
  UNION ALL
  SELECT * FROM (
    SELECT DISTINCT ON (beat.robot_id, beat.at, beat.seq)
      beat.robot_id, beat.received_at, beat.at, beat.session_no, beat.seq, beat.body
    FROM beat JOIN fenced USING (robot_id, session_no)
    WHERE beat.recheck
      AND NOT EXISTS (SELECT FROM heartbeats h
                      WHERE h.robot_id = beat.robot_id AND h.at = beat.at AND h.seq = beat.seq)
      AND NOT EXISTS (SELECT FROM beat twin
                      WHERE NOT twin.recheck AND twin.robot_id = beat.robot_id
                        AND twin.at = beat.at AND twin.seq = beat.seq)
  ) AS repeated
`

/** What no JSON text holds as it is: strings have it escaped. */
const BETWEEN_BODIES = '\u001e'

/**
 * Prepared, and in a form that costs PostgreSQL the least: no join but that with robot_status by its key, whose rows as
 * they have become are what goes into the history, so that each body is read once.
 */
const WRITE_LATEST = `/* prepared: write_heartbeats */
  WITH stored AS (
    UPDATE robot_status s SET
      last_seen_at = greatest(s.last_seen_at, given.received_at),
      heartbeat_seq = given.seq,
      heartbeat_at = given.at,
      heartbeat_received_at = given.received_at,
      heartbeat = given.body,
      health = given.health
    FROM (
      SELECT robot_id, session_no, seq, at, to_timestamp(received_ms / 1000) AS received_at, health,
        body::jsonb AS body, place
      FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::float8[], $6::text[],
                  string_to_array($7::text, E'\\x1e'))
        WITH ORDINALITY AS rows (robot_id, session_no, seq, at, received_ms, health, body, place)
    ) AS given
    WHERE s.robot_id = given.robot_id AND s.session_no = given.session_no
    RETURNING s.robot_id, s.heartbeat_received_at, s.heartbeat_at, s.session_no, s.heartbeat_seq, s.heartbeat,
      given.place
  ), history AS (
    INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
    SELECT robot_id, heartbeat_received_at, heartbeat_at, session_no, heartbeat_seq, heartbeat FROM stored
  )
  SELECT CASE WHEN (SELECT count(*) FROM stored) < $8::integer
    THEN coalesce((SELECT array_agg(place::integer) FROM stored), '{}') END AS places`

/**
 * As writeHeartbeats, for the usual case: each row is the only one of its session, is newer than what is shown as its
 * robot's latest, and cannot be in the database already. Answers with the places of the rows that are in the database
 * now, counted from 1 and in no order, or undefined when all of them are. `receivedFrom` as in WriteOptions.
 */
export async function writeLatestHeartbeats(
  database: Database,
  rows: readonly HeartbeatRow[],
  receivedFrom = 0,
): Promise<readonly number[] | undefined> {
  const {
    rows: [answer],
  } = await database.executeQuery<{ places: number[] | null }>(
    CompiledQuery.raw(WRITE_LATEST, [
      arrayLiteral(rows.map((row) => row.robotId)),
      arrayLiteral(rows.map((row) => row.sessionNo)),
      arrayLiteral(rows.map((row) => row.seq)),
      arrayLiteral(rows.map((row) => row.at)),
      arrayLiteral(rows.map((row) => Math.max(row.receivedAt, receivedFrom))),
      arrayLiteral(rows.map((row) => row.health)),
      rows.map((row) => row.body).join(BETWEEN_BODIES),
      rows.length,
    ]),
  )
  return answer?.places ?? undefined
}

export interface WriteOptions {
  /** Rows that are in the history already, wherever: they go nowhere but into their robots' status. */
  readonly stored?: ReadonlySet<HeartbeatRow>
  /** Milliseconds since 1970: what was received before counts as received then, for the history before is closed. */
  readonly receivedFrom?: number
}

/**
 * Writes heartbeats in one statement: into the history, and the newest of each robot into its status. Rows of a
 * session that is no longer its robot's newest are left out; answers with the rows that are in the database now.
 *
 * The lock on robot_status and its session_no are the fence: a newer session cannot open between the check and the
 * insert, and sees all that older ones stored.
 */
export async function writeHeartbeats(
  database: Database,
  rows: readonly HeartbeatRow[],
  { stored, receivedFrom = 0 }: WriteOptions = {},
): Promise<HeartbeatRow[]> {
  const receivedAt = (row: HeartbeatRow) => Math.max(row.receivedAt, receivedFrom)
  // The last row of each robot carries what its status becomes; rows arrive in the order in which robots sent them.
  const lastOf = new Map<string, number>()
  const latestOf = new Map<string, number>()
  for (const [index, row] of rows.entries()) {
    const before = rows[lastOf.get(row.robotId) ?? -1]
    if (before && before.sessionNo !== row.sessionNo) latestOf.delete(row.robotId)
    lastOf.set(row.robotId, index)
    if (row.latest) latestOf.set(row.robotId, index)
  }
  const robots = [...lastOf.entries()].map(([robotId, last]) => {
    const latestAt = latestOf.get(robotId)
    return { last: rows[last]!, latestAt, latest: latestAt === undefined ? undefined : rows[latestAt]! }
  })
  // Bodies are taken by their place and not joined: the planner cannot tell how many there are, and compares each row
  // of a middling group with every other.
  const { rows: fenced } = await sql<{ robot_id: string }>`
    WITH bodies AS MATERIALIZED (
      SELECT ${`[${rows.map((row) => row.body).join(',')}]`}::jsonb AS list
    ), beat AS MATERIALIZED (
      SELECT robot_id, session_no, seq, at, received_at, recheck,
        (SELECT list FROM bodies) -> (position - 1)::integer AS body
      FROM unnest(${arrayLiteral(rows.map((row) => row.robotId))}::uuid[],
                  ${arrayLiteral(rows.map((row) => row.sessionNo))}::bigint[],
                  ${arrayLiteral(rows.map((row) => row.seq))}::bigint[],
                  ${arrayLiteral(rows.map((row) => timeItem(row.at)))}::timestamptz[],
                  ${arrayLiteral(rows.map((row) => timeItem(receivedAt(row))))}::timestamptz[],
                  ${arrayLiteral(rows.map((row) => (stored?.has(row) ? null : row.recheck)))}::boolean[])
        WITH ORDINALITY AS given (robot_id, session_no, seq, at, received_at, recheck, position)
    ), newest AS (
      SELECT robot_id, session_no, last_seen_at, place, seq, at, received_at, health
      FROM unnest(${arrayLiteral(robots.map(({ last }) => last.robotId))}::uuid[],
                  ${arrayLiteral(robots.map(({ last }) => last.sessionNo))}::bigint[],
                  ${arrayLiteral(robots.map(({ last }) => timeItem(receivedAt(last))))}::timestamptz[],
                  ${arrayLiteral(robots.map(({ latestAt }) => latestAt))}::integer[],
                  ${arrayLiteral(robots.map(({ latest }) => latest?.seq))}::bigint[],
                  ${arrayLiteral(robots.map(({ latest }) => latest && timeItem(latest.at)))}::timestamptz[],
                  ${arrayLiteral(robots.map(({ latest }) => latest && timeItem(receivedAt(latest))))}::timestamptz[],
                  ${arrayLiteral(robots.map(({ latest }) => latest?.health))}::text[])
        AS newest (robot_id, session_no, last_seen_at, place, seq, at, received_at, health)
    ), fenced AS (
      UPDATE robot_status s SET
        last_seen_at = greatest(s.last_seen_at, newest.last_seen_at),
        heartbeat_seq = coalesce(newest.seq, s.heartbeat_seq),
        heartbeat_at = coalesce(newest.at, s.heartbeat_at),
        heartbeat_received_at = coalesce(newest.received_at, s.heartbeat_received_at),
        heartbeat = coalesce((SELECT list FROM bodies) -> newest.place, s.heartbeat),
        health = coalesce(newest.health, s.health)
      FROM newest
      WHERE s.robot_id = newest.robot_id AND s.session_no = newest.session_no
      RETURNING s.robot_id, s.session_no
    ), stored AS (
      INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
      SELECT beat.robot_id, beat.received_at, beat.at, beat.session_no, beat.seq, beat.body
      FROM beat JOIN fenced USING (robot_id, session_no)
      WHERE NOT beat.recheck
      ${rows.some((row) => row.recheck) ? REPEATED : sql``}
    )
    SELECT robot_id FROM newest EXCEPT SELECT robot_id FROM fenced
  `.execute(database)
  const refused = new Set(fenced.map((row) => row.robot_id))
  return rows.filter(
    (row) => !refused.has(row.robotId) && row.sessionNo === rows[lastOf.get(row.robotId)!]!.sessionNo,
  )
}

/**
 * Waits until no statement that writes these robots' heartbeats is under way, and keeps it so until the transaction
 * ends: what an earlier attempt may have stored is then to be seen.
 */
export async function lockHeartbeats(transaction: Database, rows: readonly HeartbeatRow[]): Promise<void> {
  await sql`
    SELECT FROM robot_status WHERE robot_id = ANY (${arrayLiteral(rows.map((row) => row.robotId))}::uuid[])
    ORDER BY robot_id FOR NO KEY UPDATE
  `.execute(transaction)
}
