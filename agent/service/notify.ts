import { execFile } from 'node:child_process'
import type { Log } from '../log.ts'
import type { Clock, Timer } from '../runtime.ts'
import type { Environment } from '../settings.ts'
import { describeError, printable } from '../text.ts'

/** What the service manager is told of an agent. */
export interface Condition {
  /** One sentence for a person. */
  readonly sentence: string
  /** The server has acknowledged something, or has nothing to acknowledge. */
  readonly hasArrived: boolean
  /** The agent does its work, so far as it can tell. */
  readonly isWell: boolean
}

export interface NotifierParts {
  readonly env: Environment
  readonly clock: Clock
  readonly log: Log
  readonly look: () => Condition
}

/** Without an acknowledgement it is ready after this: a robot without network must neither be killed nor hold up anything. */
export const READY_AT_LATEST_MS = 60_000
const LOOK_MS = 1_000
/** Between two programs that are run only because the sentence changed. */
const SENTENCE_PAUSE_MS = 15_000
/** systemd asks for the half; with a third, one message may be lost. */
const WATCHDOG_SHARE = 3
const RETRY_MS = 10_000
const PROGRAM = 'systemd-notify'
const PROGRAM_TIMEOUT_MS = 10_000
const MAX_SENTENCE = 200

export interface Notifier {
  /** Says that the agent is about to end, and nothing after that; resolves once it is said, or could not be. */
  stopping(why: string): Promise<void>
}

const SILENT: Notifier = { stopping: async () => {} }

/**
 * Tells the service manager how the agent does, if it asks to be told (NOTIFY_SOCKET). Node cannot send datagrams to a
 * UNIX socket, so each message is a run of systemd-notify, which also waits until it was heard; there are few: ready, a new
 * sentence at most every 15 s, and a sign of life three times in each WatchdogSec=.
 */
export function startNotifying(parts: NotifierParts): Notifier {
  return parts.env.NOTIFY_SOCKET ? new SystemdNotifier(parts) : SILENT
}

class SystemdNotifier implements Notifier {
  readonly #parts: NotifierParts
  readonly #startedAt: number
  readonly #watchdogMs: number | undefined
  #timer: Timer | undefined
  #isReady = false
  #sentence: string | undefined
  #sentenceAt = Number.NEGATIVE_INFINITY
  #lifeAt: number
  /** The programs run one after the other, so that a later message cannot be heard before an earlier one. */
  #running: Promise<void> | undefined
  /** Set while messages do not get through. */
  #retryAt: number | undefined
  #isBroken = false
  #isStopping = false
  #wasWell = true

  constructor(parts: NotifierParts) {
    this.#parts = parts
    this.#startedAt = parts.clock.monotonic()
    this.#lifeAt = this.#startedAt
    this.#watchdogMs = watchdogIn(parts.env)
    this.#look()
  }

  async stopping(why: string): Promise<void> {
    this.#timer?.cancel()
    this.#isStopping = true
    await this.#running
    await this.#tell(['STOPPING=1', statusOf(why)])
  }

  /** Called by the event loop itself: when that stands still, so do the signs of life. */
  #look(): void {
    const { clock } = this.#parts
    if (this.#isStopping) return
    this.#timer = clock.after(LOOK_MS, () => this.#look())
    const now = clock.monotonic()
    if (this.#running || this.#isBroken || (this.#retryAt !== undefined && now < this.#retryAt)) return
    const messages = this.#messages(now)
    if (messages.length > 0) void this.#tell(messages)
  }

  #messages(now: number): string[] {
    const { sentence, hasArrived, isWell } = this.#parts.look()
    const messages: string[] = []
    const isLate = now - this.#startedAt >= READY_AT_LATEST_MS
    if (!this.#isReady && isWell && (hasArrived || isLate)) {
      this.#isReady = true
      messages.push('READY=1')
    }
    const isLifeDue =
      this.#watchdogMs !== undefined && now - this.#lifeAt >= this.#watchdogMs / WATCHDOG_SHARE
    if (isLifeDue && isWell) {
      this.#lifeAt = now
      messages.push('WATCHDOG=1')
    }
    if (isLifeDue) this.#tellOfIllness(isWell)
    const isSentenceDue = messages.length > 0 || now - this.#sentenceAt >= SENTENCE_PAUSE_MS
    if (isSentenceDue && sentence !== this.#sentence) {
      this.#sentence = sentence
      this.#sentenceAt = now
      messages.push(statusOf(sentence))
    }
    return messages
  }

  #tellOfIllness(isWell: boolean): void {
    if (this.#wasWell && !isWell)
      this.#parts.log.error(
        'no heartbeat was made for too long: the service manager is given no sign of life',
      )
    this.#wasWell = isWell
  }

  #tell(messages: readonly string[]): Promise<void> {
    if (this.#isBroken) return Promise.resolve()
    const told = run(messages, this.#parts.env).then((problem) => {
      if (this.#running === told) this.#running = undefined
      if (problem) this.#notHeard(messages, problem)
      else this.#retryAt = undefined
    })
    this.#running = told
    return told
  }

  #notHeard(messages: readonly string[], { why, isForGood }: Problem): void {
    const { log, clock } = this.#parts
    if (this.#retryAt === undefined) log.warn(`cannot tell the service manager how this agent does: ${why}`)
    this.#retryAt = clock.monotonic() + RETRY_MS
    // What is not there will not be there in a minute either.
    this.#isBroken = isForGood
    this.#sentence = undefined
    if (messages.includes('READY=1')) this.#isReady = false
    if (messages.includes('WATCHDOG=1')) this.#lifeAt = Number.NEGATIVE_INFINITY
  }
}

function statusOf(sentence: string): string {
  return `STATUS=${printable(sentence, MAX_SENTENCE)}`
}

function watchdogIn(env: Environment): number | undefined {
  const ms = Number(env.WATCHDOG_USEC) / 1_000
  const isMeant = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(process.pid)
  return isMeant && Number.isFinite(ms) && ms > 0 ? ms : undefined
}

interface Problem {
  readonly why: string
  readonly isForGood: boolean
}

function run(messages: readonly string[], env: Environment): Promise<Problem | undefined> {
  return new Promise((resolve) => {
    const own = { PATH: env.PATH ?? '/usr/bin:/bin', NOTIFY_SOCKET: env.NOTIFY_SOCKET }
    const options = { env: own, timeout: PROGRAM_TIMEOUT_MS, killSignal: 'SIGKILL' } as const
    execFile(PROGRAM, ['--', ...messages], options, (error, _out, complaint) => {
      if (!error) resolve(undefined)
      else if (error.code === 'ENOENT')
        resolve({ why: `the program ${PROGRAM} is not there`, isForGood: true })
      else resolve({ why: complaint.trim().split('\n')[0] || describeError(error), isForGood: false })
    })
  })
}
