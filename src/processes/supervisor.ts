import type { Registry } from 'prom-client'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import { type Door, whoListens } from './doors.ts'
import type { FromProcess, GatewaySettings, Series, ToProcess } from './messages.ts'
import { Reports } from './reports.ts'
import { EMPTY_SLOT, type Slot, type SlotEffect, type SlotEvent, step } from './slot.ts'

/** A gateway process, as whoever started it sees it. */
export interface GatewayProcess {
  readonly pid: number | undefined
  /** Messages to a process that is gone are dropped. */
  send(message: ToProcess): void
  /** Ends it at once, whatever it does. */
  kill(): void
}

export interface LaunchHandlers {
  message(message: FromProcess): void
  /** Comes exactly once. `how`: exit code or signal, for people. */
  exited(how: string): void
}

export type Launch = (handlers: LaunchHandlers) => GatewayProcess

export interface SupervisorParts {
  readonly processes: number
  /** How many sessions all of them together open in a second; 0: as many as come. */
  readonly sessionsPerSecond: number
  readonly launch: Launch
  /** What a process is told; `serverId` is to be a new one each time. */
  readonly settingsFor: (name: string) => GatewaySettings
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Pick<
    Metrics,
    'gatewayProcesses' | 'gatewayProcessesListening' | 'gatewayProcessExits' | 'gatewayReportsMissed'
  >
  /** A process that had a server's row ended: its robots have to be waited for. */
  readonly onServerGone: (serverId: string) => void
  /** Robots were turned away for their tokens. */
  readonly onRefusals: (entries: Extract<FromProcess, { type: 'refusals' }>['entries']) => void
}

/** Why the gateway could not start, with the `code` that Node gives such errors. */
export class GatewayStartError extends Error {
  readonly code: string | undefined
  constructor(message: string, code: string | undefined) {
    super(message)
    this.name = 'GatewayStartError'
    this.code = code
  }
}

const TICK_MS = 500
/** How long all together may take to send their robots away and store what they sent. */
const DRAIN_WITHIN_MS = 25_000
const REPORT_WITHIN_MS = 1_000
/** A process that is started within this time counts as room already. */
const SOON_MS = 2_000

/** A place and whoever runs there now. */
interface Place {
  readonly name: string
  slot: Slot
  process: GatewayProcess | undefined
  serverId: string | undefined
  hasRoom: boolean
  /** Whether the process is on the shared port, as it said last. */
  listens: boolean
  /** Whether it is to be there, as it was told last. */
  isToListen: boolean
  /** Whether it was told that others have room for whom it turns away. */
  knowsOfRoom: boolean
  /** Its share of the sessions that are opened in a second, as it was told last. */
  share: number
}

/**
 * Keeps n gateway processes running: starts them, notices those that crash or hang, and replaces them. What is decided
 * stands in slot.ts; here it is carried out.
 */
export class Supervisor {
  readonly #parts: SupervisorParts
  readonly #places: readonly Place[]
  readonly #reports = new Reports()
  readonly #questions = new Map<number, (name: string, series: Series) => void>()
  #lastQuestion = 0
  #goneServers: readonly string[] = []
  #expectedRobots = 0
  /** Milliseconds during which this process was awake. */
  #awakeMs = 0
  #lookedAt = 0
  #timer: Timer | undefined
  /** Until all processes take robots for the first time. */
  #starting: { readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined
  #stopping: Promise<void> | undefined
  #over: (() => void) | undefined

  constructor(parts: SupervisorParts) {
    this.#parts = parts
    this.#places = Array.from({ length: parts.processes }, (_, index) => ({
      name: `gateway-${index + 1}`,
      slot: EMPTY_SLOT,
      process: undefined,
      serverId: undefined,
      hasRoom: true,
      listens: false,
      isToListen: true,
      knowsOfRoom: false,
      share: parts.sessionsPerSecond / parts.processes,
    }))
  }

  /** Starts all processes; rejects with a GatewayStartError, with none left, when one of them cannot. */
  async start(): Promise<void> {
    const { clock } = this.#parts
    this.#lookedAt = clock.monotonic()
    const ready = new Promise<void>((resolve, reject) => {
      this.#starting = { resolve, reject }
    })
    this.#timer = clock.every(TICK_MS, () => this.#tick())
    for (const place of this.#places) this.#step(place, { type: 'tick' })
    try {
      await ready
    } catch (error) {
      await this.stop()
      throw error
    } finally {
      this.#starting = undefined
    }
  }

  /** Processes that take robots. */
  get ready(): number {
    return this.#places.filter(({ slot }) => slot.mode === 'ready' && !slot.doomed).length
  }

  /** The rows of `servers` that belong to processes that run. */
  get serverIds(): string[] {
    return this.#places.flatMap(({ serverId }) => serverId ?? [])
  }

  /** Tells all processes which servers are gone, and those that are still to come. */
  setGoneServers(serverIds: readonly string[]): void {
    this.#goneServers = serverIds
    for (const { process, slot } of this.#places)
      if (slot.mode === 'ready') process?.send({ type: 'servers_gone', serverIds })
  }

  /** Tells all processes how many robots may come back at once, and those that are still to come. */
  setExpectedRobots(robots: number): void {
    this.#expectedRobots = robots
    for (const { process, slot } of this.#places)
      if (slot.mode === 'ready') process?.send({ type: 'expected_robots', robots })
  }

  /**
   * What all processes together have counted, and what each has of its own, in the text format, together with this
   * process's own series. One that does not answer in time is left out and counted; what it had counted before is not
   * taken back.
   */
  async seriesText(own: Registry, ownName: string): Promise<string> {
    return this.#reports.text(own, ownName, await this.#askForReports())
  }

  /** Answers with the names of those that answered in time. */
  async #askForReports(): Promise<Set<string>> {
    const { clock, metrics } = this.#parts
    const asked = this.#places.filter(({ slot }) => slot.mode === 'ready' && !slot.doomed)
    const answered = new Set<string>()
    if (asked.length === 0) return answered
    const question = ++this.#lastQuestion
    await new Promise<void>((resolve) => {
      const timer = clock.after(REPORT_WITHIN_MS, resolve)
      this.#questions.set(question, (name, series) => {
        this.#reports.take(name, series)
        answered.add(name)
        if (answered.size < asked.length) return
        timer.cancel()
        resolve()
      })
      for (const { process } of asked) process?.send({ type: 'report', question })
    })
    this.#questions.delete(question)
    if (answered.size < asked.length) metrics.gatewayReportsMissed.inc(asked.length - answered.size)
    return answered
  }

  /** Drains all processes and waits until they have ended; those that take too long are killed. */
  stop(): Promise<void> {
    this.#stopping ??= new Promise<void>((resolve) => {
      this.#over = () => {
        this.#timer?.cancel()
        resolve()
      }
      for (const place of this.#places) this.#step(place, { type: 'drain', withinMs: DRAIN_WITHIN_MS })
      this.#sharePort()
      this.#lookIfOver()
    })
    return this.#stopping
  }

  #tick(): void {
    const now = this.#parts.clock.monotonic()
    // A machine that slept, or a loop of our own that stood still: nobody could have answered, or been heard.
    this.#awakeMs += Math.min(now - this.#lookedAt, 2 * TICK_MS)
    this.#lookedAt = now
    for (const place of this.#places) this.#step(place, { type: 'tick' })
    this.#sharePort()
  }

  #step(place: Place, event: SlotEvent): void {
    const { slot, effects } = step(place.slot, event, this.#awakeMs)
    place.slot = slot
    for (const effect of effects) this.#carryOut(place, effect)
    this.#count()
  }

  #carryOut(place: Place, effect: SlotEffect): void {
    const { log, metrics } = this.#parts
    const about = { process: place.name, pid: place.process?.pid }
    switch (effect.type) {
      case 'start':
        this.#launch(place)
        break
      case 'ping':
        place.process?.send({ type: 'ping' })
        break
      case 'drain':
        place.process?.send({ type: 'drain' })
        break
      case 'kill':
        log.error({ ...about, reason: effect.reason }, 'a gateway process does not answer; killing it')
        place.process?.kill()
        break
      case 'lost':
        metrics.gatewayProcessExits.inc({ reason: effect.reason })
        break
    }
  }

  #launch(place: Place): void {
    const settings = this.#parts.settingsFor(place.name)
    const serverId = settings.serverId
    place.serverId = serverId
    place.hasRoom = true
    place.listens = false
    place.isToListen = true
    place.knowsOfRoom = false
    place.share = this.#parts.sessionsPerSecond / this.#parts.processes
    const process = this.#parts.launch({
      message: (message) => {
        // What is left of one that has ended is of no use any more.
        if (place.process === process) this.#onMessage(place, process, settings, message)
      },
      exited: (how) => this.#onExit(place, serverId, how),
    })
    place.process = process
  }

  #onMessage(place: Place, process: GatewayProcess, settings: GatewaySettings, message: FromProcess): void {
    const { log, onRefusals } = this.#parts
    switch (message.type) {
      case 'hello':
        process.send({
          type: 'settings',
          settings: { ...settings, goneServers: this.#goneServers, expectedRobots: this.#expectedRobots },
        })
        break
      case 'ready':
        this.#step(place, { type: 'ready' })
        place.listens = true
        this.#sharePort()
        // What has changed since it was told.
        process.send({ type: 'servers_gone', serverIds: this.#goneServers })
        process.send({ type: 'expected_robots', robots: this.#expectedRobots })
        log.info({ process: place.name, pid: process.pid }, 'a gateway process takes robots')
        if (this.ready === this.#places.length) this.#starting?.resolve()
        break
      case 'failed':
        log.error(
          { process: place.name, pid: process.pid, reason: message.message },
          'a gateway process cannot start',
        )
        this.#starting?.reject(new GatewayStartError(message.message, message.code))
        break
      case 'pong':
        this.#step(place, { type: 'pong' })
        break
      case 'room':
        place.hasRoom = message.hasRoom
        this.#sharePort()
        break
      case 'listening':
        place.listens = message.listening
        this.#sharePort()
        break
      case 'report':
        this.#questions.get(message.question)?.(place.name, message.series)
        break
      case 'refusals':
        onRefusals(message.entries)
        break
    }
  }

  #onExit(place: Place, serverId: string, how: string): void {
    const { log, random, onServerGone } = this.#parts
    const pid = place.process?.pid
    place.process = undefined
    place.serverId = undefined
    this.#reports.settle(place.name)
    const expected = place.slot.mode === 'draining' && !place.slot.doomed
    this.#step(place, { type: 'exited', fraction: random.fraction() })
    if (!expected) {
      log.error({ process: place.name, pid, how }, 'a gateway process has ended')
      onServerGone(serverId)
      this.#starting?.reject(new GatewayStartError(`a gateway process ended at its start: ${how}`, undefined))
    }
    // The next one at once, where there is to be no pause; at the start there is none.
    if (!this.#starting && !this.#stopping) this.#step(place, { type: 'tick' })
    this.#sharePort()
    this.#lookIfOver()
  }

  /** Tells processes to leave the shared port, or to come back, where who has room has changed. */
  #sharePort(): void {
    const running = this.#places.flatMap((place) => {
      const state = doorState(place)
      return state === undefined
        ? []
        : [{ place, door: { state, listens: place.listens && place.isToListen } }]
    })
    const listen = whoListens(running.map(({ door }) => door))
    const withRoom = this.#places.filter((place) => this.#isRoom(place))
    running.forEach(({ place }, index) => {
      const isToListen = listen[index]!
      // Known before it is full: then hundreds may come at once.
      const elsewhere = withRoom.some((other) => other !== place)
      if (isToListen === place.isToListen && elsewhere === place.knowsOfRoom) return
      place.isToListen = isToListen
      place.knowsOfRoom = elsewhere
      place.process?.send({ type: 'port', listen: isToListen, elsewhere })
    })
    this.#shareRate(running.flatMap(({ place }) => (place.isToListen ? [place] : [])))
    this.#parts.metrics.gatewayProcessesListening.set(
      running.filter(({ place }) => place.listens && place.isToListen).length,
    )
  }

  /** Those on the port take in what all may: robots come to nobody else. */
  #shareRate(listening: readonly Place[]): void {
    if (this.#starting || this.#stopping) return
    const share = this.#parts.sessionsPerSecond / listening.length
    for (const place of listening) {
      if (place.share === share) continue
      place.share = share
      place.process?.send({ type: 'rate', sessionsPerSecond: share })
    }
  }

  /** Whether robots find room at a place, now or in a moment. */
  #isRoom({ slot, hasRoom }: Place): boolean {
    switch (slot.mode) {
      case 'waiting':
        return slot.until - this.#awakeMs <= SOON_MS
      case 'starting':
        return !slot.doomed
      case 'ready':
        return hasRoom && !slot.doomed
      default:
        return false
    }
  }

  #lookIfOver(): void {
    if (this.#places.every(({ slot }) => slot.mode === 'over')) this.#over?.()
  }

  #count(): void {
    const counts = { waiting: 0, starting: 0, ready: 0, draining: 0 }
    for (const { slot } of this.#places) if (slot.mode !== 'over') counts[slot.mode] += 1
    for (const [state, count] of Object.entries(counts))
      this.#parts.metrics.gatewayProcesses.set({ state: state as keyof typeof counts }, count)
  }
}

/** Undefined where nobody runs who could be on the port, or who could hear that it should. */
function doorState({ slot, hasRoom }: Place): Door['state'] | undefined {
  if (slot.mode === 'draining') return slot.doomed ? undefined : 'leaving'
  if (slot.mode !== 'ready' || slot.doomed) return undefined
  return hasRoom ? 'room' : 'full'
}
