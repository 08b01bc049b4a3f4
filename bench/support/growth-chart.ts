import { AXIS, COLOURS, shortNumber, svgOf } from './svg.ts'

interface GrowthRounds {
  readonly steps: readonly {
    readonly connected: number
    readonly p99Ms: number
    readonly gatewaysMiB: number
    readonly serverMiB: number
    readonly robotsMiB: number
    readonly postgresMiB: number
    readonly kernelMiB: number
  }[]
}

const SIZE = { width: 900, height: 640 }
const OWNERS = [
  ['gateway processes', COLOURS.ours, (step) => step.gatewaysMiB],
  ['the server beside them', COLOURS.third, (step) => step.serverMiB],
  ['PostgreSQL', COLOURS.good, (step) => step.postgresMiB],
  ['kernel, both ends of each socket', COLOURS.bare, (step) => step.kernelMiB],
  ['the robots’ own processes', COLOURS.fourth, (step) => step.robotsMiB],
] as const satisfies readonly (readonly [string, string, (step: GrowthRounds['steps'][number]) => number])[]

/** Memory by its owner, all of it and for each robot, and latency, against the number of robots. */
export function growthChart({ steps }: GrowthRounds): string {
  const x = (index: number, name: string) => ({
    ...AXIS,
    type: 'category' as const,
    gridIndex: index,
    name,
    nameLocation: 'middle' as const,
    nameGap: 28,
    data: steps.map((step) =>
      step.connected >= 1_000 ? `${shortNumber(step.connected / 1_000)} k` : String(step.connected),
    ),
    axisLabel: { ...AXIS.axisLabel, interval: 0 },
  })
  const y = (index: number, name: string) => ({
    ...AXIS,
    type: 'value' as const,
    gridIndex: index,
    name,
    nameLocation: 'middle' as const,
    nameGap: 50,
    axisLabel: { ...AXIS.axisLabel, formatter: shortNumber },
  })
  return svgOf(
    'Robots on one machine: whose memory they take, and how soon heartbeats are acknowledged',
    SIZE,
    {
      legend: { top: 36, left: 'center', width: 760, data: OWNERS.map(([name]) => name) },
      grid: [
        { left: 76, right: 30, top: 100, height: 230 },
        { left: 76, right: 30, top: 400, height: 170 },
      ],
      xAxis: [x(0, ''), x(1, 'robots connected')],
      yAxis: [y(0, 'GiB'), y(1, 'heartbeat → ack p99, ms')],
      series: [
        ...OWNERS.map(([name, colour, mib]) => ({
          type: 'bar' as const,
          name,
          stack: 'memory',
          xAxisIndex: 0,
          yAxisIndex: 0,
          barWidth: '60%',
          itemStyle: { color: colour },
          data: steps.map((step) => Math.max(mib(step), 0) / 1024),
        })),
        {
          type: 'line' as const,
          name: 'p99',
          xAxisIndex: 1,
          yAxisIndex: 1,
          lineStyle: { color: COLOURS.bad, width: 2 },
          itemStyle: { color: COLOURS.bad },
          label: {
            show: true,
            position: 'top' as const,
            formatter: ({ value }: { value: unknown }) => shortNumber(Number(value)),
          },
          data: steps.map((step) => step.p99Ms),
        },
      ],
    },
  )
}
