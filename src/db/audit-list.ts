import { type RawBuilder, sql } from 'kysely'
import type { Database } from './database.ts'
import type { Reach } from './reach.ts'

/** A line of the log as it is kept. */
export interface AuditLine {
  readonly seq: number
  readonly id: string
  readonly at: Date
  readonly action: string
  readonly outcome: 'ok' | 'refused'
  readonly actorKind: string
  readonly actorId: string | null
  readonly actorName: string | null
  readonly targetKind: string | null
  readonly targetId: string | null
  readonly targetName: string | null
  readonly siteId: string | null
  readonly fleetId: string | null
  readonly requestId: string | null
  readonly address: string | null
  readonly data: Record<string, unknown>
  /** Hex. */
  readonly previousHash: string
  /** Hex. */
  readonly hash: string
}

/** Lines that match all of what is given. */
export interface AuditFilter {
  readonly reach: Reach
  /** Whole names, or beginnings that end in a dot. */
  readonly actions?: readonly string[] | undefined
  readonly outcome?: 'ok' | 'refused' | undefined
  /** An id. */
  readonly actor?: string | undefined
  /** One of the kinds of actors. */
  readonly actorKind?: string | undefined
  /** A person: what they did, what their tokens did, and what was done to them. */
  readonly userId?: string | undefined
  /** An id. */
  readonly target?: string | undefined
  readonly siteId?: string | undefined
  readonly fleetId?: string | undefined
  readonly requestId?: string | undefined
  /** An address or a range. */
  readonly address?: string | undefined
  readonly from?: Date | undefined
  /** Not included. */
  readonly to?: Date | undefined
  /** Part of a name. */
  readonly text?: string | undefined
}

function actionIs(action: string): RawBuilder<boolean> {
  return action.endsWith('.') ? sql`starts_with(action, ${action})` : sql`action = ${action}`
}

function conditionsOf(filter: AuditFilter): RawBuilder<boolean>[] {
  const {
    reach,
    actions,
    outcome,
    actor,
    actorKind,
    userId,
    target,
    siteId,
    fleetId,
    requestId,
    address,
    from,
    to,
    text,
  } = filter
  const conditions: RawBuilder<boolean>[] = []
  if (reach !== 'everything')
    conditions.push(
      sql`(site_id = ANY (${reach.siteIds}::uuid[]) OR fleet_id = ANY (${reach.fleetIds}::uuid[]))`,
    )
  if (actions) conditions.push(sql`(${sql.join(actions.map(actionIs), sql` OR `)})`)
  if (outcome) conditions.push(sql`outcome = ${outcome}`)
  if (actor) conditions.push(sql`actor_id = ${actor}::uuid`)
  if (actorKind) conditions.push(sql`actor_kind = ${actorKind}`)
  if (userId)
    conditions.push(
      sql`(actor_id = ${userId}::uuid OR target_id = ${userId}::text OR (data ? 'user_id' AND data ->> 'user_id' = ${userId}::text))`,
    )
  if (target) conditions.push(sql`target_id = ${target}`)
  if (siteId) conditions.push(sql`site_id = ${siteId}::uuid`)
  if (fleetId) conditions.push(sql`fleet_id = ${fleetId}::uuid`)
  if (requestId) conditions.push(sql`request_id = ${requestId}`)
  if (address) conditions.push(sql`address <<= ${address}::inet`)
  if (from) conditions.push(sql`at >= ${from}::timestamptz`)
  if (to) conditions.push(sql`at < ${to}::timestamptz`)
  if (text)
    conditions.push(
      sql`strpos(lower(concat_ws(E'\n', actor_name, target_name, target_id)), lower(${text}::text)) > 0`,
    )
  return conditions
}

const COLUMNS = sql`seq, id, at, action, outcome, actor_kind AS "actorKind", actor_id AS "actorId",
  actor_name AS "actorName", target_kind AS "targetKind", target_id AS "targetId", target_name AS "targetName",
  site_id AS "siteId", fleet_id AS "fleetId", request_id AS "requestId", host(address) AS address, data,
  encode(previous_hash, 'hex') AS "previousHash", encode(hash, 'hex') AS hash`

/** Lines before `before`, newest first. */
export async function listAudit(
  database: Database,
  filter: AuditFilter,
  { limit, before }: { limit: number; before: number | undefined },
): Promise<AuditLine[]> {
  const conditions = conditionsOf(filter)
  if (before !== undefined) conditions.push(sql`seq < ${before}::bigint`)
  const { rows } = await sql<AuditLine>`
    SELECT ${COLUMNS} FROM audit_log WHERE ${sql.join([sql`true`, ...conditions], sql` AND `)}
    ORDER BY seq DESC LIMIT ${limit}
  `.execute(database)
  return rows
}

/** Lines after `after` and up to `upTo`, oldest first. */
export async function readAudit(
  database: Database,
  filter: AuditFilter,
  { limit, after, upTo }: { limit: number; after: number; upTo: number },
): Promise<AuditLine[]> {
  const conditions = [sql`seq > ${after}::bigint`, sql`seq <= ${upTo}::bigint`, ...conditionsOf(filter)]
  const { rows } = await sql<AuditLine>`
    SELECT ${COLUMNS} FROM audit_log WHERE ${sql.join(conditions, sql` AND `)} ORDER BY seq LIMIT ${limit}
  `.execute(database)
  return rows
}
