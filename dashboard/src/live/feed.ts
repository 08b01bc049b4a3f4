import { withQuery } from '../api/client.ts'
import type { Robot } from '../api/types.ts'
import { lookAgain } from '../session/session.ts'

/** A robot without its heartbeat, as the feed tells it with `detail=status`; with it otherwise. */
export type LiveRobot = Omit<Robot, 'heartbeat'> & Partial<Pick<Robot, 'heartbeat'>>

/** How many of the robots that the feed is about are in which state. */
export interface Counts {
  readonly total: number
  readonly connection: Readonly<Record<Robot['connection'], number>>
  readonly health: Readonly<Record<Robot['health'], number>>
  readonly lifecycle: Readonly<Record<Robot['lifecycle'], number>>
  /** Robots with at least one fault. */
  readonly faults: number
}

export interface FeedHandlers {
  /** The beginning, or a new one: what was known before no longer counts. */
  readonly onSnapshot: (robots: readonly LiveRobot[], counts: Counts | undefined) => void
  readonly onDelta: (
    changed: readonly LiveRobot[],
    removed: readonly string[],
    counts: Counts | undefined,
  ) => void
  /** False while what is shown may be old. */
  readonly onLive: (isLive: boolean) => void
}

export type FeedQuery = Readonly<Record<string, string | readonly string[] | undefined>>

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 30_000
/** The server says something every 15 s; a connection that is silent for longer is dead without knowing it. */
const SILENCE_MS = 40_000

/**
 * Follows the robots that pass the filter, coming back by itself for as long as it takes. Answers how to stop. Nothing is
 * asked while the page is hidden.
 */
export function follow(query: FeedQuery, handlers: FeedHandlers): () => void {
  let source: EventSource | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let watchdog: ReturnType<typeof setTimeout> | undefined
  let pauseMs = FIRST_PAUSE_MS
  let gathered: LiveRobot[] = []
  let lastEventId = ''

  const heard = () => {
    clearTimeout(watchdog)
    watchdog = setTimeout(comeBack, SILENCE_MS)
  }

  function close(): void {
    source?.close()
    source = undefined
    clearTimeout(timer)
    clearTimeout(watchdog)
    handlers.onLive(false)
  }

  function comeBack(): void {
    close()
    timer = setTimeout(open, pauseMs * (0.5 + Math.random() / 2))
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    // The browser does not say why it was refused.
    void lookAgain()
  }

  function open(): void {
    if (document.hidden) return
    gathered = []
    const opened = new EventSource(withQuery('/api/live', { ...query, last_event_id: lastEventId }))
    source = opened
    heard()
    const on = (name: string, handle: (data: never) => void) =>
      opened.addEventListener(name, (event) => {
        if (source !== opened) return
        heard()
        if (event.lastEventId) lastEventId = event.lastEventId
        handle(JSON.parse(event.data) as never)
      })
    on('snapshot', ({ items, done, counts }: { items: LiveRobot[]; done: boolean; counts?: Counts }) => {
      gathered.push(...items)
      if (!done) return
      pauseMs = FIRST_PAUSE_MS
      handlers.onSnapshot(gathered, counts)
      gathered = []
      handlers.onLive(true)
    })
    on(
      'delta',
      ({ changed, removed, counts }: { changed: LiveRobot[]; removed: string[]; counts?: Counts }) => {
        pauseMs = FIRST_PAUSE_MS
        handlers.onDelta(changed, removed, counts)
        handlers.onLive(true)
      },
    )
    on('alive', () => {
      pauseMs = FIRST_PAUSE_MS
      handlers.onLive(true)
    })
    on('reset', () => {
      gathered = []
    })
    on('end', () => {
      lastEventId = ''
      comeBack()
    })
    opened.onerror = () => {
      if (source === opened) comeBack()
    }
  }

  const onVisibility = () => {
    if (document.hidden) close()
    else if (!source) open()
  }
  document.addEventListener('visibilitychange', onVisibility)
  open()
  return () => {
    document.removeEventListener('visibilitychange', onVisibility)
    close()
  }
}
