import type { Bus } from '../bus/bus.ts'
import { findAccessTokens } from '../db/access-tokens.ts'
import type { Database } from '../db/database.ts'
import { findSignIns } from '../db/sign-ins.ts'
import { BeaconError } from '../errors.ts'
import type { Log } from '../observe/log.ts'
import type { Clock, Timer } from '../runtime.ts'
import type { Authority } from './authority.ts'
import { type Principal, principalOfSignIn, principalOfToken } from './principal.ts'

/**
 * Who each of these is at this moment, in the same order, or why they no longer stand. One statement for all tokens and one
 * for all sessions, however many there are.
 */
export async function principalsNow(
  database: Database,
  principals: readonly Principal[],
): Promise<(Principal | BeaconError)[]> {
  const tokenIds = new Set<string>()
  const sessionIds = new Set<string>()
  for (const principal of principals)
    if (principal.kind !== 'session') tokenIds.add(principal.id)
    else if (principal.sessionId !== undefined) sessionIds.add(principal.sessionId)
  const tokens = new Map((await findAccessTokens(database, [...tokenIds])).map((found) => [found.id, found]))
  const sessions = new Map((await findSignIns(database, [...sessionIds])).map((found) => [found.id, found]))
  return principals.map((principal) => {
    if (principal.kind === 'session') {
      const found = sessions.get(principal.sessionId ?? '')
      return (found && principalOfSignIn(found)) ?? new BeaconError('credentials_required')
    }
    const found = tokens.get(principal.id)
    return found ? principalOfToken(found) : new BeaconError('token_revoked')
  })
}

/** Something that goes on for long in somebody's name: a feed, an export. */
export interface Watched {
  readonly principal: Principal
  /** Whether these rights are still enough for it; asked at once and whenever they may have changed. */
  readonly mayGoOn: (authority: Authority) => boolean
  /** Called once, when it has to end, with why. It is no longer watched then. */
  readonly onEnd: (why: BeaconError) => void
}

/**
 * Ends what goes on for long when the token or session behind it is revoked, expires or comes to hold too little: within
 * two seconds, on every server.
 */
export interface Standing {
  /** Watches until the returned function is called. */
  watch(watched: Watched): () => void
  /** How many are watched. */
  readonly size: number
  /** Watches nobody any more. */
  stop(): void
}

export interface StandingOptions {
  readonly database: Database
  readonly bus: Pick<Bus, 'subscribe' | 'onGap'>
  readonly clock: Clock
  readonly log: Log
}

/** For whatever no message told of: a row changed by hand, a session too long without a request. */
const CHECK_EVERY_MS = 15_000
/** After a check that failed. */
const RETRY_MS = 1_000
/** How long somebody of whom nothing can be learned is trusted. */
const TRUST_MS = 30_000
/** Far more than go on at one server; each check is one statement for so many. */
const CHECKED_AT_ONCE = 2_000

interface Entry extends Watched {
  /** On the clock's monotonic time; undefined: not looked at since it began. */
  confirmedAt: number | undefined
  readonly beganAt: number
  expiry: Timer | undefined
}

/** Starts to hear of changes; nothing is asked of the database while nothing is watched. */
export function createStanding({ database, bus, clock, log }: StandingOptions): Standing {
  const entries = new Set<Entry>()
  let checking = false
  /** What the next look is for: what has just begun, or everything, for something may have changed. */
  let wanted: 'nothing' | 'new' | 'all' = 'nothing'
  let stopped = false
  let retry: Timer | undefined

  function remove(entry: Entry): boolean {
    entry.expiry?.cancel()
    return entries.delete(entry)
  }

  function end(entry: Entry, why: BeaconError): void {
    if (!remove(entry)) return
    try {
      entry.onEnd(why)
    } catch (err) {
      log.error({ err }, 'something could not be ended whose token no longer stands')
    }
  }

  /** Timers only for what ends before the next check: they are not to pile up, and some cannot wait for months. */
  function armExpiry(entry: Entry, expiresAt: Date | null): void {
    entry.expiry?.cancel()
    entry.expiry = undefined
    if (expiresAt === null) return
    const leftMs = expiresAt.getTime() - clock.now()
    if (leftMs > 2 * CHECK_EVERY_MS) return
    const code = entry.principal.kind === 'session' ? 'credentials_required' : 'token_expired'
    entry.expiry = clock.after(leftMs, () => end(entry, new BeaconError(code)))
  }

  function judge(entry: Entry, now: Principal | BeaconError): void {
    if (!entries.has(entry)) return
    if (now instanceof BeaconError) end(entry, now)
    else if (now.barred) end(entry, new BeaconError(now.barred))
    else if (!entry.mayGoOn(now.authority)) end(entry, new BeaconError('insufficient_scope'))
    else {
      entry.confirmedAt = clock.monotonic()
      armExpiry(entry, now.expiresAt)
    }
  }

  async function look(all: readonly Entry[]): Promise<void> {
    for (let start = 0; start < all.length; start += CHECKED_AT_ONCE) {
      const group = all.slice(start, start + CHECKED_AT_ONCE)
      const now = await principalsNow(
        database,
        group.map((entry) => entry.principal),
      )
      group.forEach((entry, index) => {
        judge(entry, now[index]!)
      })
    }
  }

  /** However many ask for a look while one is under way, one more follows it. */
  async function check(): Promise<void> {
    if (checking) return
    checking = true
    retry?.cancel()
    retry = undefined
    try {
      while (wanted !== 'nothing' && !stopped) {
        const isNew = wanted === 'new'
        wanted = 'nothing'
        await look([...entries].filter((entry) => !isNew || entry.confirmedAt === undefined))
      }
    } catch (err) {
      log.warn({ err }, 'the tokens that feeds hang on could not be looked at')
      for (const entry of entries)
        if (clock.monotonic() - (entry.confirmedAt ?? entry.beganAt) > TRUST_MS)
          end(entry, new BeaconError('database_unavailable'))
      if (!stopped)
        retry = clock.after(RETRY_MS, () => {
          retry = undefined
          checkAll()
        })
    } finally {
      checking = false
    }
  }

  function checkAll(): void {
    if (stopped || entries.size === 0) return
    wanted = 'all'
    void check()
  }
  bus.subscribe((message) => {
    if (message.type === 'access_changed') checkAll()
  })
  bus.onGap(checkAll)
  const timer = clock.every(CHECK_EVERY_MS, checkAll)

  return {
    watch(watched) {
      const entry: Entry = {
        ...watched,
        confirmedAt: undefined,
        beganAt: clock.monotonic(),
        expiry: undefined,
      }
      entries.add(entry)
      armExpiry(entry, watched.principal.expiresAt)
      // What changed between the request's own look and now was told to nobody.
      if (wanted === 'nothing') wanted = 'new'
      if (!stopped && retry === undefined) void check()
      return () => void remove(entry)
    },
    get size() {
      return entries.size
    },
    stop() {
      stopped = true
      timer.cancel()
      retry?.cancel()
      for (const entry of entries) remove(entry)
    },
  }
}
