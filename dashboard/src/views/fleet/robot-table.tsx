import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from '@tanstack/virtual-core'
import type { ComponentChildren } from 'preact'
import { useEffect, useReducer, useRef, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import type { Robot } from '../../api/types.ts'
import { Badge, Connection, Health, Lifecycle } from '../../ui/badge.tsx'
import { Ago } from '../../ui/times.tsx'
import { type FleetFilter, nextSort, USUAL_SORT } from './filters.ts'

const ROW = 44

interface Column {
  readonly name: string
  readonly class: string
  /** What the server sorts by, where it does. */
  readonly sort?: string
  readonly cell: (robot: Robot, places: Places) => ComponentChildren
}

/** Names of fleets, by their ids. */
export type Places = ReadonlyMap<string, string>

const COLUMNS: readonly Column[] = [
  {
    name: 'Robot',
    class: 'robot',
    sort: 'name',
    cell: (robot) => (
      <>
        <a href={`/robots/${robot.id}`} title={robot.name}>
          {robot.name}
        </a>
        {isUnusual(robot) && <Lifecycle lifecycle={robot.lifecycle} />}
      </>
    ),
  },
  { name: 'Fleet', class: 'fleet', cell: (robot, places) => places.get(robot.fleet_id) ?? '' },
  {
    name: 'Connection',
    class: 'connection',
    sort: 'connection_since',
    cell: (robot) =>
      robot.lifecycle === 'retired' ? <Lifecycle lifecycle="retired" /> : <Connection robot={robot} />,
  },
  { name: 'Health', class: 'health', cell: (robot) => <HealthAndFaults robot={robot} /> },
  { name: 'Battery', class: 'battery', cell: ({ heartbeat }) => <Battery battery={heartbeat?.battery} /> },
  {
    name: 'Doing',
    class: 'doing',
    cell: ({ heartbeat }) => heartbeat?.activity ?? heartbeat?.mode ?? '',
  },
  {
    name: 'Heard',
    class: 'heard',
    sort: 'last_seen_at',
    cell: (robot) => <Ago time={robot.last_seen_at} />,
  },
]

/** Its connection matters all the same. Of those that are retired it does not. */
function isUnusual({ lifecycle }: Robot): boolean {
  return lifecycle === 'pending' || lifecycle === 'maintenance'
}

function HealthAndFaults({ robot: { health, heartbeat } }: { robot: Robot }) {
  const faults = heartbeat?.faults ?? []
  if (heartbeat?.estop === true) return <Badge tone="error">e-stop</Badge>
  if (faults.length === 0) return <Health health={health} />
  const title = faults.map(({ code, message }) => `${code}: ${message}`).join('\n')
  const tone = faults.some(({ level }) => level === 'error' || level === 'fatal') ? 'error' : 'warn'
  return (
    <Badge tone={tone} title={title}>
      {faults.length === 1 ? faults[0]!.code : `${faults.length} faults`}
    </Badge>
  )
}

function Battery({ battery }: { battery: { charge: number; charging?: boolean | undefined } | undefined }) {
  if (!battery) return null
  const percent = Math.round(battery.charge * 100)
  return (
    <span class="charge" title={battery.charging ? 'charging' : undefined}>
      <meter min={0} max={100} low={20} high={40} optimum={100} value={percent} aria-label="Battery" />
      <span class="numbers">
        {percent} %{battery.charging ? ' ⚡' : ''}
      </span>
    </span>
  )
}

interface Props {
  readonly robots: readonly Robot[]
  readonly left: ReadonlySet<string>
  readonly places: Places
  readonly filter: FleetFilter
  readonly onFilter: (filter: FleetFilter) => void
  /** The end of what was loaded is near. */
  readonly onEnd: () => void
  readonly onVisible: (ids: readonly string[]) => void
  /** Ids of the chosen rows; undefined where nothing can be done with them. */
  readonly chosen: ReadonlySet<string> | undefined
  readonly onChosen: (ids: ReadonlySet<string>) => void
}

/** How far down the table was seen last: whoever comes back from a robot finds it so. */
let seen: { readonly url: string; readonly top: number } | undefined

/** The rows that fit the window, of as many robots as there are. */
export function RobotTable({
  robots,
  left,
  places,
  filter,
  onFilter,
  onEnd,
  onVisible,
  chosen,
  onChosen,
}: Props) {
  const scroll = useRef<HTMLDivElement>(null)
  const { url } = useLocation()
  const [, drawAgain] = useReducer((count: number) => count + 1, 0)
  const [anchor, setAnchor] = useState<number>()
  const options = {
    count: robots.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW,
    getItemKey: (index: number) => robots[index]!.id,
    overscan: 12,
    initialOffset: () => (seen?.url === url && seen.top < robots.length * ROW ? seen.top : 0),
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => drawAgain(0),
  }
  const holder = useRef<Virtualizer<HTMLDivElement, HTMLDivElement>>()
  holder.current ??= new Virtualizer<HTMLDivElement, HTMLDivElement>(options)
  const virtualizer = holder.current
  virtualizer.setOptions(options)
  useEffect(() => virtualizer._didMount(), [virtualizer])
  useEffect(() => virtualizer._willUpdate())

  const items = virtualizer.getVirtualItems()
  const last = items.at(-1)?.index ?? -1
  useEffect(() => {
    if (last >= robots.length - 40) onEnd()
  }, [last, robots.length, onEnd])
  const ids = items.map(({ index }) => robots[index]?.id ?? '')
  const visible = ids.join()
  useEffect(() => onVisible(visible === '' ? [] : visible.split(',')), [visible, onVisible])

  const choose = (index: number, isOn: boolean, isRange: boolean) => {
    if (!chosen) return
    const next = new Set(chosen)
    const from = isRange && anchor !== undefined ? anchor : index
    for (const robot of robots.slice(Math.min(from, index), Math.max(from, index) + 1))
      if (isOn) next.add(robot.id)
      else next.delete(robot.id)
    setAnchor(index)
    onChosen(next)
  }
  const allChosen = chosen !== undefined && robots.length > 0 && robots.every(({ id }) => chosen.has(id))

  return (
    <div class="robots" role="table" aria-label="Robots" aria-rowcount={robots.length + 1}>
      <div class="line head" role="row" aria-rowindex={1}>
        {chosen && (
          <span class="tick" role="columnheader">
            <input
              type="checkbox"
              aria-label="Choose all that are loaded"
              checked={allChosen}
              onChange={() => onChosen(new Set(allChosen ? [] : robots.map(({ id }) => id)))}
            />
          </span>
        )}
        {COLUMNS.map(({ name, class: kind, sort }) => (
          <span
            key={kind}
            class={kind}
            role="columnheader"
            aria-sort={sort ? sorting(filter.sort, sort) : undefined}
          >
            {sort ? (
              <button
                type="button"
                onClick={() => onFilter({ ...filter, sort: nextSort(filter.sort, sort) })}
              >
                {name}
                <span aria-hidden="true">{ARROWS[sorting(filter.sort, sort)]}</span>
              </button>
            ) : (
              name
            )}
          </span>
        ))}
      </div>
      <div
        class="lines"
        ref={scroll}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and has to do so by keyboard too.
        tabIndex={0}
        role="rowgroup"
        aria-label="Robots"
        onScroll={({ currentTarget: { scrollTop } }) => {
          seen = { url, top: scrollTop }
        }}
      >
        <div class="all" style={{ height: `${virtualizer.getTotalSize()}px` }}>
          {items.map(({ index, start }) => {
            const robot = robots[index]
            return (
              robot && (
                <div
                  key={robot.id}
                  class="line"
                  role="row"
                  aria-rowindex={index + 2}
                  data-left={left.has(robot.id)}
                  data-away={robot.connection !== 'online'}
                  style={{ transform: `translateY(${start}px)` }}
                >
                  {chosen && (
                    <span class="tick" role="cell">
                      <input
                        type="checkbox"
                        aria-label={`Choose ${robot.name}`}
                        checked={chosen.has(robot.id)}
                        onClick={(event) => choose(index, event.currentTarget.checked, event.shiftKey)}
                      />
                    </span>
                  )}
                  {COLUMNS.map(({ class: kind, cell }) => (
                    <span key={kind} class={kind} role="cell">
                      {cell(robot, places)}
                    </span>
                  ))}
                </div>
              )
            )
          })}
        </div>
      </div>
    </div>
  )
}

const ARROWS = { ascending: ' ↑', descending: ' ↓', none: '' } as const

function sorting(sort: string | undefined, column: string): keyof typeof ARROWS {
  if ((sort ?? USUAL_SORT) === column) return 'ascending'
  return sort === `-${column}` ? 'descending' : 'none'
}
