import type { FastifyReply, FastifyRequest } from 'fastify'
import { isDatabaseUnavailable, sqlState } from '../db/database.ts'
import { BeaconError, type ErrorCode, problemOf } from '../errors.ts'
import { GroupFullError } from '../grouping.ts'
import type { Log } from '../observe/log.ts'

const FASTIFY_ERRORS: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_request',
  // Neither an address of broken encoding nor a parameter longer than any id names anything.
  FST_ERR_BAD_URL: 'not_found',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
}

const QUERY_CANCELED = '57014'

/** What a library refuses for the caller's fault, such as an address that leads out of a folder. */
function refusedByLibrary(error: unknown): ErrorCode | undefined {
  const status = (error as { statusCode?: unknown } | null)?.statusCode
  if (typeof status !== 'number' || status < 400 || status > 499) return undefined
  return status === 403 || status === 404 ? 'not_found' : 'invalid_request'
}

/** The refusal for an error of any kind; what is not meant for callers becomes `internal_error`. */
export function refusalFor(error: unknown): BeaconError {
  if (error instanceof BeaconError) return error
  const code = (error as { code?: unknown } | null)?.code
  const known = (typeof code === 'string' ? FASTIFY_ERRORS[code] : undefined) ?? refusedByLibrary(error)
  if (known) return new BeaconError(known)
  if (isDatabaseUnavailable(error))
    return new BeaconError('database_unavailable', undefined, { retryAfterSeconds: 2, cause: error })
  if (error instanceof GroupFullError || sqlState(error) === QUERY_CANCELED)
    return new BeaconError('overloaded', undefined, { retryAfterSeconds: 5, cause: error })
  return new BeaconError('internal_error', undefined, { cause: error })
}

/** The challenge that goes with 401 and 403. */
function challenge(code: ErrorCode): string {
  return code === 'credentials_required'
    ? 'Bearer realm="beacon"'
    : `Bearer realm="beacon", error="${code === 'insufficient_scope' ? code : 'invalid_token'}"`
}

/** Answers with the problem document for an error, and logs it when it is our fault. */
export function sendProblem(log: Log, error: unknown, request: FastifyRequest, reply: FastifyReply) {
  const refusal = refusalFor(error)
  if (refusal.status >= 500) {
    const fields = { request_id: request.id, code: refusal.code, err: refusal.cause ?? refusal }
    if (refusal.code === 'internal_error') log.error(fields, 'a request failed')
    else log.warn(fields, 'a request could not be served')
  }
  if (refusal.status === 401 || refusal.code === 'insufficient_scope')
    reply.header('www-authenticate', challenge(refusal.code))
  if (refusal.retryAfterSeconds !== undefined)
    reply.header('retry-after', String(Math.max(1, Math.ceil(refusal.retryAfterSeconds))))
  return reply
    .code(refusal.status)
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(refusal, request.id)))
}
