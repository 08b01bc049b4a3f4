import { type RawBuilder, sql } from 'kysely'
import { type FoundRole, rolesOf } from './access-tokens.ts'
import type { Database } from './database.ts'
import type { Reach } from './reach.ts'
import { inOrder, isBehind, type Placed, placeValue, type SortColumn, type SortedPage } from './sorting.ts'

export const TOKEN_STATUSES = ['active', 'expired', 'revoked'] as const
export type TokenStatus = (typeof TOKEN_STATUSES)[number]

/** A token as it is shown, and what tells who may see it. */
export interface TokenRow {
  readonly id: string
  readonly kind: 'personal' | 'fleet'
  readonly name: string
  readonly last_four: string
  readonly scopes: string[] | null
  readonly allowed_cidrs: string[]
  readonly user_id: string | null
  readonly user_name: string | null
  readonly fleet_id: string | null
  readonly site_id: string | null
  readonly status: TokenStatus
  readonly created_at: Date
  readonly created_by: string | null
  readonly expires_at: Date | null
  readonly revoked_at: Date | null
  readonly last_used_at: Date | null
  readonly last_used_ip: string | null
  readonly replaces: string | null
  /** The newest of those that were made to take its place. */
  readonly replaced_by: string | null
}

/** Judged on the database's clock, as requests are. The token of somebody who was removed opens nothing. */
const STATUS = sql<TokenStatus>`CASE
  WHEN t.revoked_at IS NOT NULL OR u.removed_at IS NOT NULL THEN 'revoked'
  WHEN t.expires_at <= now() THEN 'expired'
  ELSE 'active' END`

const COLUMNS = sql`t.id, t.kind, t.name, t.last_four, t.scopes, t.allowed_cidrs::text[] AS allowed_cidrs,
  t.user_id, u.name AS user_name, t.fleet_id, f.site_id, ${STATUS} AS status, t.created_at, t.created_by, t.expires_at,
  t.revoked_at, t.last_used_at, host(t.last_used_ip) AS last_used_ip, t.replaces,
  (SELECT newer.id FROM access_tokens newer WHERE newer.replaces = t.id ORDER BY newer.id DESC LIMIT 1) AS replaced_by`

const JOINED = sql`access_tokens t
  LEFT JOIN users u ON u.id = t.user_id
  LEFT JOIN fleets f ON f.id = t.fleet_id`

/** A token, with the roles of the person it belongs to; a fleet's token has none. */
export interface HeldToken extends TokenRow {
  readonly roles: readonly FoundRole[]
}

export async function findToken(db: Database, id: string): Promise<HeldToken | undefined> {
  const { rows } = await sql<HeldToken>`
    SELECT ${COLUMNS}, coalesce(${rolesOf(sql.ref('t.user_id'))}, '[]') AS roles FROM ${JOINED} WHERE t.id = ${id}
  `.execute(db)
  return rows[0]
}

export const TOKEN_SORTS = ['created_at', 'last_used_at', 'expires_at', 'name'] as const
export type TokenSort = (typeof TOKEN_SORTS)[number]

const SORT_COLUMNS: Record<TokenSort, SortColumn> = {
  created_at: { column: sql`t.created_at`, type: 'time' },
  last_used_at: { column: sql`t.last_used_at`, type: 'time' },
  expires_at: { column: sql`t.expires_at`, type: 'time' },
  name: { column: sql`t.name`, type: 'text' },
}
const ID = sql`t.id`

/** Whose tokens: a fleet's, one person's, or those of all people who are managed from within a reach. */
export type TokenHolders =
  | { readonly fleetId: string }
  | { readonly userId: string }
  /** `self` is within reach, whoever manages them; `only` this one of them. */
  | { readonly managedFrom: Reach; readonly self: string; readonly only: string | undefined }

/** True for people all of whose roles are within reach; from the whole deployment everybody is. */
function managedFrom(reach: Reach): RawBuilder<boolean> {
  if (reach === 'everything') return sql`true`
  const { siteIds, fleetIds } = reach
  return sql`(EXISTS (SELECT FROM memberships m WHERE m.user_id = t.user_id) AND NOT EXISTS (
    SELECT FROM memberships m LEFT JOIN fleets mf ON mf.id = m.fleet_id
    WHERE m.user_id = t.user_id
      AND (coalesce(m.site_id, mf.site_id) = ANY (${siteIds}::uuid[]) OR m.fleet_id = ANY (${fleetIds}::uuid[])) IS NOT TRUE))`
}

function heldBy(holders: TokenHolders): RawBuilder<boolean> {
  if ('fleetId' in holders) return sql`t.kind = 'fleet' AND t.fleet_id = ${holders.fleetId}`
  if ('userId' in holders) return sql`t.kind = 'personal' AND t.user_id = ${holders.userId}`
  const { self, only } = holders
  return sql`t.kind = 'personal' AND (t.user_id = ${self} OR ${managedFrom(holders.managedFrom)})
    AND ${only === undefined ? sql`true` : sql`t.user_id = ${only}`}`
}

/** Tokens, sorted, those behind `after` when given; `place_value` is each one's own. */
export async function listTokens(
  db: Database,
  filter: { readonly holders: TokenHolders; readonly status: TokenStatus | undefined },
  { sort, descending, limit, after }: SortedPage<TokenSort>,
): Promise<Placed<TokenRow>[]> {
  const column = SORT_COLUMNS[sort]
  const { rows } = await sql<Placed<TokenRow>>`
    SELECT ${COLUMNS}, ${placeValue(column)} AS place_value FROM ${JOINED}
    WHERE ${heldBy(filter.holders)}
      AND ${filter.status === undefined ? sql`true` : sql`${STATUS} = ${filter.status}`}
      AND ${after === undefined ? sql`true` : isBehind(column, ID, descending, after)}
    ORDER BY ${inOrder(column, ID, descending)}
    LIMIT ${limit}
  `.execute(db)
  return rows
}
