import type { Log } from '../observe/log.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import { type Binaries, findBinaries } from './embedded-binaries.ts'
import { EmbeddedPostgresError } from './embedded-error.ts'
import { type EmbeddedFolder, prepareFolder, releaseSocketFolder } from './embedded-folder.ts'
import { type Ownership, socketUrl, tryOwn } from './embedded-owner.ts'
import {
  ensureCluster,
  findPostmaster,
  lastWords,
  type Settings,
  type StartedPostmaster,
  startPostmaster,
  stopPostmaster,
  trimLog,
} from './embedded-postmaster.ts'
import { isRunning, sendSignal } from './embedded-process.ts'

export { EmbeddedPostgresError } from './embedded-error.ts'

export interface EmbeddedOptions {
  readonly dataDir: string
  readonly log: Log
  readonly clock: Clock
  readonly random: Random
  /** PostgreSQL's own settings, over ours. */
  readonly settings?: Settings
  /** Called once when the data folder has become another server's: this one has to stop. */
  readonly onLost?: (error: EmbeddedPostgresError) => void
}

export interface EmbeddedPostgres {
  /** Of the database `beacon`, over a socket that only this user and root reach. Stays the same over restarts. */
  readonly url: string
  stop(): Promise<void>
}

const POLL_MS = 25
const FIRST_BACKOFF_MS = 100
const LONGEST_BACKOFF_MS = 5_000
/** How long the first start may fail for a reason that passes, and how often for any other. */
const PASSING_FAILURE_MS = 30_000
const MAX_FAILED_STARTS = 2
/** What processes of a killed PostgreSQL, or one that is still stopping, stand in the way with. */
const PASSING_FAILURE = /shared memory block|lock file/
/** How long a lock whose holder is dead may take to be let go. */
const DEAD_HOLDER_MS = 5_000
const FIRST_WAITING_WORD_MS = 2_000
const WAITING_WORD_MS = 10_000
const LOG_CHECK_MS = 3_600_000

/**
 * Runs a private, real PostgreSQL in the data folder and keeps it running. One server owns a data folder at a time; a
 * PostgreSQL that a killed server left behind is taken over.
 */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const settings = options.settings ?? {}
  const folder = await prepareFolder(options.dataDir, options.random)
  const binaries = await findBinaries(folder.home, folder.user)
  await ensureCluster(folder, binaries, settings, options.random)
  await trimLog(folder)
  const keeper = new Keeper(options, folder, binaries, settings)
  await keeper.start()
  return { url: socketUrl(folder, 'beacon'), stop: () => keeper.stop() }
}

/**
 * Owns the data folder from start to stop. The ownership's connection is the one sign of life: while it stands,
 * PostgreSQL runs and the folder is ours; when it ends, for whatever reason, `#own` runs again. Always in one of these
 * states: owning (`#ownership` set), recovering (neither, `#recovery` pending), lost (`#lost`), stopping (`#stopping` set).
 */
class Keeper {
  readonly #options: EmbeddedOptions
  readonly #folder: EmbeddedFolder
  readonly #binaries: Binaries
  readonly #settings: Settings
  readonly #abort = new AbortController()
  #ownership: Ownership | undefined
  /** Another server has the folder; its PostgreSQL is none of our business, even if we started it. */
  #lost = false
  #started: StartedPostmaster | undefined
  #recovery: Promise<void> | undefined
  #stopping: Promise<void> | undefined
  #logCheck: Timer | undefined

  constructor(options: EmbeddedOptions, folder: EmbeddedFolder, binaries: Binaries, settings: Settings) {
    this.#options = options
    this.#folder = folder
    this.#binaries = binaries
    this.#settings = settings
  }

  async start(): Promise<void> {
    try {
      await this.#own({ giveUp: true })
      if (this.#allowsTooFew()) await this.#restart()
    } catch (error) {
      if (this.#lost) await this.#endLatecomer()
      else await this.#stopPostmaster()
      throw error
    }
    this.#logCheck = this.#options.clock.every(LOG_CHECK_MS, () => {
      trimLog(this.#folder).catch((error: unknown) =>
        this.#options.log.warn({ err: error }, 'cannot trim the log of PostgreSQL'),
      )
    })
  }

  /** One that a killed server left behind allows as many connections as that server wanted. */
  #allowsTooFew(): boolean {
    const { max_connections: wanted } = this.#settings
    return (
      wanted !== undefined && this.#ownership !== undefined && this.#ownership.maxConnections < Number(wanted)
    )
  }

  async #restart(): Promise<void> {
    this.#options.log.info('PostgreSQL allows too few connections; starting it again')
    const ended = this.#ownership?.ended
    this.#ownership = undefined
    await this.#stopPostmaster()
    await ended
    this.#started = undefined
    await this.#own({ giveUp: true })
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** Comes back when the folder is ours and PostgreSQL answers; throws EmbeddedPostgresError when that cannot be. */
  async #own({ giveUp }: { giveUp: boolean }): Promise<void> {
    const { clock, log } = this.#options
    const begun = clock.monotonic()
    let nextWord = begun + FIRST_WAITING_WORD_MS
    let failedStarts = 0
    for (;;) {
      const attempt = await tryOwn(this.#folder)
      let waitMs = POLL_MS
      switch (attempt.outcome) {
        case 'owner':
          this.#hold(attempt.ownership)
          return
        case 'refused':
          throw new EmbeddedPostgresError(
            `${this.#folder.dataDir}/postgres-password does not open the PostgreSQL of that folder: ${attempt.error.message}`,
            attempt.error,
          )
        case 'taken': {
          const isDead = attempt.holder !== undefined && !(await isRunning(attempt.holder))
          if (isDead && clock.monotonic() - begun < DEAD_HOLDER_MS) break
          this.#lost = true
          throw this.#takenBy(attempt.holder)
        }
        case 'not_yet':
          // Recovery after a crash may take minutes, and nobody shall wonder what is going on.
          if (clock.monotonic() > nextWord) {
            log.info({ reason: attempt.error.message }, 'waiting for PostgreSQL')
            nextWord += WAITING_WORD_MS
          }
          break
        case 'absent': {
          const failure = await this.#startUnlessRunning()
          if (failure === undefined) break
          failedStarts += 1
          const isLate = PASSING_FAILURE.test(failure)
            ? clock.monotonic() - begun > PASSING_FAILURE_MS
            : failedStarts >= MAX_FAILED_STARTS
          if (giveUp && isLate)
            throw new EmbeddedPostgresError(
              `PostgreSQL does not start in ${this.#folder.dataDir}: ${failure} (its log is ${this.#folder.log})`,
            )
          log.warn({ reason: failure }, 'PostgreSQL did not start; trying again')
          waitMs = Math.min(FIRST_BACKOFF_MS * 2 ** failedStarts, LONGEST_BACKOFF_MS)
        }
      }
      await clock.sleep(waitMs, this.#abort.signal)
    }
  }

  /** Answers why the last one we started has ended, if it has; otherwise sees to it that one runs. */
  async #startUnlessRunning(): Promise<string | undefined> {
    const ended = this.#started?.ended()
    if (this.#started && ended === undefined) return undefined
    const last = this.#started
    this.#started = undefined
    // Another server's may have been quicker than ours, which is no failure.
    if (await findPostmaster(this.#folder)) return undefined
    if (last) return (await lastWords(this.#folder, last.logOffset)) ?? ended
    this.#started = await startPostmaster(this.#folder, this.#binaries, this.#settings)
    return undefined
  }

  /** One that we started while another server's was quicker must not come up once that server has stopped its own. */
  async #endLatecomer(): Promise<void> {
    const pid = this.#started?.ended() === undefined ? this.#started?.pid : undefined
    if (pid !== undefined && pid !== (await findPostmaster(this.#folder))) sendSignal(pid, 'SIGKILL')
  }

  #takenBy(holder: number | undefined): EmbeddedPostgresError {
    const who = holder === undefined ? 'another server' : `another server (process ${holder})`
    return new EmbeddedPostgresError(
      `the data folder ${this.#folder.dataDir} is in use by ${who}: stop that one, choose another BEACON_DATA_DIR, ` +
        'or let both use one PostgreSQL with BEACON_DATABASE_URL',
    )
  }

  #hold(ownership: Ownership): void {
    this.#ownership = ownership
    void ownership.ended.then(() => {
      // Given up before it ended, to start PostgreSQL anew.
      if (this.#ownership !== ownership) return
      this.#ownership = undefined
      if (this.#abort.signal.aborted) return
      this.#options.log.error('PostgreSQL has ended unexpectedly; starting it again')
      this.#recovery = this.#recover()
    })
  }

  async #recover(): Promise<void> {
    const { clock, log, onLost } = this.#options
    const signal = this.#abort.signal
    // What ended after it had run is not a failed start.
    if (this.#started?.ended() !== undefined) this.#started = undefined
    while (!signal.aborted) {
      try {
        await this.#own({ giveUp: false })
        log.info('PostgreSQL runs again')
        return
      } catch (error) {
        if (signal.aborted) return
        log.error({ err: error }, 'PostgreSQL cannot be had back')
        if (error instanceof EmbeddedPostgresError) {
          onLost?.(error)
          return
        }
        await clock.sleep(LONGEST_BACKOFF_MS, signal).catch(() => {})
      }
    }
  }

  async #stop(): Promise<void> {
    this.#logCheck?.cancel()
    this.#abort.abort()
    await this.#recovery
    if (!this.#ownership && !this.#lost) {
      const attempt = await tryOwn(this.#folder)
      if (attempt.outcome === 'owner') this.#hold(attempt.ownership)
      if (attempt.outcome === 'taken') this.#lost = true
    }
    if (this.#lost) return
    await this.#stopPostmaster()
    await this.#ownership?.release().catch(() => {})
    await releaseSocketFolder(this.#folder)
  }

  async #stopPostmaster(): Promise<void> {
    const { clock, log } = this.#options
    const started = this.#started?.ended() === undefined ? this.#started?.pid : undefined
    const pid = (await findPostmaster(this.#folder)) ?? started
    if (pid === undefined) return
    await stopPostmaster(this.#folder, pid, clock, (signal) =>
      log.warn({ signal }, 'PostgreSQL takes long to stop'),
    )
  }
}
