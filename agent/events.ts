import type { RobotEventFrame } from '../src/protocol/frames.ts'

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
