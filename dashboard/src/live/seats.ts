/**
 * Feeds that one browser keeps open at a time, of all its windows. Over HTTP/1.1 a browser opens six connections to a
 * server, and whoever asks for a seventh waits in silence: the rest is for what the windows ask besides.
 */
const SEATS = 3
const SAY_EVERY_MS = 2_000
/** A window that closed without a word is forgotten after this. */
const FORGET_AFTER_MS = 7_000
/** Windows answer each other within some milliseconds. */
const ANSWERS_MS = 50

interface Said {
  readonly kind: 'who' | 'here' | 'gone'
  readonly id: string
  readonly since: number
}

interface Other {
  readonly since: number
  readonly heardAt: number
}

/** Those of other windows that want a seat. */
const others = new Map<string, Other>()
/** Those of this window. */
const own = new Map<string, { readonly since: number; readonly judge: () => void }>()
let channel: BroadcastChannel | undefined
let settled: Promise<void> | undefined
let count = 0

/** Over HTTP/2 and later all windows share one connection. */
function isShort(): boolean {
  const [navigation] = performance.getEntriesByType('navigation') as PerformanceNavigationTiming[]
  return typeof BroadcastChannel === 'function' && !/^h[23]/.test(navigation?.nextHopProtocol ?? '')
}

function say(kind: Said['kind'], id: string, since = 0): void {
  channel?.postMessage({ kind, id, since } satisfies Said)
}

function judgeAll(): void {
  for (const { judge } of own.values()) judge()
}

/** From the first feed of a window on it hears of those of others. */
function listen(): Promise<void> {
  if (settled) return settled
  channel = new BroadcastChannel('beacon.feeds')
  channel.onmessage = ({ data }: MessageEvent<Said>) => {
    if (data.kind === 'who') for (const [id, { since }] of own) say('here', id, since)
    else if (data.kind === 'here') others.set(data.id, { since: data.since, heardAt: performance.now() })
    else others.delete(data.id)
    judgeAll()
  }
  say('who', '')
  settled = new Promise((resolve) => setTimeout(resolve, ANSWERS_MS))
  return settled
}

/**
 * Wants a seat for a feed, until the answer is called. `onSeat` tells whether there is one, first after a moment and then
 * whenever that changes; those who came first go first. The windows tell each other; nobody leads them.
 */
export function wantSeat(onSeat: (hasSeat: boolean) => void): () => void {
  if (!isShort()) {
    onSeat(true)
    return () => {}
  }
  const id = `${Math.random().toString(36).slice(2)}${++count}`
  const since = Date.now()
  let last: boolean | undefined
  let timer: ReturnType<typeof setInterval> | undefined
  let hasLeft = false
  const judge = () => {
    const now = performance.now()
    let before = 0
    const isBefore = (other: { since: number }, otherId: string) =>
      other.since < since || (other.since === since && otherId < id)
    for (const [otherId, other] of others)
      if (now - other.heardAt > FORGET_AFTER_MS) others.delete(otherId)
      else if (isBefore(other, otherId)) before += 1
    for (const [otherId, other] of own) if (isBefore(other, otherId)) before += 1
    const has = before < SEATS
    if (has !== last) {
      last = has
      onSeat(has)
    }
  }
  void listen().then(() => {
    if (hasLeft) return
    own.set(id, { since, judge })
    say('here', id, since)
    timer = setInterval(() => {
      say('here', id, since)
      judge()
    }, SAY_EVERY_MS)
    judge()
  })
  return () => {
    hasLeft = true
    clearInterval(timer)
    own.delete(id)
    say('gone', id)
    judgeAll()
  }
}
