import type { z } from 'zod'
import {
  type HeartbeatFrame,
  type RobotFrame,
  robotFrameSchemas,
  type ServerFrame,
  serverFrameSchemas,
} from './frames.ts'
import { type Heartbeat, scanHeartbeat } from './heartbeat-scanner.ts'
import { MAX_FRAME_BYTES } from './limits.ts'

/** Why a frame was not taken; `code` is stable, `message` is fit for a person and quotes nothing secret. */
export interface FrameFault {
  readonly code: 'frame_too_large' | 'binary_frame' | 'invalid_json' | 'invalid_frame'
  readonly message: string
}

export type Decoded<Frame> =
  | { readonly kind: 'frame'; readonly frame: Frame }
  /** A type that this side does not know: to be ignored, not refused. */
  | { readonly kind: 'unknown'; readonly type: string }
  | { readonly kind: 'fault'; readonly fault: FrameFault }

type Schemas = Readonly<Record<string, z.ZodType>>

/** A frame of a robot. Heartbeats are by far the most, and come in a form of their own. */
export type DecodedFromRobot =
  | Decoded<Exclude<RobotFrame, HeartbeatFrame>>
  | { readonly kind: 'heartbeat'; readonly heartbeat: Heartbeat }

/** A UTF-16 unit takes at least one byte of UTF-8 and at most three, so most frames are measured without encoding them. */
function isTooLarge(text: string): boolean {
  return (
    text.length > MAX_FRAME_BYTES ||
    (text.length > MAX_FRAME_BYTES / 3 && Buffer.byteLength(text) > MAX_FRAME_BYTES)
  )
}

function decode<Frame>(schemas: Schemas, text: string): Decoded<Frame> {
  if (isTooLarge(text)) return fault('frame_too_large', `a frame holds at most ${MAX_FRAME_BYTES} bytes`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return fault('invalid_json', 'the frame is not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return fault('invalid_frame', 'a frame is one JSON object')
  const type = (value as { type?: unknown }).type
  if (typeof type !== 'string') return fault('invalid_frame', 'type: a string is needed')
  const schema = Object.hasOwn(schemas, type) ? schemas[type] : undefined
  if (!schema) return { kind: 'unknown', type: type.slice(0, 64) }
  const parsed = schema.safeParse(value)
  if (parsed.success) return { kind: 'frame', frame: parsed.data as Frame }
  const issue = parsed.error.issues[0]
  return fault(
    'invalid_frame',
    `${[type, ...(issue?.path ?? [])].join('.').slice(0, 200)}: ${issue?.message ?? 'invalid'}`,
  )
}

function fault(code: FrameFault['code'], message: string): { kind: 'fault'; fault: FrameFault } {
  return { kind: 'fault', fault: { code, message } }
}

/** Reads one text frame that a robot sent. Never throws. */
export function decodeRobotFrame(text: string): DecodedFromRobot {
  const scanned = isTooLarge(text) ? undefined : scanHeartbeat(text)
  return scanned ? { kind: 'heartbeat', heartbeat: scanned } : decodeBySchema(text)
}

/** The same by the schemas alone, which decide what is a valid frame. */
export function decodeBySchema(text: string): DecodedFromRobot {
  const decoded = decode<RobotFrame>(robotFrameSchemas, text)
  if (decoded.kind !== 'frame') return decoded
  const { frame } = decoded
  if (frame.type !== 'heartbeat') return { kind: 'frame', frame }
  const { type: _type, seq, at, ...body } = frame
  return {
    kind: 'heartbeat',
    heartbeat: {
      seq,
      at,
      time: Date.parse(at),
      health: body.health ?? 'unknown',
      faults: body.faults,
      body: JSON.stringify(body),
    },
  }
}

/** Reads one text frame that the server sent. Never throws. */
export function decodeServerFrame(text: string): Decoded<ServerFrame> {
  return decode(serverFrameSchemas, text)
}

export function encodeFrame(frame: RobotFrame | ServerFrame): string {
  // Nearly all that a server says.
  return frame.type === 'ack' ? `{"type":"ack","seq":${frame.seq}}` : JSON.stringify(frame)
}
