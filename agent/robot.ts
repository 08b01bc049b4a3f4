import type { HelloFrame, Lifecycle, WelcomeFrame } from '../src/protocol/frames.ts'
import { PROTOCOL_VERSION } from '../src/protocol/limits.ts'
import { hashToken, mintCheckedToken } from '../src/protocol/tokens.ts'
import { Connection } from './connection.ts'
import { type Ending, nextMove } from './ending.ts'
import { type EventQueue, marked, OWN_EVENTS } from './events.ts'
import { AgentExit, TokenRefused } from './exit.ts'
import { heartbeatText, mergeSources, readingToJudge } from './heartbeat.ts'
import type { LocalReading } from './local/local.ts'
import type { Log } from './log.ts'
import type { Machine } from './machine.ts'
import type { Network } from './network/dial.ts'
import { Pulse } from './pulse.ts'
import type { Clock, Random } from './runtime.ts'
import type { Reading } from './sensors/board.ts'
import { type Judgement, judge } from './sensors/judgement.ts'
import type { Sequence } from './sequence.ts'
import type { ServerTime, Stamp } from './server-time.ts'
import type { SessionCount } from './session-count.ts'
import { MARK_BYTES } from './spool/kept-text.ts'
import type { Spool } from './spool.ts'
import type { Identity } from './state.ts'
import type { LinkStatus } from './status.ts'
import { duration } from './text.ts'
import { TokenKeeper, type Tokens } from './tokens.ts'

export interface RobotParts {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly machine: Machine
  readonly network: Network
  readonly sequence: Sequence
  readonly sessionCount: SessionCount
  readonly serverTime: ServerTime
  readonly spool: Spool
  readonly readSensors: () => Promise<Reading>
  /** What the robot's own software told. */
  readonly readLocal: () => LocalReading
  readonly events: EventQueue
  readonly gatewayUrl: string
  /** Tried in turn with the other once nobody was found there for some time. */
  readonly fallbackUrl: string | undefined
  readonly ownIntervalMs: number | undefined
  /** Writes down what the server now says of this robot. */
  readonly keepIdentity: (identity: Identity) => void
  /** Aborted when the process is to end. */
  readonly signal: AbortSignal
}

/** Attempts that find nobody at the gateway's address before the other one is tried. */
const ATTEMPTS_AT_GATEWAY = 3

/** In a session losses are told of at the first acknowledgement, which makes room for more, and then so often. */
const REPORT_PAUSE_MS = 60_000

/** An enrolled robot at work: beats all the time, holds a session whenever it can, and returns when it is to end. */
export class Robot {
  readonly #parts: RobotParts
  readonly #pulse: Pulse
  readonly #instanceId: string
  readonly #tokens: TokenKeeper
  #identity: Identity
  #connection: Connection | undefined
  #lifecycle: Lifecycle | undefined
  #faults: Judgement['faults'] = []
  /** When those of them began, by their codes. */
  readonly #faultsSince = new Map<string, Stamp>()
  #reportedAt = -Infinity
  #droppedTold = 0
  #isCut = false
  /** These are on the monotonic clock. */
  #connectedAt: number | undefined
  #lastAckAt: number | undefined
  #lastError: string | undefined
  #nextAttemptAt: number | undefined
  /** Attempts in a row that found nobody who knows of robots. */
  #foundNobody = 0

  constructor(identity: Identity, parts: RobotParts) {
    this.#identity = identity
    this.#parts = parts
    this.#instanceId = parts.random.bytes(12).toString('hex')
    this.#tokens = new TokenKeeper({ current: identity.robotToken, next: identity.nextToken }, (tokens) =>
      this.#keepTokens(tokens),
    )
    const intervalMs = Math.min(
      identity.heartbeatIntervalMs,
      parts.ownIntervalMs ?? identity.heartbeatIntervalMs,
    )
    this.#pulse = new Pulse(parts.clock, intervalMs, () => this.#beat())
    parts.events.whenKept(() => this.#sendEvents())
  }

  /**
   * Works until the signal aborts; throws AgentExit when the server wants this robot no more, and of these TokenRefused
   * when it is only the token that it does not take.
   */
  async run(): Promise<void> {
    const { signal } = this.#parts
    const leave = () => {
      this.#pulse.stop()
      this.#connection?.leave()
    }
    signal.addEventListener('abort', leave)
    this.#pulse.start()
    try {
      await this.#holdSessions()
    } finally {
      signal.removeEventListener('abort', leave)
      this.#pulse.stop()
    }
    this.#tellFarewell()
  }

  #sendEvents(): void {
    const connection = this.#connection
    if (connection) this.#parts.events.pump((text) => connection.sendEvent(text))
  }

  /** Its heartbeats do not go on. */
  get isStuck(): boolean {
    return this.#pulse.isStuck
  }

  /** What `beacon agent status` is told. */
  status(): LinkStatus {
    const { clock, spool, serverTime } = this.#parts
    const session = this.#connection?.session
    const isConnected = session?.phase === 'open' && session.welcome !== undefined
    const sinceThat = Date.parse(serverTime.stamp().at) - clock.monotonic()
    const time = (ms: number | undefined) =>
      ms === undefined ? null : new Date(Math.max(0, sinceThat + ms)).toISOString()
    return {
      connection: isConnected ? 'connected' : this.#connection ? 'connecting' : 'waiting',
      connected_since: isConnected ? time(this.#connectedAt) : null,
      session_no: isConnected ? session.welcome!.session_no : null,
      lifecycle: this.#lifecycle ?? null,
      heartbeat_interval_ms: session?.welcome ? session.intervalMs : null,
      last_ack_at: time(this.#lastAckAt),
      last_ack_age_ms: this.#lastAckAt === undefined ? null : clock.monotonic() - this.#lastAckAt,
      backlog: spool.size,
      backlog_bytes: spool.bytes,
      dropped: spool.dropped,
      dropped_unreported: spool.unreported,
      last_error: this.#lastError ?? null,
      next_attempt_at: this.#connection ? null : time(this.#nextAttemptAt),
    }
  }

  async #holdSessions(): Promise<void> {
    const { clock, random, log, signal } = this.#parts
    let attempt = 0
    let renewals = 0
    while (!signal.aborted) {
      const token = this.#tokens.toUse
      const ending = await this.#holdOne(token)
      if (signal.aborted) return
      const isRenewal = ending.kind === 'closed' && ending.comesBackAtOnce
      const move = nextMove(ending, isRenewal ? renewals : attempt, random.fraction())
      if (move.kind === 'exit') {
        this.#lastError = move.sentence
        if (!move.isOfToken) throw new AgentExit(move.exitCode, move.sentence)
        if (!this.#tokens.refused(token)) throw new TokenRefused(move.sentence)
        log.info(`${move.sentence}; there is another one to try`)
        continue
      }
      if (move.isPlanned) {
        log.info(move.sentence)
        renewals = move.nextAttempt
      } else {
        this.#lastError = move.sentence
        log.warn(move.sentence)
        attempt = move.nextAttempt
      }
      this.#nextAttemptAt = clock.monotonic() + move.delayMs
      await clock.sleep(move.delayMs, signal).catch(() => {})
    }
  }

  async #holdOne(token: string): Promise<Ending> {
    const { clock, log, network, spool, ownIntervalMs } = this.#parts
    const connection = new Connection({
      clock,
      log,
      network,
      spool,
      url: this.#address(),
      token,
      hello: () => this.#hello(),
      ownIntervalMs,
      listener: {
        welcomed: (welcome, isFirst, answeredInMs) => {
          // Before anything is sent in it: whatever the server stores of this session, the robot knows of it.
          if (isFirst) this.#parts.sessionCount.opened(welcome.session_no)
          if (isFirst) this.#openedWith(token)
          if (isFirst) this.#parts.serverTime.learn(welcome.server_time, answeredInMs)
          this.#welcomed(welcome, isFirst)
        },
        tokenWanted: (reason) => this.#makeToken(reason),
        tokenStored: (tokenHash) => this.#useNextToken(tokenHash),
        intervalChanged: (intervalMs, serverIntervalMs) => {
          this.#pulse.setInterval(intervalMs)
          this.#learn({ heartbeatIntervalMs: serverIntervalMs })
        },
        acknowledged: (from, to) => {
          spool.acknowledge(from, to)
          this.#lastAckAt = clock.monotonic()
          this.#reportDrops()
        },
        eventsAcknowledged: (ids) => {
          this.#parts.events.acknowledge(ids)
          for (const id of ids) spool.reported(id)
          this.#sendEvents()
        },
      },
    })
    this.#connection = connection
    const ending = await connection.ended
    this.#connection = undefined
    const foundNobody = ending.kind === 'unreachable' || (ending.kind === 'refused' && ending.status === 404)
    this.#foundNobody = foundNobody ? this.#foundNobody + 1 : 0
    return ending
  }

  /** The gateway may have moved since the enrolment: the server itself takes robots, too. */
  #address(): string {
    const { gatewayUrl, fallbackUrl, log } = this.#parts
    const beyond = this.#foundNobody - ATTEMPTS_AT_GATEWAY
    if (fallbackUrl === undefined || beyond < 0 || beyond % 2 === 1) return gatewayUrl
    log.info(`nobody is found at ${gatewayUrl}; trying ${fallbackUrl}`)
    return fallbackUrl
  }

  #hello(): HelloFrame {
    const { machine, spool, sequence, sessionCount } = this.#parts
    const { version, hostname, os, platform, arch } = machine
    return {
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      agent: { version, hostname, os, platform, arch },
      instance_id: this.#instanceId,
      resume_seq: spool.oldestSeq ?? sequence.upcoming,
      ...(machine.machineId ? { machine_id: machine.machineId } : {}),
      ...(machine.bootId ? { boot_id: machine.bootId } : {}),
      ...(sessionCount.last === undefined ? {} : { last_session_no: sessionCount.last }),
    }
  }

  #welcomed(welcome: WelcomeFrame, isFirst: boolean): void {
    const { clock, log, spool } = this.#parts
    const before = this.#lifecycle
    this.#lifecycle = welcome.lifecycle
    this.#learn({ name: welcome.name })
    if (isFirst) {
      this.#connectedAt = clock.monotonic()
      this.#reportedAt = -Infinity
      this.#lastError = undefined
      const every = duration(this.#connection?.session?.intervalMs ?? welcome.heartbeat_interval_ms)
      const late = spool.size > 1 ? `, ${spool.size} heartbeats to make up for` : ''
      log.info(`connected as ${welcome.name}, session ${welcome.session_no}, heartbeat every ${every}${late}`)
    }
    // However many robots came back together, or were switched on together, their heartbeats do not go out together.
    if (isFirst) this.#pulse.shift(1 - this.#parts.random.fraction())
    if (isFirst) this.#parts.events.startOver()
    if (welcome.lifecycle === 'pending') {
      // The server takes nothing from before the approval, not later either.
      spool.clear()
      if (before !== 'pending') log.info('waiting for an operator to approve this robot')
      return
    }
    if (before === 'pending') {
      log.info('approved')
      // The first heartbeat that is taken need not wait for its turn.
      this.#pulse.stop()
    }
    if (before !== 'pending' && before !== undefined && before !== welcome.lifecycle)
      log.info(`this robot is now ${welcome.lifecycle}`)
    if (this.#parts.signal.aborted) return
    this.#pulse.start()
    // Nor do those of robots that were approved together, from the second on.
    if (before === 'pending') this.#pulse.shift(1 - this.#parts.random.fraction())
  }

  #keepTokens({ current, next }: Tokens): void {
    const { serverTime, keepIdentity } = this.#parts
    const isNew = next !== undefined
    const tokenMadeAt = isNew ? serverTime.stamp().at : this.#identity.tokenMadeAt
    const changed = { ...this.#identity, robotToken: current, nextToken: next, tokenMadeAt }
    // A new token is written twice, so that the copy of the file holds it, too: the old one may soon be worth nothing.
    for (let copy = 0; copy < (isNew ? 2 : 1); copy++) keepIdentity(changed)
    this.#identity = changed
  }

  #openedWith(token: string): void {
    const { log } = this.#parts
    try {
      if (this.#tokens.opened(token)) log.info('this robot has a new token; the one before is void')
    } catch (error) {
      if (!(error instanceof AgentExit)) throw error
      log.warn(`${error.message}; the tokens stay as they were written down before`)
    }
  }

  /** Makes the next token, writes it down, and only then tells its hash. */
  #makeToken(reason: string): void {
    const { log, random } = this.#parts
    try {
      const next = this.#tokens.prepareNext(() => mintCheckedToken('robot', random.bytes))
      log.info(`the server wants a new token${reason ? ` (${reason})` : ''}: it is made and written down`)
      this.#connection?.nameToken(hashToken(next).toString('hex'))
    } catch (error) {
      if (!(error instanceof AgentExit)) throw error
      log.warn(`no new token, for it could not be kept: ${error.message}`)
    }
  }

  #useNextToken(tokenHash: string): void {
    const { next } = this.#tokens.tokens
    if (next !== undefined && hashToken(next).toString('hex') === tokenHash) this.#connection?.renew()
  }

  /** Keeps what the server says when it is new. */
  #learn(news: Partial<Pick<Identity, 'name' | 'heartbeatIntervalMs'>>): void {
    const changed = { ...this.#identity, ...news }
    if (!changed.name) return
    if (
      changed.name === this.#identity.name &&
      changed.heartbeatIntervalMs === this.#identity.heartbeatIntervalMs
    )
      return
    this.#identity = changed
    try {
      this.#parts.keepIdentity(changed)
    } catch (error) {
      if (!(error instanceof AgentExit)) throw error
      this.#parts.log.warn(error.message)
    }
  }

  async #beat(): Promise<void> {
    const { spool, sequence, serverTime } = this.#parts
    const reading = await this.#parts.readSensors()
    if (!this.#pulse.isRunning) return
    const { moment, ...stamp } = serverTime.stamp()
    const { at, ...marks } = marked(stamp)
    const local = this.#parts.readLocal()
    const judgement = judge(readingToJudge(reading, local.software), this.#standingFaults(), at)
    this.#noteFaults(judgement, moment ? { ...stamp, moment } : stamp)
    const seq = sequence.next()
    this.#connection?.measureRoundTrip()
    const body = mergeSources({
      reading,
      judgement,
      ...local,
      roundTripMs: this.#connection?.roundTripMs,
    })
    const { text, isCut } = heartbeatText(seq, at, { ...body, ...marks }, moment ? MARK_BYTES : 0)
    this.#tellCut(isCut)
    this.#sendEvents()
    if (this.#lifecycle === 'pending') {
      // Not taken, and so not kept; but without a word from it the server would call this robot silent.
      this.#connection?.sendUnkept(text)
      return
    }
    spool.add({ seq, text, moment })
    this.#tellDropped()
    this.#connection?.beat(seq)
  }

  /** With the times at which they began as they are known now. */
  #standingFaults(): Judgement['faults'] {
    return this.#faults.map((fault) => {
      const since = this.#faultsSince.get(fault.code)
      return since ? { ...fault, since: this.#parts.serverTime.timeOf(since) } : fault
    })
  }

  #noteFaults({ faults }: Judgement, now: Stamp): void {
    const standing = new Set(faults.map(({ code }) => code))
    for (const code of this.#faultsSince.keys()) if (!standing.has(code)) this.#faultsSince.delete(code)
    for (const code of standing) if (!this.#faultsSince.has(code)) this.#faultsSince.set(code, now)
    this.#faults = faults
  }

  /** Tells the server of heartbeats that it will never get, as an event that waits and comes again as all others do. */
  #reportDrops(): void {
    const { clock, spool, events, random, serverTime } = this.#parts
    if (clock.monotonic() - this.#reportedAt < REPORT_PAUSE_MS) return
    const report = spool.report(() => `heartbeats-dropped-${random.bytes(12).toString('hex')}`)
    if (!report) return
    this.#reportedAt = clock.monotonic()
    const { id, count, first, last } = report
    events.keepOwn({
      type: 'event',
      id,
      ...marked(serverTime.stamp()),
      level: 'warn',
      code: `${OWN_EVENTS}heartbeats_dropped`,
      message:
        count === 1
          ? 'a heartbeat was lost before it could be sent'
          : `${count} heartbeats were lost before they could be sent`,
      data: { dropped: count, ...(first ? { from: first.at } : {}), ...(last ? { to: last.at } : {}) },
    })
  }

  #tellCut(isCut: boolean): void {
    if (isCut && !this.#isCut)
      this.#parts.log.warn(
        'the robot tells of more than a heartbeat can hold: messages of faults are cut first',
      )
    this.#isCut = isCut
  }

  #tellDropped(): void {
    const { dropped, size } = this.#parts.spool
    if (dropped === 0 || (this.#droppedTold > 0 && dropped < this.#droppedTold + 1_000)) return
    this.#droppedTold = dropped
    this.#parts.log.warn(
      `${dropped} heartbeats are lost so far, for want of room or to damage; ${size} wait for the server`,
    )
  }

  #tellFarewell(): void {
    const { log, spool } = this.#parts
    log.info(spool.size === 0 ? 'stopped' : `stopped; ${spool.size} heartbeats were not acknowledged`)
  }
}
