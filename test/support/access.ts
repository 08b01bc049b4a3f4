import type { Scope } from '../../src/access/scopes.ts'
import { insertAccessToken } from '../../src/db/access-tokens.ts'
import type { Database } from '../../src/db/database.ts'
import type { Role } from '../../src/db/tables.ts'
import { insertMembership, insertUser } from '../../src/db/users.ts'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'

export interface RoleAtPlace {
  readonly role: Role
  readonly siteId?: string
  readonly fleetId?: string
}

/** Makes somebody who holds these roles. */
export async function insertPerson(
  database: Database,
  roles: readonly RoleAtPlace[],
  { name = 'somebody', email = null as string | null, secondFactor = false } = {},
): Promise<string> {
  const id = newId()
  await insertUser(database, { id, name, email, two_factor_enabled: secondFactor })
  for (const { role, siteId = null, fleetId = null } of roles)
    await insertMembership(database, { id: newId(), user_id: id, role, site_id: siteId, fleet_id: fleetId })
  return id
}

interface TokenSettings {
  readonly name?: string
  readonly scopes?: readonly Scope[] | null
  readonly allowedCidrs?: string[]
  readonly expiresAt?: Date
  readonly revokedAt?: Date
  readonly token?: string
}

/** Gives a person a token; `scopes` null: all that they may do. */
export async function insertPersonalToken(
  database: Database,
  userId: string,
  settings: TokenSettings = {},
): Promise<{ id: string; token: string }> {
  return insertToken(database, 'personal', { user_id: userId, fleet_id: null }, settings)
}

export async function insertFleetToken(
  database: Database,
  fleetId: string,
  settings: TokenSettings & { readonly scopes: readonly Scope[] },
): Promise<{ id: string; token: string }> {
  return insertToken(database, 'fleet', { user_id: null, fleet_id: fleetId }, settings)
}

async function insertToken(
  database: Database,
  kind: 'personal' | 'fleet',
  holder: { user_id: string | null; fleet_id: string | null },
  settings: TokenSettings,
): Promise<{ id: string; token: string }> {
  const token = settings.token ?? mintCheckedToken(kind)
  const id = newId()
  await insertAccessToken(database, {
    id,
    kind,
    ...holder,
    name: settings.name ?? 'token',
    token_hash: hashToken(token),
    last_four: token.slice(-4),
    scopes: settings.scopes ? [...settings.scopes] : null,
    allowed_cidrs: settings.allowedCidrs ?? [],
    expires_at: settings.expiresAt ?? null,
    revoked_at: settings.revokedAt ?? null,
  })
  return { id, token }
}
