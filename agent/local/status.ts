import type { ExecStatus } from './exec.ts'
import type { Refusals } from './software.ts'

/** What `status` tells of the robot's own software. */
export interface LocalStatus {
  readonly socket: string | null
  readonly connections: number
  readonly metrics: number
  readonly faults: number
  readonly events_waiting: number
  /** Events that found no room, of which the server is still to be told. */
  readonly events_dropped: number
  readonly refused: Refusals
  readonly exec: {
    readonly folder: string | null
    readonly programs: readonly ExecStatus[]
    readonly skipped: readonly { readonly name: string; readonly why: string }[]
  }
}

/** The same as lines for a person. */
export function localRows(local: LocalStatus): [string, string][] {
  const { socket, metrics, faults, events_waiting, events_dropped, refused, exec } = local
  const refusals = Object.entries(refused).filter(([, count]) => count > 0)
  return [
    ['socket', socket ?? 'none'],
    [
      'software',
      `${metrics} metrics, ${faults} faults, ${events_waiting} events waiting${events_dropped > 0 ? `, ${events_dropped} lost` : ''}`,
    ],
    ...(refusals.length > 0
      ? [['refused', refusals.map(([why, count]) => `${count} ${why}`).join(', ')] as [string, string]]
      : []),
    ...exec.programs.map(({ name, every_s, runs, failures, last_error }): [string, string] => [
      'program',
      `${name} every ${every_s} s, run ${runs} times${failures > 0 ? `, failed ${failures} in a row: ${last_error}` : ''}`,
    ]),
    ...exec.skipped.map(({ name, why }): [string, string] => ['not run', `${name} ${why}`]),
  ]
}
