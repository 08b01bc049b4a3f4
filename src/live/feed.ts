import type { Database } from '../db/database.ts'
import { foldText } from '../db/live-robots.ts'
import type { Reach } from '../db/reach.ts'
import { BeaconError } from '../errors.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import { OutputBudget } from './budget.ts'
import { Tally } from './counts.ts'
import { EPOCH_BYTES, parseId, retryText } from './events.ts'
import { countedKeyOf, judgeOf } from './filter.ts'
import { PageCache } from './page-cache.ts'
import { Poller } from './poller.ts'
import { Reader, type Sink } from './reader.ts'
import type { Render } from './robot.ts'
import { LiveStore, LOG_LIMITS, type LogLimits, type Tick } from './store.ts'
import { View, type ViewOptions, viewKey } from './view.ts'

export interface LiveLimits {
  /** Feeds at one time. */
  readonly readers: number
  /** Of these, of one person or one fleet's token. */
  readonly readersOfOne: number
  /** All feeds together. */
  readonly bytesPerSecond: number
  /** Told to readers at the same time: so the first are whole long before the last, and not all of them late. */
  readonly snapshotsAtOnce: number
  /** For going on after an interruption. */
  readonly log: LogLimits
}

export const LIVE_LIMITS: LiveLimits = {
  readers: 1_000,
  readersOfOne: 50,
  bytesPerSecond: 32 * 1024 * 1024,
  snapshotsAtOnce: 16,
  log: LOG_LIMITS,
}

export interface LiveParts {
  readonly database: Database
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  readonly render: Render
  readonly limits?: Partial<LiveLimits>
}

export interface LiveRequest extends ViewOptions {
  /** Who reads: the person, or the fleet's token. */
  readonly holder: string
  /** The id of the last event that the reader has got. */
  readonly lastEventId: string | undefined
}

/** A place among the readers; nothing is sent before `begin`. */
export interface Seat {
  begin(sink: Sink): Feed
  /** Gives it up instead. */
  leave(): void
}

export interface Feed {
  /** The reader may see this from now on; where it is otherwise than before, all is told again. */
  setReach(reach: Reach): void
  end(code: string, message: string): void
  /** The reader has gone. */
  left(): void
}

export interface LiveFeeds {
  /** Throws BeaconErrors: too many feeds, no database, or the server stops. */
  take(request: LiveRequest): Promise<Seat>
  /** Ends all feeds. */
  stop(): void
}

const COMMENT_EVERY_MS = 5_000
const LOOK_AFTER_MS = 1_000
/** A reader that takes nothing for so long is let go. */
const STUCK_MS = 30_000
/** How long robots are told to be as they were when the database answered last. */
const TRUST_MS = 30_000
/** How long a reader may take to get the last event. */
const END_WITHIN_MS = 1_000
/** What was read is kept for so long after the last reader has left, for one that comes back. */
const KEPT_MS = 60_000
/** Browsers come back after these, so that not all come at once. */
const RETRY_MS = [2_000, 5_000] as const
/** Of what several readers are to be told, in all. */
const CACHE_BYTES = 64 * 1024 * 1024
/** A reader in the middle of its snapshot that takes nothing for so long keeps none from theirs. */
const HELD_UP_MS = 1_000
/** Work without a pause for whoever else needs the processor. */
const SLICE_MS = 5

interface Place extends Feed {
  readonly reader: Reader
  nextCommentAt: number
}

/** What was read, and whatever was made of it: pages hold on to the store that they tell of. */
interface World {
  readonly store: LiveStore
  readonly cache: PageCache
  readonly poller: Poller
}

/** The live feeds of one server. All of its readers together cost one look at the database a second; nobody else pays. */
export function createLiveFeeds(parts: LiveParts): LiveFeeds {
  const { clock, database, log, metrics, random, render } = parts
  const limits: LiveLimits = { ...LIVE_LIMITS, ...parts.limits }
  const budget = new OutputBudget(limits.bytesPerSecond, clock)
  const places = new Map<Reader, Place>()
  const seatsOf = new Map<string, number>()
  const views = new Map<string, View>()
  /** With how many views share each. */
  const tallies = new Map<string, { readonly tally: Tally; views: number }>()
  /** Readers to be told something, in the order in which it is their turn: those first that are told little. */
  const queues: Record<View['detail'], Set<Reader>> = { status: new Set(), full: new Set() }
  /** Readers that were told a part of a snapshot. */
  const midway = new Set<Reader>()
  let seats = 0
  let world: World | undefined
  let lookingAfter: Timer | undefined
  let forgetting: Timer | undefined
  let pumping: Timer | 'soon' | undefined
  let isStopped = false

  function newWorld(): World {
    const store = new LiveStore(random.bytes(EPOCH_BYTES).toString('hex'), limits.log)
    const poller = new Poller({ database, clock, log, metrics, store, render, onTick })
    return { store, cache: new PageCache(CACHE_BYTES), poller }
  }

  function onTick(tick: Tick): void {
    for (const { tally } of tallies.values()) tally.take(tick)
    for (const view of views.values()) view.take(tick.number)
    for (const reader of places.keys()) enqueue(reader)
  }

  function enqueue(reader: Reader): void {
    if (reader.isBusy || reader.isOver) return
    queues[reader.view.detail].add(reader)
    pumpSoon()
  }

  function pumpSoon(): void {
    if (pumping !== undefined) return
    pumping = 'soon'
    setImmediate(pump)
  }

  /** How many more may begin with a snapshot. */
  function freeBeginnings(): number {
    let free = limits.snapshotsAtOnce
    for (const reader of midway) if (reader.isMidSnapshot && reader.stuckMs() < HELD_UP_MS) free -= 1
    return free
  }

  /** Tells readers what is due, one event each, as far as time and bytes go; the others are first the next time. */
  function pump(): void {
    pumping = undefined
    const begun = clock.monotonic()
    let free = freeBeginnings()
    for (const queue of [queues.status, queues.full])
      for (const reader of queue) {
        const waitMs = budget.waitMs()
        if (waitMs > 0) {
          pumping = clock.after(waitMs, pump)
          return
        }
        if (clock.monotonic() - begun > SLICE_MS) {
          pumping = 'soon'
          setImmediate(pump)
          return
        }
        if (reader.isBeginning && free <= 0) continue
        queue.delete(reader)
        if (reader.isBusy || reader.isOver) continue
        if (reader.isBeginning) free -= 1
        reader.tellNext()
        if (reader.isMidSnapshot) midway.add(reader)
        else midway.delete(reader)
      }
  }

  function lookAfter(): void {
    const now = clock.monotonic()
    const isBlind = (world?.poller.ageMs() ?? 0) > TRUST_MS
    for (const place of [...places.values()]) {
      if (isBlind) {
        place.end('database_unavailable', 'robots cannot be read; what was told may be old')
        continue
      }
      if (place.reader.stuckMs() > STUCK_MS) {
        place.end('slow_reader', `nothing was taken for ${STUCK_MS / 1000} s`)
        continue
      }
      if (now < place.nextCommentAt || place.reader.isBusy) continue
      place.nextCommentAt = now + COMMENT_EVERY_MS
      place.reader.comment()
    }
    // Some may wait for others that are held up by now.
    if (queues.status.size + queues.full.size > 0) pumpSoon()
  }

  function hold(options: ViewOptions, { store, cache }: World): View {
    const key = viewKey(options)
    let view = views.get(key)
    if (!view) {
      view = new View(store, shareTally(options, store), cache, options)
      views.set(key, view)
    }
    view.readers += 1
    return view
  }

  function shareTally({ filter, reach }: ViewOptions, store: LiveStore): Tally {
    const key = countedKeyOf(filter, reach)
    const shared = tallies.get(key) ?? { tally: new Tally(store, judgeOf(filter, reach).counted), views: 0 }
    tallies.set(key, shared)
    shared.views += 1
    return shared.tally
  }

  function release(view: View): void {
    view.readers -= 1
    if (view.readers > 0) return
    views.delete(view.key)
    const key = countedKeyOf(view.options.filter, view.options.reach)
    const shared = tallies.get(key)!
    shared.views -= 1
    if (shared.views === 0) tallies.delete(key)
  }

  /** Takes a seat, or throws. */
  function sit(holder: string): () => void {
    const own = seatsOf.get(holder) ?? 0
    if (own >= limits.readersOfOne)
      throw new BeaconError('too_many_feeds', undefined, { retryAfterSeconds: backSeconds() })
    if (seats >= limits.readers)
      throw new BeaconError('overloaded', 'as many live feeds are open as this server gives', {
        retryAfterSeconds: backSeconds(),
      })
    seats += 1
    seatsOf.set(holder, own + 1)
    forgetting?.cancel()
    let hasLeft = false
    return () => {
      if (hasLeft) return
      hasLeft = true
      seats -= 1
      const left = seatsOf.get(holder)! - 1
      if (left > 0) seatsOf.set(holder, left)
      else seatsOf.delete(holder)
      if (seats === 0 && !isStopped) rest()
    }
  }

  const backSeconds = () => 5 + Math.floor(random.fraction() * 25)

  /** Nobody reads: nothing is asked of the database, and after a while nothing is kept. */
  function rest(): void {
    world?.poller.rest()
    lookingAfter?.cancel()
    lookingAfter = undefined
    forgetting = clock.after(KEPT_MS, () => {
      world = undefined
    })
  }

  function begin(
    { lastEventId, holder: _, ...options }: LiveRequest,
    here: World,
    sink: Sink,
    leave: () => void,
  ): Feed {
    const { store, poller } = here
    poller.run()
    lookingAfter ??= clock.every(LOOK_AFTER_MS, lookAfter)
    const reader = new Reader(hold(options, here), {
      sink,
      clock,
      store,
      onIdle: enqueue,
      onEvent: (cost) => budget.spend(cost),
      onWritten: (bytes) => metrics.liveBytes.inc(bytes),
    })
    const [least, most] = RETRY_MS
    reader.sayFirst(retryText(Math.round(least + random.fraction() * (most - least))))
    const last = lastEventId ? parseId(lastEventId) : undefined
    if (!lastEventId) reader.restart()
    else if (last?.epoch !== store.epoch) reader.restart('unknown_id')
    else if (last.view !== reader.view.name) reader.restart('view_changed')
    else if (!reader.resume(last.tick)) reader.restart('too_old')

    function finish(reason: string): void {
      if (!places.delete(reader)) return
      queues[options.detail].delete(reader)
      midway.delete(reader)
      release(reader.view)
      leave()
      metrics.liveReaders.set(places.size)
      metrics.liveEnded.inc({ reason })
    }
    const place: Place = {
      reader,
      nextCommentAt: clock.monotonic() + COMMENT_EVERY_MS,
      setReach(now) {
        if (!places.has(reader)) return
        const view = hold({ ...options, reach: now }, here)
        release(reader.view)
        if (view === reader.view) return
        reader.view = view
        reader.restart('access_changed')
        enqueue(reader)
      },
      end(code, message) {
        if (!places.has(reader)) return
        finish(code)
        if (reader.end({ code, message })) clock.after(END_WITHIN_MS, () => sink.destroy())
      },
      left() {
        finish('gone')
        reader.end()
      },
    }
    places.set(reader, place)
    metrics.liveReaders.set(places.size)
    enqueue(reader)
    return place
  }

  return {
    async take(request) {
      const demandOpen = () => {
        if (isStopped) throw new BeaconError('draining')
      }
      demandOpen()
      const leave = sit(request.holder)
      try {
        world ??= newWorld()
        const here = world
        const { filter } = request
        const [text] = await Promise.all([
          filter.text === undefined ? undefined : foldText(database, filter.text),
          // Whoever comes while others read is told the rest with the next look.
          places.size > 0 && here.store.time > 0 ? undefined : here.poller.freshen(),
        ])
        demandOpen()
        return {
          begin: (sink) => begin({ ...request, filter: { ...filter, text } }, here, sink, leave),
          leave,
        }
      } catch (error) {
        leave()
        throw error
      }
    },
    stop() {
      isStopped = true
      forgetting?.cancel()
      lookingAfter?.cancel()
      world?.poller.rest()
      if (typeof pumping === 'object') pumping.cancel()
      for (const place of [...places.values()]) place.end('server_stopping', 'the server stops; come back')
      world = undefined
    },
  }
}
