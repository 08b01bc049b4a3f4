import type { CloseCause } from '../protocol/close-codes.ts'
import type { ErrorFrame, HelloFrame, Lifecycle, RobotEventFrame, ServerFrame } from '../protocol/frames.ts'
import type { Heartbeat } from '../protocol/heartbeat-scanner.ts'

/**
 * One robot's session is always in one of these phases and only ever moves down the list:
 *
 * - awaiting_hello: the socket is open and authenticated, nothing was said yet
 * - opening:        hello was taken, the database has not answered yet; further frames are held unread
 * - open:           welcomed, with a session_no that fences everything it writes
 * - closed:         over; every further event is ignored
 */
export type SessionState =
  | { readonly phase: 'awaiting_hello'; readonly errors: number }
  | {
      readonly phase: 'opening'
      readonly errors: number
      readonly hello: HelloFrame
      readonly held: readonly string[]
    }
  | OpenSession
  | { readonly phase: 'closed' }

/** Copied with every heartbeat and every acknowledgement: what these leave as it is has an object of its own. */
export interface OpenSession {
  readonly phase: 'open'
  readonly errors: number
  readonly facts: SessionFacts
  /** Highest seq this robot's sessions are known to have stored or handed to the writer; -1 for none. */
  readonly highestSeq: number
  /** The seq above which a heartbeat is certainly newer than the one shown as the latest. */
  readonly latestSeq: number
  /** The robot's own time of the heartbeat shown as the latest, in milliseconds. */
  readonly latestAt: number
  /** Highest seq that came in this session; -1 for none. What comes below it is from before, whatever its time says. */
  readonly cameSeq: number
  /** Highest seq of this session known to be in the database; -1 for none. */
  readonly storedSeq: number
  /** Codes of the faults that the robot last reported. */
  readonly faultCodes: readonly string[]
}

export interface SessionFacts {
  readonly robotId: string
  readonly sessionNo: number
  readonly name: string
  readonly lifecycle: Lifecycle
  readonly heartbeatIntervalMs: number
  /** Over how long this robot is to spread its return when the session breaks without a word; 0: not at all. */
  readonly reconnectSpreadMs: number
  /** When the request for a new token was made that this robot was told of last; undefined: of none in this session. */
  readonly rotationAskedAt: number | undefined
  /** Next tokens that the robot named in this session. */
  readonly tokensNamed: number
}

/** A request that the robot makes a new token; `at` tells it from others, in milliseconds since 1970. */
export interface RotationRequest {
  readonly at: number
  readonly reason: string
}

/** What the database answered when a session was opened. */
export interface SessionGrant {
  readonly robotId: string
  readonly sessionNo: number
  readonly name: string
  readonly lifecycle: Lifecycle
  readonly heartbeatIntervalMs: number
  readonly reconnectSpreadMs: number
  readonly latestSeq: number | null
  readonly latestAt: number | null
  readonly faultCodes: readonly string[]
  /** A request that stands. */
  readonly rotation: RotationRequest | null
}

/** What may change about a robot while it is connected. */
export interface RobotFacts {
  readonly name: string
  readonly lifecycle: Lifecycle
  readonly heartbeatIntervalMs: number
  readonly rotation: RotationRequest | null
}

export type SessionEvent =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'binary' }
  | { readonly type: 'opened'; readonly grant: SessionGrant }
  | { readonly type: 'stored'; readonly seq: number }
  | { readonly type: 'events_stored'; readonly ids: readonly string[] }
  /** A heartbeat that the database will never take. */
  | { readonly type: 'rejected'; readonly seq: number }
  | { readonly type: 'next_token_stored'; readonly tokenHash: string }
  | { readonly type: 'next_token_refused'; readonly why: string }
  | { readonly type: 'changed'; readonly facts: RobotFacts }
  | { readonly type: 'drain'; readonly reconnectInMs: number }
  /** The server ends the session. */
  | { readonly type: 'end'; readonly cause: CloseCause }
  /** The socket is gone, whoever closed it. */
  | { readonly type: 'socket_closed'; readonly code: number; readonly reason: string }

export interface TimelineEntry {
  readonly level: 'info' | 'warn' | 'error'
  readonly code: string
  readonly message: string
  readonly data: Readonly<Record<string, unknown>>
}

/** How a session ended; `bye` when the robot took its leave. */
export interface SessionEnd {
  readonly by: 'robot' | 'server' | 'network'
  readonly code: number
  readonly reason: string
  readonly bye: boolean
}

export type SessionEffect =
  | { readonly type: 'open'; readonly hello: HelloFrame }
  | { readonly type: 'send'; readonly frame: ServerFrame }
  | {
      readonly type: 'store_heartbeat'
      readonly heartbeat: Heartbeat
      /** It may be in the database already: look before inserting. */
      readonly recheck: boolean
      /** Newer than what is shown as the latest. */
      readonly latest: boolean
    }
  | { readonly type: 'refuse_heartbeat'; readonly reason: 'pending' }
  | { readonly type: 'store_event'; readonly event: RobotEventFrame }
  | { readonly type: 'store_next_token'; readonly tokenHash: string }
  | { readonly type: 'timeline'; readonly entry: TimelineEntry }
  | { readonly type: 'frame_error'; readonly code: ErrorFrame['code'] }
  | { readonly type: 'close'; readonly cause: CloseCause }
  /** Comes exactly once for each session. */
  | { readonly type: 'ended'; readonly end: SessionEnd }
