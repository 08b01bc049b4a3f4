import { useEffect, useMemo, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { all } from '../../api/client.ts'
import type { Fleet as FleetOfRobots, Site } from '../../api/types.ts'
import { maySomewhere } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { LiveMark } from '../../ui/live-mark.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { PageHead } from '../../ui/page-head.tsx'
import { Empty, Failure, Loading } from '../../ui/states.tsx'
import { BulkActions } from './bulk.tsx'
import { FilterBar } from './filter-bar.tsx'
import { addressOf, baseOf, type FleetFilter, filterOf, isNarrowed, totalOf } from './filters.ts'
import './fleet.css'
import { RobotTable } from './robot-table.tsx'
import { StatusBar } from './status-bar.tsx'
import { useFleet } from './use-fleet.ts'

const NONE: ReadonlySet<string> = new Set()

/** All robots, and which of them need somebody. */
export function Fleet() {
  const { url, route } = useLocation()
  const filter = useMemo(() => filterOf(url), [url])
  const setFilter = (next: FleetFilter) => route(addressOf(next), true)
  const fleet = useFleet(filter)
  const places = useLoaded(
    async () => ({ sites: await all<Site>('/api/sites'), fleets: await all<FleetOfRobots>('/api/fleets') }),
    [],
  )
  const [chosen, setChosen] = useState(NONE)
  const [isPointed, setPointed] = useState(false)
  const { sites, fleets } = places.value ?? { sites: [], fleets: [] }
  const names = useMemo(() => new Map(fleets.map(({ id, name }) => [id, name])), [fleets])
  const chosenRobots = fleet.robots.filter(({ id }) => chosen.has(id))

  // Rows move only while nobody points at them or has chosen some.
  const mayMove = fleet.moved > 0 && !isPointed && chosen.size === 0
  const { reload } = fleet
  useEffect(() => {
    if (!mayMove) return
    const timer = setTimeout(reload, 2_000)
    return () => clearTimeout(timer)
  }, [mayMove, reload])

  const total = totalOf(filter, fleet.counts)
  const retired = filter.lifecycle === undefined ? (fleet.counts?.lifecycle.retired ?? 0) : 0
  const isBare = fleet.counts?.robots === 0 && fleet.counts.lifecycle.retired === 0 && !isNarrowed(filter)
  return (
    <>
      <PageHead title="Fleet">
        <LiveMark live={fleet.live} />
        {maySomewhere('enrollment-keys:write') && (
          <a class="button primary" href="/welcome">
            Add robots
          </a>
        )}
      </PageHead>
      <StatusBar counts={fleet.counts} filter={filter} onFilter={setFilter} />
      <FilterBar filter={filter} sites={sites} fleets={fleets} onFilter={setFilter} />
      {fleet.error !== undefined && <Failure error={fleet.error} onRetry={fleet.reload} />}
      {chosenRobots.length > 0 ? (
        <BulkActions
          robots={chosenRobots}
          fleets={fleets}
          onClear={() => setChosen(NONE)}
          onAll={
            fleet.hasMore && chosenRobots.length === fleet.robots.length
              ? async () => {
                  const ids = await fleet.loadAll()
                  if (ids) setChosen(new Set(ids))
                }
              : undefined
          }
          onDone={(failed) => {
            setChosen(new Set(failed.map(({ id }) => id)))
            fleet.reload()
          }}
        />
      ) : (
        <div class="list-note small soft">
          <span>
            {fleet.robots.length.toLocaleString()}{' '}
            {!fleet.hasMore
              ? 'shown'
              : total === undefined
                ? 'loaded, more below'
                : `of ${total.toLocaleString()} loaded`}
          </span>
          {retired > 0 && (
            <Button
              kind="quiet"
              size="small"
              onClick={() => setFilter({ ...baseOf(filter), lifecycle: 'retired' })}
            >
              {retired.toLocaleString()} retired
            </Button>
          )}
          {fleet.moved > 0 && (
            <Button size="small" onClick={fleet.reload}>
              {fleet.moved} changed place: sort again
            </Button>
          )}
        </div>
      )}
      {fleet.robots.length > 0 ? (
        <section
          class="list"
          aria-label="Robots"
          onPointerEnter={() => setPointed(true)}
          onPointerLeave={() => setPointed(false)}
        >
          <RobotTable
            robots={fleet.robots}
            left={fleet.left}
            places={names}
            filter={filter}
            onFilter={setFilter}
            onEnd={fleet.loadMore}
            onVisible={fleet.setVisible}
            chosen={maySomewhere('robots:write') ? chosen : undefined}
            onChosen={setChosen}
          />
        </section>
      ) : fleet.isLoading ? (
        <Loading />
      ) : fleet.error !== undefined ? null : isBare ? (
        <Empty title="No robots yet">
          {maySomewhere('enrollment-keys:write') ? (
            <>
              <p>An enrollment key lets a whole batch of robots in, each with one command.</p>
              <a class="button primary" href="/welcome">
                Bring in the first robot
              </a>
            </>
          ) : (
            <p>Robots appear here as soon as one within your reach was enrolled.</p>
          )}
        </Empty>
      ) : (
        <Empty title="No robot passes this filter">
          <Button onClick={() => setFilter({})}>Show all</Button>
        </Empty>
      )}
    </>
  )
}
