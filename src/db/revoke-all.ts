import { type RawBuilder, sql } from 'kysely'
import type { Database } from './database.ts'
import { REVOKED_NOW } from './robots.ts'
import { stands } from './sign-ins.ts'

/** Whose: a person's, a fleet's, or everybody's and everything's. */
export type Extent = { readonly userId: string } | { readonly fleetId: string } | 'deployment'

/** Something that gives access and stands. */
export interface StandingCredential {
  readonly id: string
  readonly name: string | null
  readonly last_four: string | null
  readonly user_id: string | null
  readonly fleet_id: string | null
}

export const CREDENTIAL_GROUPS = [
  'personal_tokens',
  'fleet_tokens',
  'enrollment_keys',
  'provisioning_tokens',
  'setup_tokens',
  'sign_in_sessions',
  'invitations',
  'robots',
] as const
export type CredentialGroup = (typeof CREDENTIAL_GROUPS)[number]

interface Choice {
  readonly extent: Extent
  /** A token or session that is left out. */
  readonly except: string | undefined
}

function within(
  { extent }: Choice,
  user: string | undefined,
  fleet: string | undefined,
): RawBuilder<boolean> {
  if (extent === 'deployment') return sql`true`
  if ('userId' in extent) return user === undefined ? sql`false` : sql`${sql.ref(user)} = ${extent.userId}`
  return fleet === undefined ? sql`false` : sql`${sql.ref(fleet)} = ${extent.fleetId}`
}

function tokens(kind: 'personal' | 'fleet', choice: Choice) {
  return sql`SELECT t.id, t.name, t.last_four, t.user_id, t.fleet_id FROM access_tokens t
    WHERE t.kind = ${kind} AND t.revoked_at IS NULL AND coalesce(t.expires_at > now(), true)
      AND t.id IS DISTINCT FROM ${choice.except ?? null}::uuid AND ${within(choice, 't.user_id', 't.fleet_id')}`
}

function claimCredentials(kind: 'enrollment_key' | 'provisioning_token' | 'setup_token', choice: Choice) {
  return sql`SELECT t.id, t.name, t.last_four, NULL::uuid AS user_id, t.fleet_id FROM claim_credentials t
    WHERE t.kind = ${kind} AND t.revoked_at IS NULL AND coalesce(t.expires_at > now(), true)
      AND coalesce(t.uses < t.max_uses, true) AND ${within(choice, undefined, 't.fleet_id')}`
}

function signIns(choice: Choice) {
  return sql`SELECT t.id, u.name, NULL AS last_four, t.user_id, NULL::uuid AS fleet_id
    FROM sign_ins t JOIN users u ON u.id = t.user_id
    WHERE ${stands} AND t.id IS DISTINCT FROM ${choice.except ?? null}::uuid AND ${within(choice, 't.user_id', undefined)}`
}

function invitations(choice: Choice) {
  return sql`SELECT t.id, u.name, NULL AS last_four, t.user_id, NULL::uuid AS fleet_id
    FROM invitations t JOIN users u ON u.id = t.user_id
    WHERE t.accepted_at IS NULL AND t.revoked_at IS NULL AND t.expires_at > now()
      AND ${within(choice, 't.user_id', undefined)}`
}

function robots(choice: Choice) {
  return sql`SELECT t.id, t.name, NULL AS last_four, NULL::uuid AS user_id, t.fleet_id FROM robots t
    WHERE t.token_hash IS NOT NULL AND t.token_revoked_at IS NULL AND ${within(choice, undefined, 't.fleet_id')}`
}

const SELECTS: Record<CredentialGroup, (choice: Choice) => RawBuilder<unknown>> = {
  personal_tokens: (choice) => tokens('personal', choice),
  fleet_tokens: (choice) => tokens('fleet', choice),
  enrollment_keys: (choice) => claimCredentials('enrollment_key', choice),
  provisioning_tokens: (choice) => claimCredentials('provisioning_token', choice),
  setup_tokens: (choice) => claimCredentials('setup_token', choice),
  sign_in_sessions: signIns,
  invitations,
  robots,
}

/**
 * All that stands of a group. `hold` keeps it as it is until the transaction ends, in one order, so that nobody waits in a
 * circle; claims in flight with a key are waited for.
 */
export async function standingCredentials(
  db: Database,
  group: CredentialGroup,
  choice: Choice & { readonly hold: boolean },
): Promise<StandingCredential[]> {
  const { rows } = await sql<StandingCredential>`
    ${SELECTS[group](choice)} ORDER BY t.id ${choice.hold ? sql`FOR NO KEY UPDATE OF t` : sql``}
  `.execute(db)
  return rows
}

const ENDINGS: Record<CredentialGroup, RawBuilder<unknown>> = {
  personal_tokens: sql`UPDATE access_tokens SET revoked_at = now()`,
  fleet_tokens: sql`UPDATE access_tokens SET revoked_at = now()`,
  enrollment_keys: sql`UPDATE claim_credentials SET revoked_at = now()`,
  provisioning_tokens: sql`UPDATE claim_credentials SET revoked_at = now()`,
  setup_tokens: sql`UPDATE claim_credentials SET revoked_at = now()`,
  sign_in_sessions: sql`UPDATE sign_ins SET ended_at = clock_timestamp(), flow_sealed = NULL`,
  invitations: sql`UPDATE invitations SET revoked_at = now()`,
  robots: sql`UPDATE robots SET token_revoked_at = ${REVOKED_NOW}, updated_at = now()`,
}

/** Ends these of a group, which the transaction holds. */
export async function endCredentials(
  db: Database,
  group: CredentialGroup,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return
  await sql`${ENDINGS[group]} WHERE id = ANY (${ids}::uuid[])`.execute(db)
}
