/**
 * How sessions end. The range decides what a robot does, so that an old robot treats a new code rightly:
 * 1012 and 4000–4499 come back (with backoff, or after the delay named in the reason), 4500–4999 stop and
 * tell a person.
 */
export const CLOSE = {
  /** The engine's own answer to a message beyond what it will buffer. */
  messageTooBig: { code: 1009, reason: 'message_too_big' },
  serviceRestart: { code: 1012, reason: 'service_restart' },
  helloTimeout: { code: 4000, reason: 'hello_timeout' },
  tooManyErrors: { code: 4001, reason: 'too_many_errors' },
  silent: { code: 4002, reason: 'heartbeat_timeout' },
  slowReader: { code: 4003, reason: 'outbox_full' },
  tooManyFrames: { code: 4004, reason: 'too_many_frames' },
  overloaded: { code: 4005, reason: 'overloaded' },
  internal: { code: 4006, reason: 'internal_error' },
  tokenRevoked: { code: 4501, reason: 'token_revoked' },
  retired: { code: 4502, reason: 'robot_retired' },
  approvalDenied: { code: 4504, reason: 'approval_denied' },
  protocolUnsupported: { code: 4503, reason: 'protocol_unsupported' },
  replaced: { code: 4510, reason: 'replaced_by_newer_session' },
  quarantined: { code: 4511, reason: 'quarantined' },
} as const satisfies Record<string, CloseCause>

/** A close code with its reason, as both travel in the close frame and stand on the robot's timeline. */
export interface CloseCause {
  readonly code: number
  readonly reason: string
}

/** True for codes after which a robot must not return by itself. */
export function isFinalCloseCode(code: number): boolean {
  return code >= 4500 && code <= 4999
}

const RECONNECT_IN = /\breconnect_in_ms=(\d{1,9})\b/

/** Adds the delay after which the robot should return (milliseconds) to a close cause. */
export function withReconnectDelay(cause: CloseCause, delayMs: number): CloseCause {
  return { code: cause.code, reason: `${cause.reason}; reconnect_in_ms=${Math.round(delayMs)}` }
}

/** The delay in milliseconds that a close reason names, or undefined. */
export function reconnectDelayIn(reason: string): number | undefined {
  const found = RECONNECT_IN.exec(reason)
  return found ? Number(found[1]) : undefined
}
