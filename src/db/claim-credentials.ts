import { type ExpressionBuilder, sql } from 'kysely'
import type { Database } from './database.ts'
import type { Labels, OnExisting, Tables } from './tables.ts'

type CredentialStatus = 'active' | 'revoked' | 'expired' | 'exhausted'

/** Judged on the database's clock, as claims are. */
const STATUS = sql<CredentialStatus>`CASE
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

export interface NewCredential {
  readonly id: string
  readonly secretHash: Buffer
  readonly secretSealed: Buffer | null
  readonly lastFour: string
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  readonly maxUses: number
  readonly labels: Labels
  readonly allowedCidrs: readonly string[]
  readonly requireApproval: boolean
  readonly onExisting: OnExisting
  readonly createdBy: string
  /** Null: never expires. */
  readonly expiresInSeconds: number | null
}

export function insertEnrollmentKey(db: Database, key: NewCredential) {
  return db
    .insertInto('claim_credentials')
    .values({
      id: key.id,
      kind: 'enrollment_key',
      secret_hash: key.secretHash,
      secret_sealed: key.secretSealed,
      last_four: key.lastFour,
      name: key.name,
      site_id: key.siteId,
      fleet_id: key.fleetId,
      max_uses: key.maxUses,
      labels: JSON.stringify(key.labels),
      // A range written with an address in it stands for the whole range.
      allowed_cidrs: sql<string[]>`ARRAY(
        SELECT network(range::inet) FROM unnest(${key.allowedCidrs}::text[]) WITH ORDINALITY AS given (range, place)
        ORDER BY place)`,
      require_approval: key.requireApproval,
      on_existing: key.onExisting,
      created_by: key.createdBy,
      expires_at:
        key.expiresInSeconds === null
          ? null
          : sql<Date>`now() + make_interval(secs => ${key.expiresInSeconds})`,
    })
    .returning(columns)
    .executeTakeFirstOrThrow()
}

export type EnrollmentKeyRow = Awaited<ReturnType<typeof insertEnrollmentKey>>

export function findEnrollmentKey(db: Database, id: string): Promise<EnrollmentKeyRow | undefined> {
  return db
    .selectFrom('claim_credentials')
    .select(columns)
    .where('kind', '=', 'enrollment_key')
    .where('id', '=', id)
    .executeTakeFirst()
}

export interface KeyFilter {
  readonly site: string | undefined
  readonly fleet: string | undefined
  readonly status: CredentialStatus | undefined
}

/** Keys, newest first, those made before `before` when given. */
export function listEnrollmentKeys(
  db: Database,
  filter: KeyFilter,
  page: { limit: number; before: string | undefined },
): Promise<EnrollmentKeyRow[]> {
  const { site, fleet, status } = filter
  return db
    .selectFrom('claim_credentials')
    .select(columns)
    .where('kind', '=', 'enrollment_key')
    .$if(site !== undefined, (query) => query.where('site_id', '=', site!))
    .$if(fleet !== undefined, (query) => query.where('fleet_id', '=', fleet!))
    .$if(status !== undefined, (query) => query.where(STATUS, '=', status!))
    .$if(page.before !== undefined, (query) => query.where('id', '<', page.before!))
    .orderBy('id', 'desc')
    .limit(page.limit)
    .execute()
}

/** Revokes the key, or leaves the time at which that happened before. Waits for claims in flight on this key. */
export function revokeEnrollmentKey(db: Database, id: string): Promise<EnrollmentKeyRow | undefined> {
  return db
    .updateTable('claim_credentials')
    .set({ revoked_at: sql`coalesce(revoked_at, now())` })
    .where('kind', '=', 'enrollment_key')
    .where('id', '=', id)
    .returning(columns)
    .executeTakeFirst()
}
