import { type RobotEventFrame, robotEventSchema } from '../src/protocol/frames.ts'
import type { KeptFile } from './kept-file.ts'
import type { Clock } from './runtime.ts'

/**
 * Where events go that the robot's own software tells of. Whoever implements it keeps each until its id comes in an
 * `event_ack`, over lost connections, and sends it again in each new session until then; its text is the same each time.
 */
export interface EventKeeper {
  /** Answers false, and keeps nothing, when there is no room. The frame is valid and fits the frame limit. */
  keepEvent(event: RobotEventFrame): boolean
  /** Events that wait for their acknowledgement. */
  readonly waitingEvents: number
}

export interface EventBounds {
  readonly entries: number
  readonly bytes: number
}

/** Little beside the heartbeats of a day. */
const EVENT_BOUNDS: EventBounds = { entries: 500, bytes: 512 * 1024 }
/** Events under way at once: what the server is slow to take waits here and not in the network. */
const WINDOW = 20
/** After this long without an acknowledgement an event is sent again; the server keeps each id once. */
const RESEND_MS = 60_000

interface WaitingEvent {
  readonly text: string
  readonly bytes: number
  /** In this session, on the monotonic clock. */
  sentAt: number | undefined
}

/** Events that wait for their acknowledgement, also over a restart when there is a file for them. When it is full, the newest are refused: none is lost unseen. */
export class EventQueue implements EventKeeper {
  readonly #clock: Clock
  readonly #bounds: EventBounds
  readonly #waiting = new Map<string, WaitingEvent>()
  #bytes = 0
  readonly #file: KeptFile | undefined
  #kept: () => void = () => {}

  constructor(clock: Clock, bounds: EventBounds = EVENT_BOUNDS, file?: KeptFile) {
    this.#clock = clock
    this.#bounds = bounds
    const before = file?.read()
    for (const event of Array.isArray(before) ? before : []) {
      const parsed = robotEventSchema.safeParse(event)
      if (parsed.success) this.keepEvent(parsed.data)
    }
    this.#file = file
  }

  get waitingEvents(): number {
    return this.#waiting.size
  }

  keepEvent(event: RobotEventFrame): boolean {
    const text = JSON.stringify(event)
    const bytes = Buffer.byteLength(text)
    if (this.#waiting.has(event.id)) return true
    if (this.#waiting.size >= this.#bounds.entries || this.#bytes + bytes > this.#bounds.bytes) return false
    this.#waiting.set(event.id, { text, bytes, sentAt: undefined })
    this.#bytes += bytes
    this.#write()
    this.#kept()
    return true
  }

  /** Called for each new event. */
  whenKept(call: () => void): void {
    this.#kept = call
  }

  /** Forgets everything, for nobody will ever ask for it. */
  clear(): void {
    this.#waiting.clear()
    this.#bytes = 0
    this.#write()
  }

  acknowledge(ids: readonly string[]): void {
    for (const id of ids) {
      this.#bytes -= this.#waiting.get(id)?.bytes ?? 0
      this.#waiting.delete(id)
    }
    this.#write()
  }

  /** Writes down what waits, at the end. */
  stop(): void {
    this.#file?.stop()
  }

  #write(): void {
    this.#file?.write(() => [...this.#waiting.values()].map(({ text }) => JSON.parse(text)))
  }

  /** A new session knows nothing of what was sent in the one before. */
  startOver(): void {
    for (const event of this.#waiting.values()) event.sentAt = undefined
  }

  /** Hands what is to be sent now to `send`, oldest first, until that answers false. */
  pump(send: (text: string) => boolean): void {
    const now = this.#clock.monotonic()
    const isUnderWay = ({ sentAt }: WaitingEvent) => sentAt !== undefined && now - sentAt < RESEND_MS
    const events = [...this.#waiting.values()]
    let room = WINDOW - events.filter(isUnderWay).length
    for (const event of events) {
      if (room <= 0) return
      if (isUnderWay(event)) continue
      if (!send(event.text)) return
      event.sentAt = now
      room--
    }
  }
}
