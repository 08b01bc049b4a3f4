import type { HeartbeatBody } from '../protocol/frames.ts'
import type { TimelineEntry } from './state.ts'

type Fault = NonNullable<HeartbeatBody['faults']>[number]

/** What the timeline says when the faults of a robot change from the codes known before to those of a heartbeat. */
export function faultChanges(before: readonly string[], now: readonly Fault[]): TimelineEntry[] {
  const raised = now
    .filter(
      (fault, index) =>
        !before.includes(fault.code) && now.findIndex((other) => other.code === fault.code) === index,
    )
    .map(
      (fault): TimelineEntry => ({
        level: fault.level === 'error' || fault.level === 'fatal' ? 'error' : 'warn',
        code: 'fault_raised',
        message: fault.message === '' ? fault.code : `${fault.code}: ${fault.message}`,
        data: { fault: fault.code, fault_level: fault.level, since: fault.since },
      }),
    )
  const cleared = before
    .filter((code) => !now.some((fault) => fault.code === code))
    .map(
      (code): TimelineEntry => ({
        level: 'info',
        code: 'fault_cleared',
        message: code,
        data: { fault: code },
      }),
    )
  return [...raised, ...cleared]
}
