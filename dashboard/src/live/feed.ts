import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { isReachable, notBeacon, problemOf, withQuery } from '../api/client.ts'
import { Problem } from '../api/problem.ts'
import type { Robot } from '../api/types.ts'
import { lookIfIdle } from '../session/session.ts'
import { hearServerTime, serverNow } from '../ui/clock.ts'
import { wantSeat } from './seats.ts'

/** A robot as the feed tells it: with `detail=status` without what every heartbeat changes. */
export type LiveRobot = Omit<Robot, 'heartbeat'> & Partial<Pick<Robot, 'heartbeat'>>

/** How many robots are in which state, of all that pass the filter but for connection, health, lifecycle and ids. */
export interface Counts {
  /** Those that are retired are only counted under `lifecycle`. */
  readonly robots: number
  readonly connection: Readonly<Record<Robot['connection'], number>>
  readonly health: Readonly<Record<Robot['health'], number>>
  readonly lifecycle: Readonly<Record<Robot['lifecycle'], number>>
  /** Robots with at least one fault. */
  readonly faults: number
}

/** How far what is shown can be relied on. */
export interface Freshness {
  /** It is as it is now, give or take some seconds. */
  readonly isLive: boolean
  /** As of when it is, in milliseconds by the server's clock; undefined before anything came. */
  readonly asOf: number | undefined
  /** Of many windows, some are told in turns. */
  readonly isInTurns: boolean
  /** What the server said when it refused or ended the feed. */
  readonly why: unknown
}

export const NOT_YET: Freshness = { isLive: false, asOf: undefined, isInTurns: false, why: undefined }

export interface FeedHandlers {
  /** The beginning, or a new one: what was known before no longer counts. */
  readonly onSnapshot: (robots: readonly LiveRobot[], counts: Counts) => void
  readonly onDelta: (changed: readonly LiveRobot[], removed: readonly string[], counts: Counts) => void
  readonly onLive?: (live: Freshness) => void
}

export type FeedQuery = Readonly<Record<string, string | readonly string[] | undefined>>

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 30_000
/** The server says something every 5 s. After this long without a word nothing that is shown is called live… */
const DOUBT_MS = 9_000
/** …and after this the connection is dead and does not know it. */
const SILENCE_MS = 20_000
/** Between two turns of a window that shares its connection with others. */
const TURN_MS = 3_000

/** Not EventSource: that shows neither why the server refused, nor the comments by which a silent feed is alive. */
async function readFeed(
  query: FeedQuery,
  lastEventId: string,
  signal: AbortSignal,
  heard: () => void,
  onEvent: (event: EventSourceMessage) => void,
): Promise<void> {
  const response = await fetch(withQuery('/api/live', query), {
    headers: { accept: 'text/event-stream', ...(lastEventId ? { 'last-event-id': lastEventId } : {}) },
    signal,
  })
  heard()
  hearServerTime(response.headers.get('date'))
  if (!response.ok) throw await problemOf(response)
  if (!response.body || !response.headers.get('content-type')?.startsWith('text/event-stream'))
    throw notBeacon(response.status)
  const parser = createParser({ onEvent })
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
    const { done, value } = await reader.read()
    if (done) return
    heard()
    parser.feed(value)
  }
}

/**
 * Follows the robots that pass the filter, coming back by itself for as long as it takes. Answers how to stop. A page that
 * nobody looks at asks for nothing, and goes on where it was when it is looked at again.
 */
export function follow(query: FeedQuery, handlers: FeedHandlers): () => void {
  let connection: AbortController | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let doubt: ReturnType<typeof setTimeout> | undefined
  let watchdog: ReturnType<typeof setTimeout> | undefined
  let leaveSeat: (() => void) | undefined
  let hasSeat: boolean | undefined
  let pauseMs = FIRST_PAUSE_MS
  let lastEventId = ''
  let gathered: LiveRobot[] = []
  /** All that this connection had to tell has come: nothing that happened before is missing. */
  let isWhole = false
  let live = NOT_YET
  let heardAt: number | undefined

  function tell(change: Partial<Freshness>): void {
    const next = { ...live, ...change }
    const isSame = (Object.keys(next) as (keyof Freshness)[]).every((part) => next[part] === live[part])
    live = next
    if (!isSame) handlers.onLive?.(live)
  }

  function disconnect(): void {
    clearTimeout(timer)
    clearTimeout(watchdog)
    connection?.abort()
    connection = undefined
  }

  /** What is shown is as of when something was heard last, and not as of when that was noticed. */
  function doubtAll(why?: unknown): void {
    clearTimeout(doubt)
    tell({ isLive: false, asOf: live.isLive ? heardAt : live.asOf, why })
  }

  function comeBack(why?: unknown): void {
    disconnect()
    doubtAll(why)
    const refused = why instanceof Problem ? (why.retryAfterMs ?? 0) : 0
    timer = setTimeout(open, Math.max(refused, pauseMs * (0.5 + Math.random() / 2)))
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    // Perhaps nobody is signed in any more.
    void lookIfIdle()
  }

  function heard(): void {
    heardAt = serverNow()
    clearTimeout(doubt)
    clearTimeout(watchdog)
    doubt = setTimeout(() => {
      doubtAll()
      void lookIfIdle()
    }, DOUBT_MS)
    watchdog = setTimeout(comeBack, SILENCE_MS)
    // It was only late. Whoever is in the middle of being told says so at the end of that.
    if (isWhole && !live.isLive) tell({ isLive: true, why: undefined })
  }

  function take({ event, id, data }: EventSourceMessage): void {
    if (id !== undefined) lastEventId = id
    if (event === 'snapshot') {
      const { items, done, counts } = JSON.parse(data) as {
        items: LiveRobot[]
        done: boolean
        counts: Counts
      }
      gathered.push(...items)
      if (!done) return
      handlers.onSnapshot(gathered, counts)
      gathered = []
    } else if (event === 'delta') {
      const delta = JSON.parse(data) as { changed: LiveRobot[]; removed: string[]; counts: Counts }
      handlers.onDelta(delta.changed, delta.removed, delta.counts)
      // Of one in several events the last has the id.
      if (!id) return
    } else {
      // A new snapshot follows a reset, and nothing an end.
      gathered = []
      isWhole = false
      if (event === 'end') comeBack(new Error((JSON.parse(data) as { message: string }).message))
      return
    }
    isWhole = true
    pauseMs = FIRST_PAUSE_MS
    tell({ isLive: true, isInTurns: hasSeat === false, why: undefined })
    if (hasSeat === false) endTurn()
  }

  /** Lets others have the connection. What is shown goes on being live for a while. */
  function endTurn(): void {
    disconnect()
    timer = setTimeout(open, TURN_MS)
  }

  function open(): void {
    if (document.hidden || connection) return
    clearTimeout(timer)
    const opened = new AbortController()
    connection = opened
    gathered = []
    isWhole = false
    watchdog = setTimeout(comeBack, SILENCE_MS)
    const lost = (why?: unknown) => {
      if (connection === opened) comeBack(why instanceof Problem ? why : undefined)
    }
    readFeed(
      query,
      lastEventId,
      opened.signal,
      () => {
        if (connection === opened) heard()
      },
      (event) => {
        if (connection === opened) take(event)
      },
    ).then(() => lost(), lost)
  }

  function begin(): void {
    if (document.hidden || leaveSeat) return
    leaveSeat = wantSeat((has) => {
      hasSeat = has
      if (has) {
        tell({ isInTurns: false })
        open()
      } else if (!connection) open()
      else if (isWhole) endTurn()
    })
  }

  function close(): void {
    disconnect()
    clearTimeout(doubt)
    leaveSeat?.()
    leaveSeat = undefined
    hasSeat = undefined
  }

  const onVisibility = () => {
    if (!document.hidden) return begin()
    close()
    doubtAll()
  }
  document.addEventListener('visibilitychange', onVisibility)
  // Whoever reached the server meanwhile need not wait for the end of a pause.
  const stopWatching = isReachable.subscribe((isBack) => {
    if (isBack && leaveSeat && !connection && !live.isLive) open()
  })
  begin()
  return () => {
    document.removeEventListener('visibilitychange', onVisibility)
    stopWatching()
    close()
  }
}
