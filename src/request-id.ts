import { newId } from './ids.ts'

const SANE_ID = /^[A-Za-z0-9._:-]{1,128}$/
/** As tokens, keys and invitations begin: ids stand in logs, and in the audit log for ever. */
const LIKE_A_SECRET = /(?:rf_[a-z]+|apt)_[0-9a-z]{16}/i

interface Headers {
  readonly [name: string]: string | readonly string[] | undefined
}

/** The caller's own request id when it can stand in a log line, else a new one. */
export function requestIdOf(request: { readonly headers: Headers }): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && SANE_ID.test(given) && !LIKE_A_SECRET.test(given) ? given : newId()
}
