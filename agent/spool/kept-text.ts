import type { HeartbeatFrame } from '../../src/protocol/frames.ts'
import type { Moment, Stamp } from '../server-time.ts'

/**
 * A heartbeat as it is kept: the text of its frame, and in front of that, when it was made by a clock that had not been
 * compared with the server's, its moment: `<boot> <milliseconds since then> {"type":"heartbeat",…,"at":"<by its own clock>",…}`.
 */
export interface Kept {
  readonly text: string
  readonly moment: Moment | undefined
}

const MOMENT = /^([^\s{]+) (\d{1,15}) (?=\{)/
const TIME = /"at":"([^"]+)"/

export function writeKept(text: string, moment: Moment | undefined): string {
  return moment ? `${moment.boot} ${moment.up} ${text}` : text
}

export function readKept(kept: string): Kept {
  const [prefix, boot, up] = MOMENT.exec(kept) ?? []
  const text = prefix === undefined ? kept : kept.slice(prefix.length)
  const own = TIME.exec(text)?.[1]
  if (boot === undefined || own === undefined) return { text, moment: undefined }
  return { text, moment: { boot, up: Number(up), own } }
}

/** What tells when a kept heartbeat was made. */
export function labelFor(kept: string): string {
  const [prefix = ''] = MOMENT.exec(kept) ?? []
  const own = TIME.exec(kept.slice(prefix.length))?.[1]
  if (own === undefined) throw new TypeError('no heartbeat')
  return `${prefix}${own}`
}

/** Reads such a label. */
export function labelOf(label: string): Moment | Stamp | undefined {
  const [own, up, boot, ...rest] = label.split(' ').reverse()
  if (!own || rest.length > 0 || Number.isNaN(Date.parse(own))) return undefined
  if (up === undefined) return { at: own }
  return boot !== undefined && /^\d{1,15}$/.test(up) ? { boot, up: Number(up), own } : undefined
}

/** Room that the marks of `datedText` take. */
export const MARK_BYTES = 64

/** A frame with its true time. Its faults began by the same clock. */
export function datedText(text: string, { at, clockOffsetMs, isUnsure }: Stamp): string {
  if (clockOffsetMs === undefined && !isUnsure) return text
  const frame = JSON.parse(text) as HeartbeatFrame
  if (isUnsure) return JSON.stringify({ ...frame, clock_unsure: true })
  const { faults, ...rest } = frame
  const shifted = faults?.map((fault) => ({ ...fault, since: shift(fault.since, -clockOffsetMs!) }))
  return JSON.stringify({
    ...rest,
    at,
    ...(shifted ? { faults: shifted } : {}),
    clock_offset_ms: clockOffsetMs,
  })
}

const LAST_INSTANT = 253_402_300_799_998

function shift(time: string, byMs: number): string {
  return new Date(Math.min(LAST_INSTANT, Math.max(0, Date.parse(time) + byMs))).toISOString()
}
