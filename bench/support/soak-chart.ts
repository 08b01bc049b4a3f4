import { AXIS, COLOURS, shortNumber, svgOf } from './svg.ts'

interface SoakRounds {
  readonly minutes: readonly {
    readonly minute: number
    readonly p50Ms: number
    readonly p99Ms: number
    readonly heartbeatsPerSecond: number
    readonly sessionsOpened: number
    readonly killed: boolean
  }[]
}

const SIZE = { width: 900, height: 560 }

/** Latencies and heartbeats over the minutes, with a line where a process was killed. */
export function soakChart({ minutes }: SoakRounds): string {
  const kills = {
    silent: true,
    symbol: 'none' as const,
    lineStyle: { color: COLOURS.fourth, type: 'dotted' as const, width: 2 },
    label: { show: false },
    data: minutes.filter((minute) => minute.killed).map((minute) => ({ xAxis: String(minute.minute) })),
  }
  const line = (name: string, index: number, colour: string, values: readonly number[]) => ({
    type: 'line' as const,
    name,
    xAxisIndex: index,
    yAxisIndex: index,
    showSymbol: minutes.length < 3,
    lineStyle: { color: colour, width: 2 },
    itemStyle: { color: colour },
    data: [...values],
    markLine: kills,
  })
  const x = (index: number, name: string) => ({
    ...AXIS,
    type: 'category' as const,
    gridIndex: index,
    name,
    nameLocation: 'middle' as const,
    nameGap: 28,
    boundaryGap: minutes.length < 3,
    data: minutes.map((minute) => String(minute.minute)),
  })
  const y = (index: number, name: string) => ({
    ...AXIS,
    type: 'value' as const,
    gridIndex: index,
    name,
    nameLocation: 'middle' as const,
    nameGap: 56,
    axisLabel: { ...AXIS.axisLabel, formatter: shortNumber },
  })
  return svgOf('Heartbeats over the minutes (dotted: a gateway process is killed)', SIZE, {
    legend: { top: 36, data: ['p99', 'p50', 'heartbeats/s'] },
    grid: [
      { left: 80, right: 30, top: 76, height: 180 },
      { left: 80, right: 30, top: 320, height: 170 },
    ],
    xAxis: [x(0, ''), x(1, 'minute')],
    yAxis: [y(0, 'heartbeat → ack, ms'), y(1, 'heartbeats/s')],
    series: [
      line(
        'p99',
        0,
        COLOURS.bad,
        minutes.map((minute) => minute.p99Ms),
      ),
      line(
        'p50',
        0,
        COLOURS.ours,
        minutes.map((minute) => minute.p50Ms),
      ),
      line(
        'heartbeats/s',
        1,
        COLOURS.good,
        minutes.map((minute) => minute.heartbeatsPerSecond),
      ),
    ],
  })
}
