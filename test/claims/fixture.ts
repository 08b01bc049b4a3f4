import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import { type ClaimCall, type Claims, type ClaimsOptions, createClaims } from '../../src/claims/claims.ts'
import type { Database } from '../../src/db/database.ts'
import { insertRobot } from '../../src/db/robots.ts'
import type { BeaconError, ErrorCode } from '../../src/errors.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import type { ClaimRequest } from '../../src/protocol/enrolment.ts'
import {
  type ClaimCredentialKind,
  hashToken,
  mintEnrollmentKey,
  mintProvisioningToken,
  mintSetupToken,
} from '../../src/protocol/tokens.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'

export interface TestFleet {
  readonly siteId: string
  readonly fleetId: string
}

export async function createFleet(database: Database, heartbeatIntervalMs?: number): Promise<TestFleet> {
  const siteId = newId()
  const fleetId = newId()
  await database
    .insertInto('sites')
    .values({ id: siteId, name: `site ${siteId}` })
    .execute()
  await database
    .insertInto('fleets')
    .values({
      id: fleetId,
      site_id: siteId,
      name: 'fleet',
      heartbeat_interval_ms: heartbeatIntervalMs ?? null,
    })
    .execute()
  return { siteId, fleetId }
}

export interface KeySettings {
  readonly kind?: ClaimCredentialKind
  /** Null: as many as come. */
  readonly maxUses?: number | null
  readonly singleUse?: boolean
  /** A setup token's own robot. */
  readonly robotId?: string
  readonly expiresAt?: Date
  readonly createdAt?: Date
  readonly onExisting?: 'rebind' | 'approve' | 'reject'
  readonly requireApproval?: boolean
  readonly allowedCidrs?: string[]
  readonly labels?: Record<string, string>
}

const MINT: Readonly<Record<ClaimCredentialKind, () => string>> = {
  enrollment_key: mintEnrollmentKey,
  provisioning_token: mintProvisioningToken,
  setup_token: mintSetupToken,
}

export interface TestKey {
  readonly id: string
  readonly secret: string
}

export async function createKey(
  database: Database,
  fleet: TestFleet,
  key: KeySettings = {},
): Promise<TestKey> {
  const kind = key.kind ?? 'enrollment_key'
  const secret = MINT[kind]()
  const id = newId()
  await database
    .insertInto('claim_credentials')
    .values({
      id,
      kind,
      single_use: key.singleUse ?? false,
      robot_id: key.robotId ?? null,
      secret_hash: hashToken(secret),
      secret_sealed: null,
      last_four: secret.slice(-4),
      name: 'key',
      site_id: fleet.siteId,
      fleet_id: fleet.fleetId,
      max_uses: key.maxUses === undefined ? 100 : key.maxUses,
      labels: JSON.stringify(key.labels ?? {}),
      allowed_cidrs: sql<string[]>`${key.allowedCidrs ?? []}::text[]::cidr[]`,
      require_approval: key.requireApproval ?? false,
      on_existing: key.onExisting ?? 'rebind',
      created_by: null,
      expires_at: key.expiresAt ?? null,
      ...(key.createdAt ? { created_at: key.createdAt } : {}),
    })
    .execute()
  return { id, secret }
}

/** A token that admits as many as come, or with `singleUse` one. */
export function createProvisioningToken(
  database: Database,
  fleet: TestFleet,
  settings: KeySettings = {},
): Promise<TestKey> {
  return createKey(database, fleet, { kind: 'provisioning_token', maxUses: null, ...settings })
}

/** A token for one robot. */
export function createSetupToken(
  database: Database,
  fleet: TestFleet,
  robotId: string,
  settings: KeySettings = {},
): Promise<TestKey> {
  return createKey(database, fleet, { kind: 'setup_token', maxUses: 1, robotId, ...settings })
}

/** A robot that an operator made beforehand. */
export async function createRobot(database: Database, fleet: TestFleet): Promise<string> {
  const id = newId()
  await insertRobot(database, { id, ...fleet, name: `by hand ${id}`, labels: {} })
  return id
}

export function startClaims(database: Database, options: Partial<ClaimsOptions> = {}): Claims {
  return createClaims({
    database,
    clock: systemClock,
    random: systemRandom,
    audit: { refused: () => {}, used: () => {} },
    log: createLog('silent'),
    metrics: createMetrics(),
    defaults: { heartbeatIntervalMs: 10_000 },
    ...options,
  })
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** A claim of an ordinary robot: own token, own claim id, own machine. */
export function robotRequest(name: string, changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    name,
    token_hash: sha256(`token of ${name}`),
    claim_id: `claim-of-${name}`,
    fingerprint: { hostname: name, machine_id: `machine of ${name}`, agent_version: '1.2.3' },
    ...changes,
  }
}

export function claimCall(
  key: Pick<TestKey, 'secret'>,
  request: ClaimRequest,
  address = '192.0.2.1',
): ClaimCall {
  return {
    secret: key.secret,
    request,
    address,
    requestId: 'request-1',
  }
}

/** The code of the refusal, or the kind of a success. */
export async function outcomeOf(claim: ReturnType<Claims['claim']>): Promise<ErrorCode | 200 | 201> {
  return claim.then(
    (answer) => answer.status,
    (error: BeaconError) => {
      if (error.code === undefined) throw error
      return error.code
    },
  )
}

export async function usesOf(database: Database, key: TestKey): Promise<number> {
  const row = await database
    .selectFrom('claim_credentials')
    .select('uses')
    .where('id', '=', key.id)
    .executeTakeFirstOrThrow()
  return row.uses
}

export async function robotsOf(database: Database, key: TestKey) {
  return database.selectFrom('robots').selectAll().where('credential_id', '=', key.id).orderBy('id').execute()
}

export async function eventsOf(database: Database, robotId: string): Promise<string[]> {
  const rows = await database
    .selectFrom('robot_events')
    .select('code')
    .where('robot_id', '=', robotId)
    .orderBy('id')
    .execute()
  return rows.map((row) => row.code)
}

/** The robot has a session, as the gateway writes it down. */
export async function connect(
  database: Database,
  robotId: string,
  connection: 'online' | 'stale' = 'online',
) {
  const serverId = newId()
  await database.insertInto('servers').values({ id: serverId, hostname: 'test', process_id: 1 }).execute()
  await database
    .updateTable('robot_status')
    .set({ connection, server_id: serverId, session_no: 1 })
    .where('robot_id', '=', robotId)
    .execute()
  return serverId
}

export async function disconnect(database: Database, robotId: string): Promise<void> {
  await database
    .updateTable('robot_status')
    .set({ connection: 'offline' })
    .where('robot_id', '=', robotId)
    .execute()
}
