import { z } from 'zod'
import { type RobotEventFrame, robotEventSchema } from '../src/protocol/frames.ts'
import type { KeptFile } from './kept-file.ts'
import type { Clock } from './runtime.ts'
import { type Moment, momentSchema, type ServerTime, type Stamp } from './server-time.ts'

/**
 * Where events go that the robot's own software tells of. Whoever implements it keeps each until its id comes in an
 * `event_ack`, over lost connections, and sends it again in each new session until then.
 */
export interface EventKeeper {
  /**
   * Answers false, and keeps nothing but the count, when there is no room. The frame is valid and fits the frame limit,
   * with room for the marks of a clock; with `moment` its time is put right before it is first sent.
   */
  keepEvent(event: RobotEventFrame, moment?: Moment): boolean
  /** Events that wait for their acknowledgement. */
  readonly waitingEvents: number
  /** Events that found no room, of which the server is still to be told. */
  readonly refusedEvents: number
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
  frame: RobotEventFrame
  /** Until its time is known. */
  moment: Moment | undefined
  text: string
  readonly bytes: number
  /** In this session, on the monotonic clock. */
  sentAt: number | undefined
}

/** Events that found no room and that the server was not told of yet. */
interface Refused {
  readonly count: number
  /** The id of the first. */
  readonly id: string
  readonly first: Stamp
  readonly last: Stamp
}

const stampSchema = z.object({ at: z.string(), moment: momentSchema.optional() })
const fileSchema = z.object({
  events: z.array(z.unknown()),
  refused: z
    .object({ count: z.number().int().min(1), id: z.string(), first: stampSchema, last: stampSchema })
    .optional(),
})
const keptSchema = z.object({ frame: robotEventSchema, moment: momentSchema.optional() })

/** How the code of an event begins that is the agent's own. */
export const OWN_EVENTS = 'agent.'

/**
 * Events that wait for their acknowledgement, also over a restart when there is a file for them. When it is full, the
 * newest are refused, and how many these were becomes an event of its own as soon as there is room: none is lost unseen.
 */
export class EventQueue implements EventKeeper {
  readonly #clock: Clock
  readonly #bounds: EventBounds
  readonly #waiting = new Map<string, WaitingEvent>()
  #bytes = 0
  #refused: Refused | undefined
  readonly #file: KeptFile | undefined
  readonly #serverTime: Pick<ServerTime, 'date' | 'stamp'> | undefined
  #kept: () => void = () => {}

  constructor(
    clock: Clock,
    bounds: EventBounds = EVENT_BOUNDS,
    file?: KeptFile,
    serverTime?: Pick<ServerTime, 'date' | 'stamp'>,
  ) {
    this.#clock = clock
    this.#bounds = bounds
    this.#serverTime = serverTime
    const before = file?.read()
    // An agent of before kept the frames alone.
    const kept = Array.isArray(before) ? { events: before.map((frame) => ({ frame })) } : before
    const { events, refused } = fileSchema.safeParse(kept).data ?? { events: [] }
    for (const event of events) {
      const parsed = keptSchema.safeParse(event)
      // All that was kept before is kept now, whatever the bounds are.
      if (parsed.success) this.#add(parsed.data.frame, parsed.data.moment)
    }
    this.#refused = refused as Refused | undefined
    this.#file = file
  }

  get waitingEvents(): number {
    return this.#waiting.size
  }

  get refusedEvents(): number {
    return this.#refused?.count ?? 0
  }

  keepEvent(event: RobotEventFrame, moment?: Moment): boolean {
    if (this.#waiting.has(event.id)) return true
    this.#tellRefused()
    const bytes = Buffer.byteLength(JSON.stringify(event))
    if (this.#waiting.size >= this.#bounds.entries || this.#bytes + bytes > this.#bounds.bytes) {
      const last: Stamp = { at: event.at, ...(moment ? { moment } : {}) }
      const { count, id, first } = this.#refused ?? { count: 0, id: event.id, first: last }
      this.#refused = { count: count + 1, id, first, last }
      this.#write()
      return false
    }
    this.#keep(event, moment)
    return true
  }

  /** Keeps an event of the agent's own, for which there is always room. The same id again changes nothing. */
  keepOwn(event: RobotEventFrame): void {
    if (!this.#waiting.has(event.id)) this.#keep(event)
  }

  /** Called for each new event. */
  whenKept(call: () => void): void {
    this.#kept = call
  }

  /** Forgets everything, for nobody will ever ask for it. */
  clear(): void {
    this.#waiting.clear()
    this.#bytes = 0
    this.#refused = undefined
    this.#write()
  }

  acknowledge(ids: readonly string[]): void {
    for (const id of ids) {
      this.#bytes -= this.#waiting.get(id)?.bytes ?? 0
      this.#waiting.delete(id)
    }
    this.#tellRefused()
    this.#write()
  }

  /** Writes down what waits, at the end. */
  stop(): void {
    this.#file?.stop()
  }

  #keep(event: RobotEventFrame, moment?: Moment): void {
    this.#add(event, moment)
    this.#write()
    this.#kept()
  }

  #add(frame: RobotEventFrame, moment: Moment | undefined): void {
    const text = JSON.stringify(frame)
    const bytes = Buffer.byteLength(text)
    this.#waiting.set(frame.id, { frame, moment, text, bytes, sentAt: undefined })
    this.#bytes += bytes
  }

  /** Once there is room again. */
  #tellRefused(): void {
    const refused = this.#refused
    if (!refused || !this.#serverTime) return
    // Half of it, lest every refusal becomes an event.
    const { entries, bytes } = this.#bounds
    if (this.#waiting.size > entries / 2 || this.#bytes > bytes / 2) return
    const { count, first, last, id } = refused
    const { moment, ...now } = this.#serverTime.stamp()
    this.#refused = undefined
    this.#keep(
      {
        type: 'event',
        // Of an id that was never sent, so that it is one of its own, too.
        id: `${id.slice(0, 100)}-refused`,
        ...marked(now),
        level: 'warn',
        code: `${OWN_EVENTS}events_dropped`,
        message: `${count} events found no room, for too many waited for the server`,
        data: { dropped: count, from: this.#timeOf(first), to: this.#timeOf(last) },
      },
      moment,
    )
    // From now on it may be sent: no crash may bring back what it tells of.
    this.#file?.flush()
  }

  #timeOf({ at, moment }: Stamp): string {
    return (moment && this.#serverTime?.date(moment).at) ?? at
  }

  #write(): void {
    this.#file?.write(() => ({
      events: [...this.#waiting.values()].map(({ frame, moment }) => ({ frame, moment })),
      refused: this.#refused,
    }))
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
      this.#date(event)
      if (!send(event.text)) return
      event.sentAt = now
      room--
    }
  }

  /** Whoever sends has been welcomed, so its time is as well known as it will ever be. */
  #date(event: WaitingEvent): void {
    const { moment, frame } = event
    if (!moment || !this.#serverTime) return
    event.frame = { ...frame, ...marked(this.#serverTime.date(moment)) }
    event.text = JSON.stringify(event.frame)
    event.moment = undefined
    this.#write()
  }
}

/** What a frame says of when it was. */
export function marked({
  at,
  clockOffsetMs,
  isUnsure,
}: Stamp): Pick<RobotEventFrame, 'at' | 'clock_offset_ms' | 'clock_unsure'> {
  return {
    at,
    ...(clockOffsetMs === undefined ? {} : { clock_offset_ms: clockOffsetMs }),
    ...(isUnsure ? { clock_unsure: true } : {}),
  }
}
