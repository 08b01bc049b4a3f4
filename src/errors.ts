/**
 * The closed table of everything Beacon refuses over HTTP: code → status and public text. `docs/errors.md`
 * lists the same codes, and a test compares the two both ways. `retry`: asking again unchanged may succeed.
 */
export const ERRORS = {
  invalid_request: { status: 400, retry: false, title: 'The request is not valid' },
  invalid_json: { status: 400, retry: false, title: 'The body is not valid JSON' },
  invalid_cursor: { status: 400, retry: false, title: 'The cursor is not one of ours' },
  subprotocol_required: { status: 400, retry: false, title: 'The WebSocket subprotocol beacon.v1 is needed' },
  upgrade_required: { status: 426, retry: false, title: 'This address speaks WebSocket only' },

  credentials_required: { status: 401, retry: false, title: 'Credentials are needed' },
  invalid_token: { status: 401, retry: false, title: 'The token is not valid' },
  token_expired: { status: 401, retry: false, title: 'The token has expired' },
  token_revoked: { status: 401, retry: false, title: 'The token was revoked' },
  robot_retired: { status: 401, retry: false, title: 'The robot was retired' },

  sign_in_failed: { status: 401, retry: false, title: 'The sign-in was not accepted' },

  second_factor_required: { status: 403, retry: false, title: 'A second factor has to be set up first' },
  cross_site_request: { status: 403, retry: false, title: 'The request came from another site' },
  invitation_invalid: { status: 403, retry: false, title: 'The invitation does not stand' },
  proof_refused: { status: 403, retry: false, title: 'The code is not right, or was used already' },
  session_needed: { status: 403, retry: false, title: 'Only somebody signed in on the page may do this' },
  exceeds_own_rights: { status: 403, retry: false, title: 'Nobody can give more rights than they hold' },
  insufficient_scope: { status: 403, retry: false, title: 'The token lacks the scope this needs' },
  key_revoked: { status: 403, retry: false, title: 'The enrollment key or token was revoked' },
  key_expired: { status: 403, retry: false, title: 'The enrollment key or token has expired' },
  key_exhausted: { status: 403, retry: false, title: 'The enrollment key or token is used up' },
  address_not_allowed: { status: 403, retry: false, title: 'It is not to be used from this address' },
  setup_token_consumed: { status: 403, retry: false, title: 'The setup token was used already' },
  setup_token_expired: { status: 403, retry: false, title: 'The setup token has expired' },
  robot_revoked: { status: 403, retry: false, title: 'The robot was revoked after this key was made' },

  not_found: { status: 404, retry: false, title: 'There is no such thing' },
  method_not_allowed: { status: 405, retry: false, title: 'This address does not take that method' },

  name_taken: { status: 409, retry: false, title: 'The name is taken' },
  not_empty: { status: 409, retry: false, title: 'It is not empty' },
  robot_is_retired: { status: 409, retry: false, title: 'A retired robot cannot be changed' },
  email_taken: { status: 409, retry: false, title: 'The email is somebody else’s' },
  second_factor_present: { status: 409, retry: false, title: 'There is a second factor already' },
  token_not_active: {
    status: 409,
    retry: false,
    title: 'The token was revoked, has expired or was replaced',
  },
  last_owner: { status: 409, retry: false, title: 'There has to be an owner' },
  robot_without_token: { status: 409, retry: false, title: 'The robot has no token that stands' },
  robot_pending: { status: 409, retry: false, title: 'The robot waits for approval' },
  robot_not_retired: { status: 409, retry: false, title: 'Only a retired robot can be deleted' },
  robot_not_pending: { status: 409, retry: false, title: 'The robot is not waiting for approval' },
  secret_key_in_settings: { status: 409, retry: false, title: 'The settings give the secret key' },
  claim_conflict: { status: 409, retry: false, title: 'This claim was made before with another token' },
  token_hash_taken: { status: 409, retry: false, title: 'The token belongs to another robot' },
  machine_known: { status: 409, retry: false, title: 'This machine is enrolled already' },
  robot_online: { status: 409, retry: false, title: 'The robot of this machine is connected' },
  request_in_progress: { status: 409, retry: true, title: 'The same request is still being worked on' },

  body_too_large: { status: 413, retry: false, title: 'The body is too large' },
  unsupported_media_type: { status: 415, retry: false, title: 'The body has to be JSON' },
  fleet_not_in_site: { status: 422, retry: false, title: 'The fleet does not belong to the site' },
  unknown_reference: { status: 422, retry: false, title: 'Something the request names does not exist' },
  idempotency_key_reused: {
    status: 422,
    retry: false,
    title: 'The idempotency key stands for another request',
  },
  approval_queue_full: { status: 429, retry: true, title: 'Too many robots wait for approval' },
  too_many_feeds: { status: 429, retry: true, title: 'Too many live feeds are open in one name' },
  rate_limited: { status: 429, retry: true, title: 'Too many requests' },

  internal_error: { status: 500, retry: true, title: 'Something went wrong on our side' },
  database_unavailable: { status: 503, retry: true, title: 'The database cannot be reached' },
  draining: { status: 503, retry: true, title: 'The server is shutting down' },
  overloaded: { status: 503, retry: true, title: 'The server has too much to do' },
  identity_provider_failed: { status: 502, retry: true, title: 'The identity provider gave no fit answer' },
} as const satisfies Record<string, { status: number; retry: boolean; title: string }>

export type ErrorCode = keyof typeof ERRORS

/** One bad field: where (a JSON pointer into the body, or `?name` for a query parameter) and why. */
export interface FieldError {
  readonly pointer: string
  readonly detail: string
}

/** RFC 9457 `application/problem+json`. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly code: ErrorCode
  readonly detail: string
  readonly request_id: string
  readonly errors?: readonly FieldError[]
}

interface Extras {
  readonly errors?: readonly FieldError[]
  readonly retryAfterSeconds?: number
  readonly cause?: unknown
}

/** A refusal that may be shown to the caller as it is: `detail` is for a person and never holds a secret. */
export class BeaconError extends Error {
  readonly code: ErrorCode
  readonly detail: string
  readonly errors: readonly FieldError[] | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, detail: string = ERRORS[code].title, extras: Extras = {}) {
    super(`${code}: ${detail}`, extras.cause === undefined ? undefined : { cause: extras.cause })
    this.name = 'BeaconError'
    this.code = code
    this.detail = detail
    this.errors = extras.errors
    this.retryAfterSeconds = extras.retryAfterSeconds
  }

  get status(): number {
    return ERRORS[this.code].status
  }
}

/** The problem document for an error. */
export function problemOf(error: BeaconError, requestId: string): Problem {
  return {
    type: `https://beacon.roboflare.dev/errors/${error.code}`,
    title: ERRORS[error.code].title,
    status: error.status,
    code: error.code,
    detail: error.detail,
    request_id: requestId,
    ...(error.errors ? { errors: error.errors } : {}),
  }
}
