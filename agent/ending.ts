import { isFinalCloseCode } from '../src/protocol/close-codes.ts'
import { backoffCeiling, backoffDelay } from './backoff.ts'
import { EXIT, type ExitCode } from './exit.ts'
import { duration } from './text.ts'

/** How one attempt to hold a session ended. Delays count from that moment. */
export type Ending =
  | { readonly kind: 'unreachable'; readonly why: string }
  /** The upgrade was answered, but not with a WebSocket. */
  | {
      readonly kind: 'refused'
      readonly status: number
      /** The code of the problem document, when there is one. */
      readonly code: string | undefined
      readonly why: string
      readonly notBeforeMs: number | undefined
    }
  | {
      readonly kind: 'closed'
      readonly code: number
      readonly reason: string
      /** Since the first welcome; undefined: there was none. */
      readonly livedMs: number | undefined
      /** Over how long its server wants the return spread when nobody says when; 0: nothing was acknowledged in it. */
      readonly spreadMs: number
      /** When the server wants it back, by drain or by the close reason. */
      readonly comeBackInMs: number | undefined
      /** This side ended it, to come back with another token. */
      readonly comesBackAtOnce: boolean
    }

export type Move =
  | {
      readonly kind: 'retry'
      readonly delayMs: number
      /** Number of the attempt after this one, for the next backoff. */
      readonly nextAttempt: number
      readonly sentence: string
      /** Nothing went wrong. */
      readonly isPlanned: boolean
    }
  | {
      readonly kind: 'exit'
      readonly exitCode: ExitCode
      readonly sentence: string
      /** It is the token that is refused, and not the robot: another one may be taken. */
      readonly isOfToken: boolean
    }

/** A session that stood this long shows that the way is good: the backoff begins anew. */
export const SETTLED_AFTER_MS = 30_000

const ENROL_AGAIN =
  'To enrol again, run "beacon agent forget", then "beacon agent run" with a new enrollment key'

const TOKEN_REVOKED = 4501
const ROBOT_RETIRED = 4502

const FINAL: Readonly<Record<number, { exitCode: ExitCode; sentence: string }>> = {
  [TOKEN_REVOKED]: { exitCode: EXIT.refused, sentence: 'the token of this robot was revoked' },
  [ROBOT_RETIRED]: {
    exitCode: EXIT.refused,
    sentence: `this robot was retired. ${ENROL_AGAIN}`,
  },
  4503: {
    exitCode: EXIT.refused,
    sentence: 'the server does not speak this agent’s protocol. Update the agent',
  },
  4504: {
    exitCode: EXIT.refused,
    sentence: `nobody let this robot in: it was denied, or waited for approval too long. ${ENROL_AGAIN}`,
  },
  4510: {
    exitCode: EXIT.conflict,
    sentence:
      'another agent connected as this robot. Find out where its identity was copied to; only one of the two may run',
  },
  4511: {
    exitCode: EXIT.refused,
    sentence: 'this robot was quarantined. Ask an operator of the control plane',
  },
}

/**
 * What to do after an attempt ended. `attempt` counts the failures in a row (from 0), `fraction` is a random number from
 * 0 up to 1. Only an answer that names this robot's credential or place ends the agent: a 401 without the code of a
 * problem comes from something in between, as the sign-in page of a network does.
 */
export function nextMove(ending: Ending, attempt: number, fraction: number): Move {
  switch (ending.kind) {
    case 'unreachable':
      return retry(`cannot connect: ${ending.why}`, attempt, fraction)
    case 'refused':
      if (ending.status === 401 && ending.code === 'robot_retired')
        return { kind: 'exit', ...FINAL[ROBOT_RETIRED]!, isOfToken: false }
      if (ending.status === 401 && ending.code !== undefined)
        return {
          kind: 'exit',
          exitCode: EXIT.refused,
          sentence: `the server does not take the token of this robot: ${ending.why}`,
          isOfToken: true,
        }
      return retry(`cannot connect: ${ending.why}`, attempt, fraction, ending.notBeforeMs)
    case 'closed':
      return afterClose(ending, attempt, fraction)
  }
}

function afterClose(ending: Extract<Ending, { kind: 'closed' }>, attempt: number, fraction: number): Move {
  const reason = ending.reason.replace(/;? *reconnect_in_ms=\d+/, '')
  const cause = reason ? `${ending.code} ${reason}` : String(ending.code)
  if (isFinalCloseCode(ending.code)) {
    const known = FINAL[ending.code]
    const sentence = known?.sentence ?? 'the server told this robot to stay away. Ask an operator'
    return {
      kind: 'exit',
      exitCode: known?.exitCode ?? EXIT.refused,
      sentence: `closed for good (${cause}): ${sentence}`,
      isOfToken: ending.code === TOKEN_REVOKED,
    }
  }
  const isSettled = ending.livedMs !== undefined && ending.livedMs >= SETTLED_AFTER_MS
  const failures = isSettled ? 0 : attempt
  if (ending.comesBackAtOnce) {
    // Once. A server that wants one new token after the other gets them ever more slowly.
    const delayMs = failures === 0 ? 0 : backoffDelay(failures, fraction)
    const sentence = 'connecting again with the new token'
    return { kind: 'retry', delayMs, nextAttempt: failures + 1, sentence, isPlanned: true }
  }
  if (ending.comeBackInMs !== undefined) {
    // A server that sends every newcomer away at once must not be met by robots that return at once.
    const delayMs = ending.comeBackInMs + (isSettled ? 0 : backoffDelay(failures, fraction))
    const nextAttempt = isSettled ? 0 : failures + 1
    const sentence = `the server asks to come back (${cause}); connecting again in ${duration(delayMs)}`
    return { kind: 'retry', delayMs, nextAttempt, sentence, isPlanned: false }
  }
  const spreadMs = isSettled ? ending.spreadMs : 0
  if (spreadMs <= backoffCeiling(failures)) return retry(`connection lost (${cause})`, failures, fraction)
  // All others may have lost theirs in the same moment. It takes the place of the first backoff, once for each loss.
  const delayMs = Math.floor(spreadMs * fraction)
  const sentence = `connection lost (${cause}); trying again in ${duration(delayMs)}, for the server spreads its robots over ${duration(spreadMs)}`
  return { kind: 'retry', delayMs, nextAttempt: failures + 1, sentence, isPlanned: false }
}

function retry(what: string, attempt: number, fraction: number, notBeforeMs = 0): Move {
  // A server that names a time has spread its robots already: only what whole seconds bunched is spread again.
  const jitterOf = notBeforeMs >= 1_000 ? 0 : attempt
  const delayMs = notBeforeMs + backoffDelay(jitterOf, fraction)
  return {
    kind: 'retry',
    delayMs,
    nextAttempt: attempt + 1,
    sentence: `${what}; trying again in ${duration(delayMs)}`,
    isPlanned: false,
  }
}
