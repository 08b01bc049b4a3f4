import type { LoggedError } from './last-errors.ts'
import { type LocalStatus, localRows } from './local/status.ts'
import { askRunningAgent } from './lock.ts'
import { withoutSecrets } from './log.ts'
import type { Places } from './places.ts'
import type { Clock } from './runtime.ts'
import type { Identity } from './state.ts'
import { loadState } from './state-file.ts'
import { duration, printable } from './text.ts'

/** The connection as a running agent tells of it. */
export interface LinkStatus {
  readonly connection: 'enrolling' | 'connecting' | 'connected' | 'waiting'
  readonly connected_since: string | null
  readonly session_no: number | null
  readonly lifecycle: string | null
  readonly heartbeat_interval_ms: number | null
  readonly last_ack_at: string | null
  readonly last_ack_age_ms: number | null
  readonly backlog: number
  readonly backlog_bytes: number
  /** Heartbeats that were lost before the server had them, and of these, those that it was not told of. */
  readonly dropped: number
  readonly dropped_unreported: number
  readonly last_error: string | null
  readonly next_attempt_at: string | null
}

/** Who the robot is, without its token. */
export interface IdentityStatus {
  readonly enrolled: boolean
  readonly server: string | null
  readonly robot_id: string | null
  readonly name: string | null
  readonly site_id: string | null
  readonly fleet_id: string | null
  readonly gateway_url: string | null
  /** When its newest token was made, by its own clock. */
  readonly token_made_at: string | null
}

export interface AgentStatus extends IdentityStatus {
  readonly running: boolean
  readonly config: string
  readonly pid?: number
  readonly version?: string
  readonly link?: LinkStatus
  /** What the robot's own software told. */
  readonly local?: LocalStatus
  /** The newest first. */
  readonly last_errors?: readonly LoggedError[]
  /** That another agent may be meant, and how to ask about that. */
  readonly hint?: string
}

export const NOT_LINKED: LinkStatus = {
  connection: 'enrolling',
  connected_since: null,
  session_no: null,
  lifecycle: null,
  heartbeat_interval_ms: null,
  last_ack_at: null,
  last_ack_age_ms: null,
  backlog: 0,
  backlog_bytes: 0,
  dropped: 0,
  dropped_unreported: 0,
  last_error: null,
  next_attempt_at: null,
}

export function identityStatus(identity: Identity | undefined): IdentityStatus {
  return {
    enrolled: identity !== undefined,
    server: identity?.server ?? null,
    robot_id: identity?.robotId ?? null,
    name: identity?.name ?? null,
    site_id: identity?.siteId ?? null,
    fleet_id: identity?.fleetId ?? null,
    gateway_url: identity?.gatewayUrl ?? null,
    token_made_at: identity?.tokenMadeAt ?? null,
  }
}

/** The status of the agent on this identity: from itself when it runs, else from its file. */
export async function readStatus(places: Places, clock: Clock): Promise<AgentStatus> {
  const told = await askRunningAgent(places, clock)
  if (told !== undefined) return told as AgentStatus
  const { state } = loadState(places)
  return { ...identityStatus(state.identity), running: false, config: places.config }
}

/** Who asks, and what else there is on this machine to ask about. */
export interface Asker {
  readonly isRoot: boolean
  /** The identity was named. */
  readonly isNamed: boolean
  /** An agent is a service of this machine. */
  readonly hasService: boolean
}

/** Of the machine's own agent only root is told: whoever has none of their own may mean that one. */
export function mayMeanService({ isRoot, isNamed, hasService }: Asker): boolean {
  return hasService && !isRoot && !isNamed
}

export function withHint(status: AgentStatus, asker: Asker): AgentStatus {
  if (status.running || status.enrolled || !mayMeanService(asker)) return status
  return {
    ...status,
    hint: "this machine's agent is a service, and tells root alone: sudo beacon agent status",
  }
}

/** The status as lines for a person. */
export function statusLines(status: AgentStatus): string[] {
  const { link } = status
  const rows: [string, string | number | null | undefined][] = [
    ['robot', status.enrolled ? `${status.name} (id ${status.robot_id})` : 'not enrolled'],
    ['site', status.site_id],
    ['fleet', status.fleet_id],
    ['server', status.server],
    ['gateway', status.gateway_url],
    ['token', status.token_made_at && `made at ${status.token_made_at}`],
    ['config', status.config],
    ['agent', status.running ? `running, pid ${status.pid}, version ${status.version}` : 'not running'],
    ['note', status.hint],
    ['connection', link && connectionText(link)],
    ['lifecycle', link?.lifecycle],
    ['heartbeat', link?.heartbeat_interval_ms && `every ${duration(link.heartbeat_interval_ms)}`],
    ['last ack', link && link.last_ack_age_ms !== null ? `${duration(link.last_ack_age_ms)} ago` : undefined],
    ['backlog', link && backlogText(link)],
    ...(status.local ? localRows(status.local) : []),
    ...(status.last_errors ?? []).map(({ at, times, sentence }, index): [string, string] => [
      index === 0 ? 'last errors' : '',
      `${at} ${sentence}${times > 1 ? ` (${times} times)` : ''}`,
    ]),
  ]
  return rows
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => `${(name && `${name}:`).padEnd(13)}${printable(withoutSecrets(String(value)))}`)
}

function backlogText({ backlog, dropped, dropped_unreported: unreported }: LinkStatus): string {
  const told = unreported > 0 ? `, of which the server is still to be told of ${unreported}` : ''
  return `${backlog} heartbeats, ${dropped} lost${told}`
}

function connectionText(link: LinkStatus): string {
  if (link.connection === 'connected') return `session ${link.session_no}, since ${link.connected_since}`
  if (link.connection === 'waiting') return `none; next attempt at ${link.next_attempt_at}`
  return link.connection
}
