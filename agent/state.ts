import { parse, stringify } from 'smol-toml'
import { z } from 'zod'
import { isCheckedToken } from '../src/protocol/tokens.ts'
import { checksumOf, fitsChecksum } from './checksum.ts'

/** Who this robot is to its control plane, from the moment its claim was granted. */
export interface Identity {
  readonly server: string
  readonly robotId: string
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  readonly gatewayUrl: string
  readonly heartbeatIntervalMs: number
  readonly robotToken: string
  /** Takes the place of `robotToken` with the first session that it opens. */
  readonly nextToken?: string | undefined
  /** When the newest of the two was made, RFC 3339 by this robot's clock. */
  readonly tokenMadeAt?: string | undefined
  /** Hash of the machine that enrolled; undefined where machines have no id. */
  readonly machineId: string | undefined
  /** Hash of the machine that alone may use it, whatever place it is kept in; undefined: not bound yet. */
  readonly boundTo?: string | undefined
  /** SHA-256 in hex of the claim credential that it enrolled with; undefined: an agent of before did not keep it. */
  readonly credentialHash?: string | undefined
  /** The same of others that the server refused since: none is sent again. */
  readonly refusedCredentials?: readonly string[] | undefined
}

/** A claim that may have been sent: whatever came of it, asking again with the same id and token finds out. */
export interface PendingClaim {
  readonly server: string
  readonly claimId: string
  readonly robotToken: string
  /** SHA-256 in hex of the credential that it is made with. */
  readonly credentialHash?: string | undefined
}

/** Settings that a person may write into agent.toml, before or after enrolment. */
export interface FileSettings {
  readonly server?: string
  readonly name?: string
  readonly enrollmentKeyFile?: string
  readonly heartbeatSeconds?: number
  readonly logLevel?: string
  readonly spoolMb?: number
  readonly caFile?: string
}

/** All that agent.toml holds. */
export interface AgentState {
  readonly settings: FileSettings
  readonly identity?: Identity
  /** Beside an identity: the claim that is to take its place. */
  readonly pending?: PendingClaim
  /** Keys that this version does not know: kept as they are. */
  readonly others: Readonly<Record<string, unknown>>
}

export const EMPTY_STATE: AgentState = { settings: {}, others: {} }

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'is no SHA-256')
const robotToken = z.string().refine((text) => isCheckedToken('robot', text), 'is damaged')

const settingsShape = {
  server: z.string().optional(),
  name: z.string().optional(),
  enrollment_key_file: z.string().optional(),
  heartbeat_seconds: z.number().optional(),
  log_level: z.string().optional(),
  spool_mb: z.number().optional(),
  ca_file: z.string().optional(),
}
type SettingsTable = z.infer<z.ZodObject<typeof settingsShape>>

const identityShape = {
  server: z.string().min(1),
  robot_id: z.string().min(1),
  name: z.string().min(1),
  site_id: z.string().min(1),
  fleet_id: z.string().min(1),
  gateway_url: z.string().min(1),
  heartbeat_interval_ms: z.number().int().positive(),
  robot_token: robotToken,
  next_token: robotToken.optional(),
  token_made_at: z.string().optional(),
  machine_id: z.string().optional(),
  bound_to: z.string().optional(),
  credential_sha256: sha256.optional(),
  refused_credentials: z.array(sha256).optional(),
}
const pendingShape = z.object({
  server: z.string().min(1),
  claim_id: z.string().min(1),
  robot_token: robotToken,
  credential_sha256: sha256.optional(),
})

const newSchema = z.looseObject({ state: z.undefined().optional(), ...settingsShape })
const claimingSchema = z.looseObject({
  state: z.literal('claiming'),
  ...settingsShape,
  pending: pendingShape,
})
const enrolledSchema = z.looseObject({
  state: z.literal('enrolled'),
  ...settingsShape,
  ...identityShape,
  pending: pendingShape.optional(),
})

const KNOWN = new Set([
  'state',
  'checksum',
  'pending',
  ...Object.keys(settingsShape),
  ...Object.keys(identityShape),
])

/**
 * Reads the text of agent.toml; throws an Error whose message says what is wrong. The first line says what the rest must
 * hold, so that a file cut short is never taken for one without an identity; the second is a checksum of all that makes
 * the identity, which a file of before does not have.
 */
export function parseState(text: string): AgentState {
  if (text.trim() === '') throw new Error('it is empty')
  const table = tableIn(text)
  const state = stateIn(table)
  if (!fitsChecksum(table))
    throw new Error(
      'its checksum does not fit what it holds (only who changed the identity by hand, knowing why, removes the line "checksum")',
    )
  return state
}

function stateIn(table: Readonly<Record<string, unknown>>): AgentState {
  const others = Object.fromEntries(Object.entries(table).filter(([key]) => !KNOWN.has(key)))
  if (table.state === 'enrolled') {
    const found = checked(enrolledSchema, table)
    const pending = found.pending ? { pending: pendingIn(found.pending) } : {}
    return { settings: settingsIn(found), identity: identityIn(found), ...pending, others }
  }
  if (table.state === 'claiming') {
    const found = checked(claimingSchema, table)
    return { settings: settingsIn(found), pending: pendingIn(found.pending), others }
  }
  if ('robot_token' in table) throw new Error('it holds a robot token, but not state = "enrolled"')
  if ('pending' in table) throw new Error('it holds a claim, but not state = "claiming"')
  return { settings: settingsIn(checked(newSchema, table)), others }
}

function tableIn(text: string): Record<string, unknown> {
  try {
    return parse(text)
  } catch (error) {
    // The parser goes on with an excerpt of the file, where the token may stand.
    throw new Error((error as Error).message.split('\n')[0])
  }
}

function checked<Output>(schema: z.ZodType<Output>, table: unknown): Output {
  const parsed = schema.safeParse(table)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new Error(`${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'is not valid'}`)
}

function settingsIn(table: SettingsTable): FileSettings {
  const found = {
    server: table.server,
    name: table.name,
    enrollmentKeyFile: table.enrollment_key_file,
    heartbeatSeconds: table.heartbeat_seconds,
    logLevel: table.log_level,
    spoolMb: table.spool_mb,
    caFile: table.ca_file,
  }
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined))
}

function pendingIn(table: z.infer<typeof pendingShape>): PendingClaim {
  return {
    server: table.server,
    claimId: table.claim_id,
    robotToken: table.robot_token,
    credentialHash: table.credential_sha256,
  }
}

function identityIn(table: z.infer<typeof enrolledSchema>): Identity {
  return {
    server: table.server,
    robotId: table.robot_id,
    name: table.name,
    siteId: table.site_id,
    fleetId: table.fleet_id,
    gatewayUrl: table.gateway_url,
    heartbeatIntervalMs: table.heartbeat_interval_ms,
    robotToken: table.robot_token,
    nextToken: table.next_token,
    tokenMadeAt: table.token_made_at,
    machineId: table.machine_id,
    boundTo: table.bound_to,
    credentialHash: table.credential_sha256,
    refusedCredentials: table.refused_credentials,
  }
}

const REMARK =
  '# Kept by `beacon agent`. It holds the robot token: whoever reads it can be this robot.\n' +
  '# Settings may be changed by hand. What makes the identity may not: the checksum is of that.\n'

/** The text of agent.toml. */
export function renderState(state: AgentState): string {
  const { settings, identity, pending } = state
  const kind = identity ? 'enrolled' : pending ? 'claiming' : undefined
  const table = {
    server: identity?.server ?? settings.server,
    name: identity?.name ?? settings.name,
    enrollment_key_file: settings.enrollmentKeyFile,
    heartbeat_seconds: settings.heartbeatSeconds,
    log_level: settings.logLevel,
    spool_mb: settings.spoolMb,
    ca_file: settings.caFile,
    robot_id: identity?.robotId,
    site_id: identity?.siteId,
    fleet_id: identity?.fleetId,
    gateway_url: identity?.gatewayUrl,
    heartbeat_interval_ms: identity?.heartbeatIntervalMs,
    machine_id: identity?.machineId,
    bound_to: identity?.boundTo,
    credential_sha256: identity?.credentialHash,
    refused_credentials: identity?.refusedCredentials?.length ? [...identity.refusedCredentials] : undefined,
    token_made_at: identity?.tokenMadeAt,
    robot_token: identity?.robotToken,
    next_token: identity?.nextToken,
    ...state.others,
    pending: pending && pendingTable(pending),
  }
  // The state comes before all else, or a file cut short early would read as a new one.
  const head = { state: kind, checksum: kind && checksumOf({ state: kind, ...table }) }
  return stringify(head) + REMARK + stringify(table)
}

function pendingTable(pending: PendingClaim): Record<string, string | undefined> {
  return {
    server: pending.server,
    claim_id: pending.claimId,
    robot_token: pending.robotToken,
    credential_sha256: pending.credentialHash,
  }
}
