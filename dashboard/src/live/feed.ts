import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { withQuery } from '../api/client.ts'
import type { Robot } from '../api/types.ts'
import { lookAgain } from '../session/session.ts'

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

export interface FeedHandlers {
  /** The beginning, or a new one: what was known before no longer counts. */
  readonly onSnapshot: (robots: readonly LiveRobot[], counts: Counts) => void
  readonly onDelta: (changed: readonly LiveRobot[], removed: readonly string[], counts: Counts) => void
  /** False while what is shown may be old. */
  readonly onLive: (isLive: boolean) => void
}

export type FeedQuery = Readonly<Record<string, string | readonly string[] | undefined>>

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 30_000
/** The server says something every 15 s; a connection that is silent for longer is dead and does not know it. */
const SILENCE_MS = 40_000

/** Not EventSource: that shows neither why the server refused, nor the comments by which a silent feed is alive. */
async function readFeed(
  query: FeedQuery,
  lastEventId: string,
  signal: AbortSignal,
  heard: () => void,
  onAccepted: () => void,
  onEvent: (event: EventSourceMessage) => void,
): Promise<void> {
  const response = await fetch(withQuery('/api/live', query), {
    headers: { accept: 'text/event-stream', ...(lastEventId ? { 'last-event-id': lastEventId } : {}) },
    signal,
  })
  heard()
  if (!response.ok || !response.body) throw new Error(`the feed was refused: ${response.status}`)
  onAccepted()
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
  let watchdog: ReturnType<typeof setTimeout> | undefined
  let pauseMs = FIRST_PAUSE_MS
  let lastEventId = ''
  let gathered: LiveRobot[] = []

  function close(): void {
    clearTimeout(timer)
    clearTimeout(watchdog)
    connection?.abort()
    connection = undefined
    handlers.onLive(false)
  }

  function comeBack(): void {
    close()
    timer = setTimeout(open, pauseMs * (0.5 + Math.random() / 2))
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    // Perhaps nobody is signed in any more.
    void lookAgain()
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
    } else {
      // A new snapshot follows a reset, and nothing an end.
      gathered = []
      if (event === 'end') comeBack()
      return
    }
    pauseMs = FIRST_PAUSE_MS
    handlers.onLive(true)
  }

  function open(): void {
    if (document.hidden) return
    const opened = new AbortController()
    connection = opened
    gathered = []
    const heard = () => {
      clearTimeout(watchdog)
      watchdog = setTimeout(comeBack, SILENCE_MS)
    }
    heard()
    const lost = () => {
      if (connection === opened) comeBack()
    }
    // Going on where it was, and nothing was missed: then nothing comes before something changes.
    const accepted = () => handlers.onLive(lastEventId !== '')
    readFeed(query, lastEventId, opened.signal, heard, accepted, (event) => {
      if (connection === opened) take(event)
    }).then(lost, lost)
  }

  const onVisibility = () => {
    if (document.hidden) close()
    else if (!connection) open()
  }
  document.addEventListener('visibilitychange', onVisibility)
  open()
  return () => {
    document.removeEventListener('visibilitychange', onVisibility)
    close()
  }
}
