import { join } from 'node:path'
import type { EventKeeper } from '../events.ts'
import type { Log } from '../log.ts'
import type { Places } from '../places.ts'
import type { Clock, Random } from '../runtime.ts'
import type { ServerTime } from '../server-time.ts'
import type { Environment } from '../settings.ts'
import { describeError } from '../text.ts'
import { ExecRunner } from './exec.ts'
import { execEnvironment } from './exec-environment.ts'
import { FaultFile } from './fault-store.ts'
import { OWN_METRICS } from './limits.ts'
import type { LocalSettings } from './settings.ts'
import { LocalSocket } from './socket.ts'
import { type Fault, type Refusals, RobotSoftware, type SoftwareReading } from './software.ts'
import type { LocalStatus } from './status.ts'

/** What the robot's side of things adds to a heartbeat. */
export interface LocalReading {
  readonly software: SoftwareReading
  /** What the agent finds wrong with it. */
  readonly agentFaults: readonly Fault[]
  readonly agentMetrics: Readonly<Record<string, number>>
}

export interface LocalParts {
  readonly settings: LocalSettings
  readonly places: Places
  readonly bootId: string | undefined
  readonly env: Environment
  readonly clock: Clock
  readonly serverTime: ServerTime
  readonly random: Random
  readonly log: Log
  readonly events: EventKeeper
}

/** The agent's ear for the robot's own software: a socket and a folder of programs, and what they told. */
export class Local {
  readonly #parts: LocalParts
  readonly #faults: FaultFile
  readonly #software: RobotSoftware
  #socket: LocalSocket | undefined
  #exec: ExecRunner | undefined

  constructor(parts: LocalParts) {
    const { places, bootId, clock, serverTime, random, log, events } = parts
    this.#parts = parts
    this.#faults = new FaultFile(join(places.stateDir, `${places.stem}.faults`), bootId, clock, log)
    this.#software = new RobotSoftware({ clock, serverTime, random, events, faultStore: this.#faults })
  }

  /** Opens the socket and starts the programs. A socket that cannot be opened costs itself, not the connection. */
  async start(): Promise<void> {
    const { settings, env, clock, serverTime, random, log } = this.#parts
    const { socket: path, execFolder, execEveryMs } = settings
    const software = this.#software
    if (path) {
      try {
        this.#socket = await LocalSocket.listen({ path, software, clock, random, log })
      } catch (error) {
        log.warn(`the robot's software cannot reach the agent: ${describeError(error)}`)
      }
    }
    if (!execFolder) return
    this.#exec = new ExecRunner({
      folder: execFolder,
      defaultEveryMs: execEveryMs,
      env: execEnvironment(env, this.#socket?.path),
      ownUid: process.getuid?.(),
      software,
      clock,
      serverTime,
      random,
      log,
    })
    this.#exec.start()
  }

  /** Kills the programs, closes the socket, and writes down what stands. */
  async stop(): Promise<void> {
    await Promise.all([this.#exec?.stop(), this.#socket?.close()])
    this.#faults.stop()
  }

  read(): LocalReading {
    const refused = refusedForTooMuch(this.#software.refusals)
    return {
      software: this.#software.read(),
      agentFaults: this.#exec?.faults ?? [],
      agentMetrics: refused > 0 ? { [`${OWN_METRICS}refused`]: refused } : {},
    }
  }

  status(): LocalStatus {
    const { settings, events } = this.#parts
    const { metrics = {}, faults = [] } = this.#software.read()
    return {
      socket: this.#socket?.path ?? null,
      connections: this.#socket?.connections ?? 0,
      metrics: Object.keys(metrics).length,
      faults: faults.length,
      events_waiting: events.waitingEvents,
      events_dropped: events.refusedEvents,
      refused: this.#software.refusals,
      exec: {
        folder: settings.execFolder ?? null,
        ...(this.#exec?.status ?? { programs: [], skipped: [] }),
      },
    }
  }
}

function refusedForTooMuch(refusals: Refusals): number {
  const { lines, metrics, faults, events, connections } = refusals
  return lines + metrics + faults + events + connections
}
