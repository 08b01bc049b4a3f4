import type { Robot } from './shapes.ts'
import { type Column, NOTHING } from './table.ts'
import type { Output } from './terminal.ts'
import { age, duration, printable } from './text.ts'

type Style = Parameters<Output['style']>[0]

const STYLES: Readonly<Record<string, Style>> = {
  online: 'green',
  stale: 'yellow',
  offline: 'red',
  ok: 'green',
  warn: 'yellow',
  error: 'red',
  pending: 'yellow',
  maintenance: 'yellow',
  retired: 'dim',
}

/** A state in the colour that goes with it everywhere. */
export function paintState(output: Output, state: string): string {
  const style = STYLES[state]
  const text = printable(state)
  return style ? output.style(style, text) : text
}

const percent = (ratio: number | undefined) =>
  ratio === undefined ? NOTHING : `${Math.round(ratio * 100)} %`

/** The columns in which lists of robots are shown, here and in the demo. */
export function robotColumns(
  output: Output,
  fleetNames: ReadonlyMap<string, string>,
  now: number,
): Column<Robot>[] {
  return [
    { title: 'NAME', cell: (robot) => printable(robot.name), minWidth: 12 },
    {
      title: 'FLEET',
      cell: (robot) => printable(fleetNames.get(robot.fleet_id) ?? NOTHING),
      minWidth: 6,
      dropOrder: 4,
    },
    { title: 'CONNECTION', cell: (robot) => paintState(output, robot.connection) },
    { title: 'SINCE', cell: (robot) => age(robot.connection_since, now), align: 'right', dropOrder: 3 },
    { title: 'HEALTH', cell: (robot) => paintState(output, robot.health), dropOrder: 1 },
    { title: 'LIFECYCLE', cell: (robot) => paintState(output, robot.lifecycle), dropOrder: 9 },
    {
      title: 'HEARTBEAT',
      cell: (robot) => (robot.heartbeat ? `${duration(robot.heartbeat.age_ms)} ago` : NOTHING),
      align: 'right',
      dropOrder: 2,
    },
    {
      title: 'BATTERY',
      cell: (robot) => percent(robot.heartbeat?.battery?.charge),
      align: 'right',
      dropOrder: 7,
      hiddenWhenEmpty: true,
    },
    { title: 'CPU', cell: (robot) => percent(robot.heartbeat?.system?.cpu), align: 'right', dropOrder: 5 },
    {
      title: 'MEMORY',
      cell: (robot) => percent(robot.heartbeat?.system?.memory),
      align: 'right',
      dropOrder: 6,
    },
    {
      title: 'DOING',
      cell: (robot) => printable(robot.heartbeat?.activity ?? robot.heartbeat?.mode ?? NOTHING),
      minWidth: 6,
      dropOrder: 8,
      hiddenWhenEmpty: true,
    },
  ]
}
