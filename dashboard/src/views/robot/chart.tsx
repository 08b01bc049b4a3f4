import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { formatNumber, formatTick, kindOf } from './fields.ts'
import type { Span } from './ranges.ts'
import { type Bucket, columnsOf, lonelyOf, totalOf } from './series.ts'

const HEIGHT = 150
/** Charts that stand together show the same moment under the pointer. */
const TOGETHER = 'robot'
/** Less is a click. */
const LEAST_DRAG = 6
const DAY_S = 86_400

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
const CLOCK_SECONDS = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
})
const DATE = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' })
const MOMENT = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
})

/** Times below the chart, in the time zone of whoever looks; the date where it is another one. */
function timeTicks(_: uPlot, splits: number[], _axis: number, _space: number, step: number): string[] {
  let day = ''
  return splits.map((seconds) => {
    const date = new Date(seconds * 1_000)
    const name = DATE.format(date)
    if (step >= DAY_S) return name
    const text = (step < 60 ? CLOCK_SECONDS : CLOCK).format(date)
    if (name === day) return text
    day = name
    return `${text}\n${name}`
  })
}

/** All that there is with some room around it, also where it is one value only. */
function rangeAround(least: number, most: number): [number, number] {
  const room = (most - least) / 10 || Math.max(Math.abs(most) / 10, 1)
  const low = least - room
  // Robots rarely mean less than nothing.
  return [least >= 0 && low < 0 ? 0 : low, most + room]
}

interface Colours {
  readonly line: string
  readonly band: string
  readonly text: string
  readonly grid: string
}

/** A canvas knows nothing of custom properties: an element that the style sheet colours tells what they come to. */
function coloursOf(probe: Element): Colours {
  const style = getComputedStyle(probe)
  return {
    line: style.color,
    band: style.backgroundColor,
    text: style.outlineColor,
    grid: style.borderTopColor,
  }
}

interface Props {
  readonly field: string
  readonly buckets: readonly Bucket[]
  readonly stepMs: number
  readonly silence: number
  readonly span: Span
  readonly onZoom: (span: Span) => void
  readonly onBack: () => void
}

/** One number of a robot over time: a band from the least to the most of each step, and the average as a line. */
export function Chart({ field, buckets, stepMs, silence, span, onZoom, onBack }: Props) {
  const holder = useRef<HTMLDivElement>(null)
  const probe = useRef<HTMLSpanElement>(null)
  const plot = useRef<uPlot>()
  const isDragging = useRef(false)
  const [under, setUnder] = useState<number | null>(null)
  const kind = kindOf(field)
  const columns = useMemo(
    () => columnsOf(buckets, { stepMs, silence, factor: kind.factor }),
    [buckets, stepMs, silence, kind.factor],
  )
  const newest = useRef({ columns, span, onZoom, onBack })
  newest.current = { columns, span, onZoom, onBack }

  useEffect(() => {
    const place = holder.current!
    let colours = coloursOf(probe.current!)
    const { bounds } = kindOf(field)
    const axis = { stroke: () => colours.text, font: '12px system-ui, sans-serif', ticks: { show: false } }
    const grid = { stroke: () => colours.grid, width: 1 }
    const edge = { stroke: '', width: 0, points: { show: false } }
    const made = new uPlot(
      {
        width: Math.max(place.clientWidth, 50),
        height: HEIGHT,
        padding: [8, 10, 0, 0],
        legend: { show: false },
        scales: {
          x: { range: () => [newest.current.span.from / 1_000, newest.current.span.to / 1_000] },
          y: bounds
            ? { range: () => [...bounds] }
            : { range: (_, least, most) => rangeAround(least ?? 0, most ?? 1) },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 38, space: 64, values: timeTicks },
          {
            ...axis,
            grid,
            size: 50,
            space: 32,
            values: (_, splits) => splits.map((value) => formatTick(field, value)),
          },
        ],
        series: [
          {},
          { ...edge },
          { ...edge },
          {
            stroke: () => colours.line,
            width: 1.5,
            points: {
              show: false,
              size: 4,
              fill: () => colours.line,
              filter: (u: uPlot, series: number) => {
                const lonely = lonelyOf(u.data[series] as (number | null)[])
                return lonely.length > 0 ? lonely : null
              },
            },
          },
        ],
        bands: [{ series: [2, 1], fill: () => colours.band }],
        cursor: {
          y: false,
          points: { show: false },
          drag: { x: true, y: false, setScale: false, dist: LEAST_DRAG },
          sync: {
            key: TOGETHER,
            filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave' },
          },
          bind: {
            dblclick: () => () => {
              newest.current.onBack()
              return null
            },
          },
        },
        hooks: {
          setCursor: [(u) => setUnder(u.cursor.idx ?? null)],
          setSelect: [
            (u) => {
              const { left, width } = u.select
              if (width < LEAST_DRAG) return
              const [from, to] = [u.posToVal(left, 'x'), u.posToVal(left + width, 'x')]
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
              newest.current.onZoom({ from: from * 1_000, to: to * 1_000 })
            },
          ],
        },
      },
      newest.current.columns as uPlot.AlignedData,
      place,
    )
    plot.current = made

    const ending = new AbortController()
    const { signal } = ending
    made.over.addEventListener('mousedown', () => (isDragging.current = true), { signal })
    addEventListener('mouseup', () => (isDragging.current = false), { signal })
    const recolour = () => {
      if (!probe.current) return
      colours = coloursOf(probe.current)
      made.redraw(false, true)
    }
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour, { signal })
    const theme = new MutationObserver(recolour)
    theme.observe(document.documentElement, { attributeFilter: ['data-theme'] })
    const sizes = new ResizeObserver(() => {
      const width = place.clientWidth
      if (width > 0 && width !== made.width) made.setSize({ width, height: HEIGHT })
    })
    sizes.observe(place)
    return () => {
      ending.abort()
      theme.disconnect()
      sizes.disconnect()
      made.destroy()
      plot.current = undefined
    }
  }, [field])

  useEffect(() => {
    // What is being marked stays where it is.
    if (!isDragging.current) plot.current?.setData(columns as uPlot.AlignedData)
  }, [columns, span.from, span.to])

  const total = totalOf(buckets)
  const show = (value: number | null | undefined) =>
    value == null ? '–' : formatNumber(field, value / kind.factor)
  const [times, least, most, average] = columns
  const isUnder = under !== null && times[under] !== undefined && average[under] != null
  return (
    <figure class="chart">
      <figcaption class="row apart">
        <strong title={field}>{kind.name}</strong>
        <span class="numbers small soft">
          {isUnder ? (
            <>
              {(span.to - span.from > DAY_S * 1_000 ? MOMENT : CLOCK_SECONDS).format(
                times[under]! * 1_000 - stepMs / 2,
              )}{' '}
              · <b>{show(average[under])}</b>
              {show(least[under]) !== show(most[under]) && ` (${show(least[under])} to ${show(most[under])})`}
            </>
          ) : total ? (
            <>
              last <b>{formatNumber(field, total.last)}</b>
              {total.min !== total.max &&
                ` · ${formatNumber(field, total.min)} to ${formatNumber(field, total.max)}`}
            </>
          ) : (
            'nothing in this time'
          )}
        </span>
      </figcaption>
      <span ref={probe} class="colours" aria-hidden="true" />
      <div
        ref={holder}
        class="plot"
        role="img"
        aria-label={
          total
            ? `${kind.name}: between ${formatNumber(field, total.min)} and ${formatNumber(field, total.max)}, on average ${formatNumber(field, total.avg)}, last ${formatNumber(field, total.last)}`
            : `${kind.name}: nothing in this time`
        }
      />
    </figure>
  )
}
