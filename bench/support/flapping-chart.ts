import type { Phase } from './flapping.ts'
import { AXIS, COLOURS, svgOf } from './svg.ts'

interface FlappingRounds {
  readonly phases: readonly Phase[]
  readonly subjects: readonly {
    readonly node: string
    readonly looks: readonly {
      readonly hours: number
      readonly residentMiB: number
      readonly anonymousMiB: number
    }[]
  }[]
}

const SIZE = { width: 900, height: 380 }
const LINES = [COLOURS.ours, COLOURS.good, COLOURS.third, COLOURS.fourth]

/** Resident memory over the minutes (dashed: what is of no file), grey where the network was away. */
export function flappingChart({ phases, subjects }: FlappingRounds): string {
  let minute = 0
  const away = phases.flatMap(({ weather, ms }) => {
    const from = minute
    minute += ms / 60_000
    return weather === 'fair' ? [] : [[{ xAxis: from }, { xAxis: minute }] as [object, object]]
  })
  const line = (name: string, colour: string, dashed: boolean, points: readonly (readonly number[])[]) => ({
    type: 'line' as const,
    name,
    showSymbol: false,
    lineStyle: { color: colour, width: 2, type: dashed ? ('dashed' as const) : ('solid' as const) },
    itemStyle: { color: colour },
    data: points.map((point) => [...point]),
  })
  const axis = (name: string, gap: number) => ({
    ...AXIS,
    type: 'value' as const,
    min: 0,
    name,
    nameLocation: 'middle' as const,
    nameGap: gap,
  })
  const series = subjects.flatMap(({ node, looks }, index) => {
    const colour = LINES[index % LINES.length]!
    return [
      line(
        `Node ${node}`,
        colour,
        false,
        looks.map((look) => [look.hours * 60, look.residentMiB]),
      ),
      line(
        `Node ${node}, of no file`,
        colour,
        true,
        looks.map((look) => [look.hours * 60, look.anonymousMiB]),
      ),
    ]
  })
  return svgOf('Memory of the agent over the minutes (grey: the network is away)', SIZE, {
    legend: { top: 36, data: series.map(({ name }) => name) },
    grid: [{ left: 70, right: 30, top: 76, height: 230 }],
    xAxis: [{ ...axis('minute', 28), max: Math.ceil(minute), splitLine: { show: false } }],
    yAxis: [axis('MiB resident', 44)],
    series: series.map((each, index) =>
      index > 0
        ? each
        : { ...each, markArea: { silent: true, itemStyle: { color: '#eaeef2' }, data: away as never } },
    ),
  })
}
