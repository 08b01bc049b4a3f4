import { type ClientRequest, request } from 'node:http'
import { createGunzip } from 'node:zlib'
import { answerQuestions } from '../support/answering.ts'
import { Histogram, type HistogramCounts } from '../support/histogram.ts'

// Readers of the live feed. All but one only count what comes, so that reading is not what is measured; that one takes in
// what it is told, and when.

export type LiveReadersQuestion =
  /** Answers when each has been told everything once. */
  | {
      readonly do: 'open'
      readonly port: number
      readonly readers: number
      readonly detail: string
      readonly tokens: readonly string[]
    }
  | { readonly do: 'look' }
  | { readonly do: 'close' }

export interface LiveReadersLook {
  /** Since the last look. */
  readonly bytes: number
  /** From the arrival of a heartbeat at the server to its arrival at the reader. */
  readonly heartbeats: HistogramCounts
  /** When a robot was first told with a label `change` of this value, on the clock of the machine. */
  readonly changes: readonly (readonly [value: string, at: number])[]
  /** Readers that were cut off. */
  readonly lost: number
}

const WHOLE = '"done":true'
const requests: ClientRequest[] = []
const heartbeats = new Histogram()
const changes = new Map<string, number>()
/** When the newest heartbeat of each robot was received, as far as it was told. */
const latest = new Map<string, string>()
let lookedAt = 0
let bytes = 0
let lost = 0
let isClosing = false

/** Begins to follow, as a browser does: gzip is welcome. `onText` hears what is told for as long as it answers true. */
function follow(
  { port, detail, token }: { port: number; detail: string; token: string },
  onText: (text: string) => boolean,
): Promise<never> {
  return new Promise((_, reject) => {
    const headers = { authorization: `Bearer ${token}`, 'accept-encoding': 'gzip' }
    const asked = request(
      { port, host: '127.0.0.1', path: `/api/live?detail=${detail}`, headers, agent: false },
      (answer) => {
        if (answer.statusCode !== 200) return reject(new Error(`the feed answered with ${answer.statusCode}`))
        const decoded = createGunzip()
        answer.pipe(decoded)
        answer.on('data', (chunk: Buffer) => {
          bytes += chunk.length
        })
        decoded
          .on('error', reject)
          .setEncoding('utf8')
          .on('data', (text: string) => {
            if (onText(text)) return
            answer.unpipe(decoded)
            decoded.destroy()
            answer.resume()
          })
        answer.on('error', reject).on('close', () => {
          if (!isClosing) lost += 1
          reject(new Error('a reader was cut off'))
        })
      },
    )
    requests.push(asked)
    asked.on('error', reject)
    asked.end()
  })
}

/** Resolves once all was told; what comes after that is counted and not looked at. */
function count(port: number, detail: string, token: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let tail = ''
    follow({ port, detail, token }, (text) => {
      const seen = tail + text
      tail = seen.slice(-WHOLE.length)
      if (!seen.includes(WHOLE)) return true
      resolve()
      return false
    }).catch(reject)
  })
}

/** Resolves once all was told; takes in whatever comes after that. */
function takeIn(port: number, detail: string, token: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    follow({ port, detail, token }, (chunk) => {
      text += chunk
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const event = text.slice(0, end)
        text = text.slice(end + 2)
        if (event.startsWith('event: snapshot') && event.includes(WHOLE)) resolve()
        if (event.startsWith('event: delta')) hear(event)
      }
      return true
    }).catch(reject)
  })
}

interface Told {
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  readonly heartbeat?: { readonly received_at: string } | null
}

function hear(event: string): void {
  const now = Date.now()
  const { changed } = JSON.parse(event.slice(event.indexOf('data: ') + 6)) as { changed: Told[] }
  for (const { heartbeat, id, labels } of changed) {
    // A robot is told whole again when something else of it has changed.
    if (heartbeat && heartbeat.received_at !== latest.get(id)) {
      latest.set(id, heartbeat.received_at)
      const receivedAt = Date.parse(heartbeat.received_at)
      if (receivedAt >= lookedAt) heartbeats.recordMs(now - receivedAt)
    }
    const { change } = labels
    if (change !== undefined && !changes.has(change)) changes.set(change, now)
  }
}

answerQuestions<LiveReadersQuestion>(async (question) => {
  if (question.do === 'open') {
    const { port, readers, detail, tokens } = question
    isClosing = false
    await Promise.all([
      ...(readers > 0 ? [takeIn(port, detail, tokens[0]!)] : []),
      ...Array.from({ length: Math.max(0, readers - 1) }, (_, index) =>
        count(port, detail, tokens[(index + 1) % tokens.length]!),
      ),
    ])
    return undefined
  }
  if (question.do === 'close') {
    isClosing = true
    for (const asked of requests.splice(0)) asked.destroy()
    return undefined
  }
  const look: LiveReadersLook = { bytes, heartbeats: heartbeats.counts(), changes: [...changes], lost }
  lookedAt = Date.now()
  bytes = 0
  lost = 0
  heartbeats.clear()
  changes.clear()
  return look
})
