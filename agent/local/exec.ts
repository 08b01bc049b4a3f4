import type { Log } from '../log.ts'
import { withoutSecrets } from '../log.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import type { ServerTime, Stamp } from '../server-time.ts'
import { printable } from '../text.ts'
import { type ExecFile, readExecFolder, whyNot } from './exec-files.ts'
import { EXEC_BOUNDS, type ExecBounds, type ExecOutcome, runProgram } from './exec-run.ts'
import type { Fault, RobotSoftware } from './software.ts'

export interface ExecParts {
  readonly folder: string
  readonly defaultEveryMs: number
  readonly env: Record<string, string>
  readonly ownUid: number | undefined
  readonly software: RobotSoftware
  readonly clock: Clock
  readonly serverTime: Pick<ServerTime, 'stamp' | 'timeOf'>
  readonly random: Random
  readonly log: Log
  readonly bounds?: ExecBounds
}

/** What `status` tells of one program. */
export interface ExecStatus {
  readonly name: string
  readonly every_s: number
  readonly running: boolean
  readonly runs: number
  /** In a row, up to now. */
  readonly failures: number
  readonly last_run_at: string | null
  readonly last_error: string | null
}

interface Program {
  file: ExecFile
  dueAt: number
  isRunning: boolean
  runs: number
  failures: number
  failingSince: Stamp | undefined
  lastRunAt: Stamp | undefined
  lastError: string | undefined
}

/** The folder is looked at so often: programs may be put into it and taken out of it at any time. */
const LOOK_EVERY_MS = 10_000
const MAX_TOGETHER = 4
/** Failures in a row that make a fault. */
export const FAILURES_TO_FAULT = 3
/** As many as the robot's faults leave room for beside those of the sensors. */
const MAX_FAULTS_TOLD = 4
const MAX_SKIPPED_TOLD = 8

/**
 * Runs the programs of the exec folder, each at its interval, never one of them twice at a time and few together. What
 * they say on standard output are lines for the robot's software.
 */
export class ExecRunner {
  readonly #parts: ExecParts
  readonly #programs = new Map<string, Program>()
  readonly #ending = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  #skipped: readonly { readonly name: string; readonly why: string }[] = []
  readonly #skippedTold = new Set<string>()
  #timer: Timer | undefined
  #lookAt = 0

  constructor(parts: ExecParts) {
    this.#parts = parts
  }

  start(): void {
    this.#lookAt = this.#parts.clock.monotonic()
    this.#turn()
  }

  /** Kills what runs, and waits for it. */
  async stop(): Promise<void> {
    this.#ending.abort()
    this.#timer?.cancel()
    await Promise.all(this.#underWay)
  }

  /** Programs that fail again and again. */
  get faults(): Fault[] {
    return [...this.#programs.values()]
      .filter((program) => program.failures >= FAILURES_TO_FAULT)
      .slice(0, MAX_FAULTS_TOLD)
      .map(({ file, failures, failingSince, lastError }) => ({
        code: `exec:${file.name}`.slice(0, 64),
        level: 'warn',
        message: `${file.name} failed ${failures} times in a row: ${lastError}`.slice(0, 512).toWellFormed(),
        since: this.#parts.serverTime.timeOf(failingSince!),
      }))
  }

  get status(): {
    readonly programs: readonly ExecStatus[]
    readonly skipped: readonly { name: string; why: string }[]
  } {
    const programs = [...this.#programs.values()].map((program) => ({
      name: program.file.name,
      every_s: program.file.everyMs / 1_000,
      running: program.isRunning,
      runs: program.runs,
      failures: program.failures,
      last_run_at: program.lastRunAt ? this.#parts.serverTime.timeOf(program.lastRunAt) : null,
      last_error: program.lastError ?? null,
    }))
    return { programs, skipped: this.#skipped.slice(0, MAX_SKIPPED_TOLD) }
  }

  #turn(): void {
    const { clock } = this.#parts
    this.#timer?.cancel()
    if (this.#ending.signal.aborted) return
    const now = clock.monotonic()
    if (now >= this.#lookAt) {
      this.#lookAt = now + LOOK_EVERY_MS
      this.#look()
    }
    const due = [...this.#programs.values()]
      .filter((program) => !program.isRunning && program.dueAt <= now)
      .sort((one, other) => one.dueAt - other.dueAt)
    for (const program of due.slice(0, Math.max(0, MAX_TOGETHER - this.#underWay.size))) this.#run(program)
    const isFull = this.#underWay.size >= MAX_TOGETHER
    const times = [...this.#programs.values()]
      .filter((program) => !program.isRunning && !isFull)
      .map((program) => program.dueAt)
    this.#timer = clock.after(Math.max(0, Math.min(this.#lookAt, ...times) - now), () => this.#turn())
  }

  #look(): void {
    const { folder, defaultEveryMs, ownUid, clock, random, log } = this.#parts
    const { files, skipped } = readExecFolder(folder, defaultEveryMs, ownUid)
    this.#skipped = skipped
    for (const { name, why } of skipped) {
      if (this.#skippedTold.has(name) || this.#skippedTold.size > 100) continue
      this.#skippedTold.add(name)
      log.warn(`not run: ${name} ${why}`)
    }
    const names = new Set(files.map((file) => file.name))
    for (const [name, program] of this.#programs)
      if (!names.has(name) && !program.isRunning) this.#programs.delete(name)
    for (const file of files) {
      const known = this.#programs.get(file.name)
      if (known) {
        known.file = file
        continue
      }
      // Not all at the same moment, and each soon.
      const dueAt = clock.monotonic() + random.fraction() * Math.min(file.everyMs, 5_000)
      this.#programs.set(file.name, {
        file,
        dueAt,
        isRunning: false,
        runs: 0,
        failures: 0,
        failingSince: undefined,
        lastRunAt: undefined,
        lastError: undefined,
      })
    }
  }

  #run(program: Program): void {
    const { clock, serverTime } = this.#parts
    program.isRunning = true
    program.runs++
    program.lastRunAt = serverTime.stamp()
    const run = this.#outcomeOf(program.file).then((outcome) => {
      this.#underWay.delete(run)
      program.isRunning = false
      // Runs that were missed are not made up for.
      const missed = Math.floor(Math.max(0, clock.monotonic() - program.dueAt) / program.file.everyMs)
      program.dueAt += (missed + 1) * program.file.everyMs
      if (!this.#ending.signal.aborted) this.#judge(program, outcome)
      this.#turn()
    })
    this.#underWay.add(run)
  }

  async #outcomeOf({ path, name }: ExecFile): Promise<ExecOutcome> {
    const { env, ownUid, clock, bounds = EXEC_BOUNDS } = this.#parts
    const why = whyNot(path, ownUid)
    if (why) return { failure: `${name} ${why}`, lines: [] }
    try {
      return await runProgram(path, env, clock, this.#ending.signal, bounds)
    } catch (error) {
      return { failure: `cannot be started: ${String(error)}`, lines: [] }
    }
  }

  /** What a failed program said does not count: it may be half of something. */
  #judge(program: Program, { failure, lines }: ExecOutcome): void {
    const { log, serverTime } = this.#parts
    const error = failure ?? this.#firstRefusal(lines)
    if (error === undefined) {
      if (program.failures > 0) log.info(`${program.file.name} works again`)
      program.failures = 0
      program.failingSince = undefined
      program.lastError = undefined
      return
    }
    program.lastError = printable(withoutSecrets(error))
    program.failingSince ??= serverTime.stamp()
    program.failures++
    if (program.failures === 1 || program.failures === FAILURES_TO_FAULT)
      log.warn(`${program.file.name} failed: ${program.lastError}`)
  }

  #firstRefusal(lines: readonly string[]): string | undefined {
    const { software } = this.#parts
    const most = software.limits.connectionLines.burst
    let first = lines.length > most ? `said more than ${most} lines; the others were not read` : undefined
    for (const [index, line] of lines.slice(0, most).entries()) {
      const isTooLong = Buffer.byteLength(line) > software.limits.lineBytes
      const answer = isTooLong ? software.tooLong() : software.accept(line)
      if (!answer.ok) first ??= `line ${index + 1}: ${answer.error}`
    }
    return first
  }
}
