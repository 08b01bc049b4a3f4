import type { BarChart } from './report.ts'
import { AXIS, COLOURS, shortNumber, svgOf } from './svg.ts'

const GROUP_WIDTH = 300
const HEIGHT = 330
const [TOP, BOTTOM, LEFT, RIGHT] = [86, 50, 62, 24]
/** Bars below this share of their axis have no room for their number. */
const LOW = 0.12
const ABOVE = { position: 'top', distance: 12, color: '#24292f' } as const
const SHORTEST_WIDTH = 560

/** Groups side by side, each with an axis of its own that begins at zero; medians, with whiskers from lowest to highest. */
export function barChart({ title, groups }: BarChart): string {
  const width = Math.max(groups.length * GROUP_WIDTH, SHORTEST_WIDTH)
  const each = width / groups.length
  return svgOf(
    title,
    { width, height: HEIGHT },
    {
      grid: groups.map((_, index) => ({
        left: index * each + LEFT,
        width: each - LEFT - RIGHT,
        top: TOP,
        bottom: BOTTOM,
      })),
      graphic: groups.map((group, index) => ({
        type: 'text' as const,
        x: index * each + each / 2,
        y: 42,
        style: {
          text: group.unit === '' ? group.label : `${group.label}\n${group.unit}`,
          align: 'center' as const,
          fill: '#24292f',
          font: '12px sans-serif',
          lineHeight: 16,
        },
      })),
      xAxis: groups.map((group, index) => ({
        ...AXIS,
        type: 'category' as const,
        gridIndex: index,
        data: group.bars.map((bar) => bar.name),
        axisTick: { show: false },
        axisLabel: {
          ...AXIS.axisLabel,
          interval: 0,
          width: (each - LEFT - RIGHT) / group.bars.length,
          overflow: 'break' as const,
        },
      })),
      yAxis: groups.map((group, index) => ({
        ...AXIS,
        type: 'value' as const,
        gridIndex: index,
        min: 0,
        max: axisEnd(group),
        axisLabel: { ...AXIS.axisLabel, formatter: shortNumber, showMaxLabel: true },
      })),
      series: groups.flatMap((group, index) => [
        {
          type: 'bar' as const,
          xAxisIndex: index,
          yAxisIndex: index,
          barWidth: '50%',
          data: group.bars.map((bar) => ({
            value: bar.spread.median,
            itemStyle: { color: colourOf(bar.name) },
            ...(bar.spread.median < axisEnd(group) * LOW ? { label: ABOVE } : {}),
          })),
          label: {
            show: true,
            position: 'insideBottom' as const,
            color: '#ffffff',
            fontWeight: 'bold' as const,
            formatter: ({ value }: { value: unknown }) => shortNumber(Number(value)),
          },
          ...(group.aim === undefined
            ? {}
            : {
                markLine: {
                  silent: true,
                  symbol: 'none' as const,
                  lineStyle: { color: COLOURS.bad, type: 'dashed' as const, width: 2 },
                  label: {
                    position: 'insideEndTop' as const,
                    color: COLOURS.bad,
                    backgroundColor: '#ffffff',
                    padding: [1, 3],
                    formatter: `aim ${group.aim.good === 'above' ? '≥' : '≤'} ${shortNumber(group.aim.value)}`,
                  },
                  data: [{ yAxis: group.aim.value }],
                },
              }),
        },
        whiskers(
          index,
          group.bars.map((bar) => bar.spread),
        ),
      ]),
    },
  )
}

function axisEnd({ bars, aim }: BarChart['groups'][number]): number {
  return niceMax(Math.max(...bars.map((bar) => bar.spread.max), aim?.value ?? 0))
}

/** What stands beside ours for comparison is grey. */
function colourOf(name: string): string {
  return name.startsWith('bare') ? COLOURS.bare : COLOURS.ours
}

function niceMax(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value * 1.08, 1e-9)))
  const step = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((factor) => factor * power >= value * 1.08)!
  return step * power
}

function whiskers(index: number, spreads: readonly { readonly min: number; readonly max: number }[]) {
  return {
    type: 'custom' as const,
    xAxisIndex: index,
    yAxisIndex: index,
    silent: true,
    z: 5,
    data: spreads.map(({ min, max }, place) => [place, min, max]),
    renderItem: (_: unknown, api: { value(at: number): unknown; coord(point: number[]): number[] }) => {
      const [place, min, max] = [0, 1, 2].map((at) => Number(api.value(at)))
      const [x, low] = api.coord([place!, min!])
      const [, high] = api.coord([place!, max!])
      const line = (x1: number, y1: number, x2: number, y2: number) => ({
        type: 'line' as const,
        shape: { x1, y1, x2, y2 },
        style: { stroke: '#24292f', lineWidth: 1.5 },
      })
      return {
        type: 'group' as const,
        children: [
          line(x!, low!, x!, high!),
          line(x! - 6, low!, x! + 6, low!),
          line(x! - 6, high!, x! + 6, high!),
        ],
      }
    },
  }
}
