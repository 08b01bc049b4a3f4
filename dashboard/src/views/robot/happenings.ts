import type { CLOSE } from '../../../../src/protocol/close-codes.ts'
import type { RobotEvent } from '../../api/types.ts'
import { duration } from '../../ui/duration.ts'

type Tone = 'ok' | 'warn' | 'error' | 'idle'

/** What stands on a robot's timeline, in words that need no manual. */
export interface Happening {
  readonly title: string
  readonly detail: string | undefined
  readonly tone: Tone
}

/** Groups of events that people look for, by their codes. */
export const GROUPS = [
  {
    name: 'Sessions and losses',
    codes: ['connected', 'disconnected', 'online', 'stale', 'offline'],
  },
  { name: 'Faults', codes: ['fault_raised', 'fault_cleared'] },
  {
    name: 'Identity and tokens',
    codes: [
      'enrolled',
      'rebound',
      'approval_requested',
      'approved',
      'denied',
      'token_rotation_requested',
      'token_rotated',
      'token_revoked',
      'setup_token_created',
      'clone_suspected',
    ],
  },
  {
    name: 'Changes by people',
    codes: ['created', 'renamed', 'labels_changed', 'moved', 'lifecycle_changed', 'retired'],
  },
] as const

export const LEVELS = [
  { name: 'Warnings and worse', value: 'warn', levels: ['warn', 'error', 'fatal'] },
  { name: 'Errors alone', value: 'error', levels: ['error', 'fatal'] },
] as const

type CloseReason = (typeof CLOSE)[keyof typeof CLOSE]['reason']

/** Why a robot is as connected as it is, or a session ended: the words that server and robots use, for people. */
const REASONS: Readonly<
  Record<
    | CloseReason
    | 'connected'
    | 'silent'
    | 'connection_lost'
    | 'bye'
    | 'server_gone'
    | 'did_not_return'
    | 'never_connected',
    string
  >
> = {
  connected: 'its session is open',
  silent: 'it has said nothing for a while',
  connection_lost: 'the connection broke without a goodbye: network, power or a killed program',
  bye: 'it said goodbye',
  server_gone: 'the server that carried it is gone',
  did_not_return: 'it did not come back after its server was gone',
  never_connected: 'it never connected',
  message_too_big: 'it sent more in one message than is taken',
  service_restart: 'the server was stopped or started anew; robots come back by themselves',
  hello_timeout: 'it connected and said nothing',
  too_many_errors: 'too much of what it sent could not be understood',
  heartbeat_timeout: 'it was silent for too long',
  outbox_full: 'it did not read what the server sent',
  too_many_frames: 'it sent faster than it may, for too long',
  overloaded: 'the server was behind with its work and asked it to come back later',
  internal_error: 'a fault of the server’s',
  token_revoked: 'its token was revoked, or replaced by another one',
  robot_retired: 'it was taken out of service',
  protocol_unsupported: 'it speaks another version of the protocol: its program has to be updated',
  approval_denied: 'nobody let it in',
  replaced_by_newer_session: 'the same robot connected from somewhere else',
  quarantined: 'it was taken for a copy of another robot',
}

const CODES: Readonly<Record<number, string>> = {
  1001: 'the program at the robot’s end went away',
  1002: 'it broke the rules of WebSocket',
  1005: 'it closed the connection and gave no reason',
  1006: REASONS.connection_lost,
  1007: 'it sent a text that is none',
  1008: 'it broke a rule of the connection',
  1009: REASONS.message_too_big,
  1011: 'its program met an error',
}

/** Words for a reason; one that is not known is shown as it is. */
export function reasonText(reason: string): string {
  const known = reason.split(';', 1)[0]!.trim()
  return Object.hasOwn(REASONS, known) ? REASONS[known as keyof typeof REASONS] : reason.replaceAll('_', ' ')
}

/** Why a session ended, with its close code for those who look it up. */
export function closeText(code: number, reason: string): string {
  const known = reason.split(';', 1)[0]!.trim()
  const words = Object.hasOwn(REASONS, known)
    ? REASONS[known as keyof typeof REASONS]
    : (CODES[code] ?? (reason === '' ? 'no reason was given' : reason))
  return `${words} (${code})`
}

const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined
const number = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined
const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}

type Data = RobotEvent['data']
interface Words {
  readonly title: string | ((data: Data) => string | undefined)
  readonly detail?: (data: Data, message: string) => string | undefined
}

const claimed = (data: Data) => {
  const parts = [text(data.hostname), text(data.address) && `from ${text(data.address)}`]
  return parts.filter(Boolean).join(' ') || undefined
}
const fromTo = (data: Data) => {
  const [from, to] = [text(data.from), text(data.to)]
  return from && to ? `${from} → ${to}` : undefined
}

/** What the server writes; whatever else there is speaks for itself. */
const WORDS: Readonly<Record<string, Words>> = {
  connected: {
    title: 'Connected',
    detail: (data) => text(data.address) && `from ${text(data.address)}, session ${number(data.session_no)}`,
  },
  disconnected: {
    title: ({ closed_by }) =>
      closed_by === 'server'
        ? 'The server ended the connection'
        : closed_by === 'robot'
          ? 'Disconnected in order'
          : 'Connection lost',
    detail: (data) => {
      const code = number(data.close_code)
      const lasted = number(data.lasted_ms)
      const why = code === undefined ? undefined : closeText(code, text(data.reason) ?? '')
      const after = lasted === undefined ? undefined : `after ${duration(lasted / 1_000)}`
      return [why, after].filter(Boolean).join(', ') || undefined
    },
  },
  online: { title: 'Heard again', detail: (data) => reasonOf(data) },
  stale: { title: 'Fell silent', detail: (data) => reasonOf(data) },
  offline: { title: 'Offline', detail: (data) => reasonOf(data) },
  fault_raised: {
    title: (data) => text(data.fault) && `Fault: ${text(data.fault)}`,
    detail: ({ fault }, message) => {
      const start = `${text(fault)}: `
      return message.startsWith(start) ? message.slice(start.length) : message === fault ? '' : message
    },
  },
  fault_cleared: {
    title: (data) => text(data.fault) && `Fault is over: ${text(data.fault)}`,
    detail: () => '',
  },
  enrolled: { title: 'Enrolled', detail: claimed },
  rebound: { title: 'Enrolled again: it has a new token', detail: claimed },
  approval_requested: { title: 'Waits for approval', detail: claimed },
  approved: { title: 'Approved', detail: () => '' },
  denied: { title: 'Denied: its new token stands no more' },
  token_rotation_requested: { title: 'Asked for a new token' },
  token_rotated: { title: 'Came with a new token', detail: () => 'the one before is void' },
  token_revoked: { title: 'Token revoked' },
  setup_token_created: { title: 'A setup token was made for it', detail: () => '' },
  clone_suspected: { title: 'Perhaps a copy of this robot' },
  created: { title: 'Created by hand', detail: () => '' },
  renamed: { title: 'Renamed', detail: fromTo },
  labels_changed: {
    title: 'Labels changed',
    detail: (data) => labelChanges(record(data.from), record(data.to)),
  },
  moved: { title: 'Moved to another fleet', detail: () => '' },
  lifecycle_changed: {
    title: ({ to }) =>
      to === 'maintenance' ? 'In maintenance' : to === 'active' ? 'Back to work' : undefined,
    detail: () => '',
  },
  retired: { title: 'Retired', detail: () => '' },
}

function reasonOf(data: Data): string | undefined {
  const reason = text(data.reason)
  return reason && reasonText(reason)
}

function labelChanges(
  from: Readonly<Record<string, unknown>>,
  to: Readonly<Record<string, unknown>>,
): string | undefined {
  const shown = (name: string, value: unknown) => (value === '' ? name : `${name}=${value}`)
  const came = Object.entries(to).filter(([name, value]) => from[name] !== value)
  const went = Object.keys(from).filter((name) => !Object.hasOwn(to, name))
  const parts = [
    ...came.map(([name, value]) => `+ ${shown(name, value)}`),
    ...went.map((name) => `− ${name}`),
  ]
  return parts.join(', ') || undefined
}

const TONES: Readonly<Record<RobotEvent['level'], Tone>> = {
  debug: 'idle',
  info: 'idle',
  warn: 'warn',
  error: 'error',
  fatal: 'error',
}
/** What is good news, or the end of bad. */
const GOOD: ReadonlySet<string> = new Set(['connected', 'online', 'fault_cleared', 'approved', 'enrolled'])

/** An event in words. What a robot tells of itself is told in its own. */
export function happeningOf(event: RobotEvent): Happening {
  const isServers = event.source === 'server'
  const words = isServers && Object.hasOwn(WORDS, event.code) ? WORDS[event.code] : undefined
  const title =
    (typeof words?.title === 'function' ? words.title(event.data) : words?.title) ||
    event.message ||
    event.code
  const detail = words?.detail
    ? words.detail(event.data, event.message)
    : title === event.message
      ? undefined
      : event.message
  const tone = isServers && event.level === 'info' && GOOD.has(event.code) ? 'ok' : TONES[event.level]
  return { title, detail: detail || undefined, tone }
}

/** Who did it, where people did: the id of a person, or of a token. */
export function actorOf(event: RobotEvent): { readonly user?: string; readonly token?: string } {
  if (event.source !== 'server') return {}
  const [user, token] = [text(event.data.by_user), text(event.data.by_token)]
  return user ? { user } : token ? { token } : {}
}

/** Newest first, with what was loaded before behind it. True when events between the two may be missing. */
export function withNewest(
  known: readonly RobotEvent[],
  newest: readonly RobotEvent[],
  isAll: boolean,
): { events: readonly RobotEvent[]; hasGap: boolean } {
  const ids = new Set(known.map(({ id }) => id))
  const fresh = newest.filter(({ id }) => !ids.has(id))
  if (fresh.length === 0) return { events: known, hasGap: false }
  const hasGap = known.length > 0 && fresh.length === newest.length && !isAll
  return { events: hasGap ? newest : [...fresh, ...known], hasGap }
}
