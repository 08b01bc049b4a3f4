import { type ExpressionBuilder, type RawBuilder, sql } from 'kysely'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import { inOrder, isBehind, type Placed, placeValue, type SortColumn, type SortedPage } from './sorting.ts'
import type { CredentialKind, Labels, OnExisting, Tables } from './tables.ts'

export type CredentialStatus = 'active' | 'revoked' | 'expired' | 'exhausted' | 'consumed'

/** Judged on the database's clock, as claims are. */
const STATUS = sql<CredentialStatus>`CASE
  WHEN claim_credentials.single_use AND claim_credentials.last_used_at IS NOT NULL THEN 'consumed'
  WHEN claim_credentials.revoked_at IS NOT NULL THEN 'revoked'
  WHEN claim_credentials.expires_at <= now() THEN 'expired'
  WHEN claim_credentials.uses >= claim_credentials.max_uses THEN 'exhausted'
  ELSE 'active' END`

const COLUMNS = [
  'id',
  'name',
  'site_id',
  'fleet_id',
  'last_four',
  'secret_sealed',
  'max_uses',
  'uses',
  'single_use',
  'labels',
  'require_approval',
  'on_existing',
  'created_at',
  'created_by',
  'expires_at',
  'revoked_at',
  'last_used_at',
] as const

function columns(_: ExpressionBuilder<Tables, 'claim_credentials'>) {
  return [
    ...COLUMNS.map((name) => `claim_credentials.${name}` as const),
    sql<string[]>`claim_credentials.allowed_cidrs::text[]`.as('allowed_cidrs'),
    STATUS.as('status'),
  ]
}

/** The kinds that admit new robots; setup tokens are for one that is there. */
export type FleetCredentialKind = Exclude<CredentialKind, 'setup_token'>

export interface NewCredential {
  readonly id: string
  readonly kind: FleetCredentialKind
  readonly secretHash: Buffer
  readonly secretSealed: Buffer | null
  readonly lastFour: string
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  /** Null: as many as come. */
  readonly maxUses: number | null
  readonly singleUse: boolean
  readonly labels: Labels
  readonly allowedCidrs: readonly string[]
  readonly requireApproval: boolean
  readonly onExisting: OnExisting
  readonly createdBy: string
  /** Null: never expires. */
  readonly expiresInSeconds: number | null
}

function expiryIn(seconds: number | null): RawBuilder<Date> | null {
  return seconds === null ? null : sql<Date>`statement_timestamp() + make_interval(secs => ${seconds})`
}

export function insertCredential(db: Database, credential: NewCredential) {
  return db
    .insertInto('claim_credentials')
    .values({
      id: credential.id,
      kind: credential.kind,
      secret_hash: credential.secretHash,
      secret_sealed: credential.secretSealed,
      last_four: credential.lastFour,
      name: credential.name,
      site_id: credential.siteId,
      fleet_id: credential.fleetId,
      max_uses: credential.maxUses,
      single_use: credential.singleUse,
      labels: JSON.stringify(credential.labels),
      // A range written with an address in it stands for the whole range.
      allowed_cidrs: sql<string[]>`ARRAY(
        SELECT network(range::inet) FROM unnest(${credential.allowedCidrs}::text[]) WITH ORDINALITY AS given (range, place)
        ORDER BY place)`,
      require_approval: credential.requireApproval,
      on_existing: credential.onExisting,
      created_by: credential.createdBy,
      // Not the transaction's time, which may have waited for a revocation that this credential comes after.
      created_at: sql<Date>`statement_timestamp()`,
      expires_at: expiryIn(credential.expiresInSeconds),
    })
    .returning(columns)
    .executeTakeFirstOrThrow()
}

export type CredentialRow = Awaited<ReturnType<typeof insertCredential>>

export function findCredential(
  db: Database,
  kind: FleetCredentialKind,
  id: string,
): Promise<CredentialRow | undefined> {
  return db
    .selectFrom('claim_credentials')
    .select(columns)
    .where('kind', '=', kind)
    .where('id', '=', id)
    .executeTakeFirst()
}

export interface CredentialFilter {
  readonly kind: FleetCredentialKind
  /** Where the list may come from at all. */
  readonly reach: Reach
  readonly site: string | undefined
  readonly fleet: string | undefined
  readonly status: CredentialStatus | undefined
}

export const CREDENTIAL_SORTS = ['created_at', 'last_used_at', 'expires_at', 'name'] as const
export type CredentialSort = (typeof CREDENTIAL_SORTS)[number]

const SORT_COLUMNS: Record<CredentialSort, SortColumn> = {
  created_at: { column: sql`claim_credentials.created_at`, type: 'time' },
  last_used_at: { column: sql`claim_credentials.last_used_at`, type: 'time' },
  expires_at: { column: sql`claim_credentials.expires_at`, type: 'time' },
  name: { column: sql`claim_credentials.name`, type: 'text' },
}
const ID = sql`claim_credentials.id`

/** Credentials of one kind, sorted, those behind `after` when given; `place_value` is each one's own. */
export function listCredentials(
  db: Database,
  filter: CredentialFilter,
  page: SortedPage<CredentialSort>,
): Promise<Placed<CredentialRow>[]> {
  const { kind, reach, site, fleet, status } = filter
  const { descending, limit, after } = page
  const sort = SORT_COLUMNS[page.sort]
  return db
    .selectFrom('claim_credentials')
    .select(columns)
    .select(placeValue(sort).as('place_value'))
    .where('kind', '=', kind)
    .where(inReach(reach, 'claim_credentials.fleet_id'))
    .$if(site !== undefined, (query) => query.where('site_id', '=', site!))
    .$if(fleet !== undefined, (query) => query.where('fleet_id', '=', fleet!))
    .$if(status !== undefined, (query) => query.where(STATUS, '=', status!))
    .$if(after !== undefined, (query) => query.where(isBehind(sort, ID, descending, after!)))
    .orderBy(inOrder(sort, ID, descending))
    .limit(limit)
    .execute()
}

/** Keeps claims with the credential out until the transaction ends; tells whether it was revoked before. */
export function lockForRevoking(
  db: Database,
  kind: FleetCredentialKind,
  id: string,
): Promise<{ revoked_at: Date | null } | undefined> {
  return db
    .selectFrom('claim_credentials')
    .select('revoked_at')
    .where('kind', '=', kind)
    .where('id', '=', id)
    .forNoKeyUpdate()
    .executeTakeFirst()
}

/** Revokes the credential, or leaves the time at which that happened before. Waits for claims in flight with it. */
export function revokeCredential(
  db: Database,
  kind: FleetCredentialKind,
  id: string,
): Promise<CredentialRow | undefined> {
  return db
    .updateTable('claim_credentials')
    .set({ revoked_at: sql`coalesce(revoked_at, now())` })
    .where('kind', '=', kind)
    .where('id', '=', id)
    .returning(columns)
    .executeTakeFirst()
}

/** A claim credential as whoever holds it may know it. */
export interface CredentialStanding {
  readonly id: string
  readonly kind: CredentialKind
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  readonly status: CredentialStatus
  readonly expiresAt: Date | null
  /** Null: as many as come. */
  readonly maxUses: number | null
  readonly uses: number
  readonly allowedCidrs: readonly string[]
}

/** Finds a claim credential by the digest of its secret, and changes nothing about it. */
export async function findCredentialStanding(
  database: Database,
  secretHash: Buffer,
): Promise<CredentialStanding | undefined> {
  const { rows } = await sql<CredentialStanding>`
    SELECT id, kind, name, site_id AS "siteId", fleet_id AS "fleetId", ${STATUS} AS status, expires_at AS "expiresAt",
      max_uses AS "maxUses", uses, allowed_cidrs::text[] AS "allowedCidrs"
    FROM claim_credentials WHERE secret_hash = ${secretHash}
  `.execute(database)
  return rows[0]
}
