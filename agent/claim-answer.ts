import { type ClaimResponse, claimResponseSchema } from '../src/protocol/enrolment.ts'
import { retryAfterMs } from './backoff.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { type HttpAnswer, problemCode, problemText } from './http.ts'

/** What an answer to a claim means. */
export type ClaimAnswer =
  | { readonly kind: 'granted'; readonly response: ClaimResponse }
  | { readonly kind: 'retry'; readonly why: string; readonly notBeforeMs: number | undefined }
  | {
      readonly kind: 'refused'
      readonly exitCode: ExitCode
      readonly code: string | undefined
      readonly sentence: string
      /** Asking again with the same claim id or token can never work. */
      readonly claimIsSpent: boolean
    }

const NEW_KEY = 'make a new enrollment key and start the agent with it'

/** What a person can do about each refusal of a credential. */
const CREDENTIAL_ADVICE: Readonly<Record<string, string>> = {
  key_revoked: NEW_KEY,
  key_expired: NEW_KEY,
  key_exhausted: `raise its number of uses, or ${NEW_KEY}`,
  address_not_allowed: "start the agent from an address in the key's allowed_cidrs, or use another key",
  robot_revoked: `this robot was shut out on purpose; to let it in again, ${NEW_KEY}`,
}

const NEW_SETUP_TOKEN = 'ask an operator for a new setup token, and start the agent with it'

/** The same for setup tokens; undefined where what the server says names the way to a new one already. */
const SETUP_TOKEN_ADVICE: Readonly<Record<string, string | undefined>> = {
  setup_token_consumed: undefined,
  setup_token_expired: undefined,
  key_revoked: undefined,
  robot_retired: 'ask an operator for a setup token of another robot',
}

function credentialAdvice(code: string | undefined, isSetupToken: boolean): string | undefined {
  const [advice, other] = isSetupToken ? [SETUP_TOKEN_ADVICE, NEW_SETUP_TOKEN] : [CREDENTIAL_ADVICE, NEW_KEY]
  return code !== undefined && Object.hasOwn(advice, code) ? advice[code] : other
}

const CONFLICT_ADVICE: Readonly<Record<string, string>> = {
  robot_online:
    'stop the other agent of this machine; if this disk is a copy of another robot, give it a machine id of its own (/etc/machine-id)',
  machine_known: 'use a key with on_existing "rebind", or retire the robot this machine was before',
  claim_conflict: 'start the agent again: it makes a new claim',
  token_hash_taken: 'start the agent again: it makes a new claim',
}

const FINAL: ReadonlySet<number> = new Set([400, 401, 403, 409, 413, 415, 422])

/**
 * Reads the answer to a claim, made with a setup token or with something else; `now` is wall time. What no control plane
 * would say is never the end.
 */
export function readClaimAnswer(answer: HttpAnswer, isSetupToken: boolean, now: number): ClaimAnswer {
  const { status, body } = answer
  const code = problemCode(body, answer.contentType)
  const detail = problemText(body)
  if (status === 200 || status === 201) {
    const parsed = claimResponseSchema.safeParse(body)
    return parsed.success
      ? { kind: 'granted', response: parsed.data }
      : retry('the answer is not one of a control plane; is the server address right?', undefined)
  }
  if (FINAL.has(status) && code === undefined)
    return retry(
      `HTTP ${status}, but not in the words of a control plane; does something in between answer, or is --server wrong?`,
      retryAfterMs(answer.retryAfter, now),
    )
  if (status === 401 || status === 403) {
    const what = detail ?? `the server does not take this ${isSetupToken ? 'setup token' : 'enrollment key'}`
    return refused(EXIT.refused, code, what, credentialAdvice(code, isSetupToken))
  }
  if (status === 409 && code !== 'request_in_progress') {
    const what = detail ?? 'this machine or claim is known to the server already'
    const isSpent = code === 'claim_conflict' || code === 'token_hash_taken'
    return refused(EXIT.conflict, code, what, code && CONFLICT_ADVICE[code], isSpent)
  }
  if (status === 400 || status === 413 || status === 415 || status === 422)
    return refused(
      EXIT.error,
      code,
      `the server does not understand the claim: ${detail ?? `HTTP ${status}`}`,
    )
  const wait = retryAfterMs(answer.retryAfter, now)
  if (status >= 300 && status < 400)
    return retry(
      `the server sends elsewhere${answer.location ? `, to ${answer.location}` : ''}; is --server right?`,
      wait,
    )
  if (status === 404 || status === 405)
    return retry(`nobody takes claims there (HTTP ${status}); is --server right?`, wait)
  return retry(detail ? `${detail} (HTTP ${status})` : `HTTP ${status}`, wait)
}

function retry(why: string, notBeforeMs: number | undefined): ClaimAnswer {
  return { kind: 'retry', why, notBeforeMs }
}

function refused(
  exitCode: ExitCode,
  code: string | undefined,
  what: string,
  advice?: string | undefined,
  claimIsSpent = false,
): ClaimAnswer {
  const sentence = `enrolment refused: ${what.replace(/\.$/, '')}${advice ? `. What to do: ${advice}` : ''}`
  return { kind: 'refused', exitCode, code, sentence, claimIsSpent }
}
