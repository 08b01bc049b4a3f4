import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { may, maySomewhere } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { LiveMark } from '../../ui/live-mark.tsx'
import { More } from '../../ui/more.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { type Places, usePlaces } from '../../ui/places.ts'
import { Choice, PlaceChoices, Typed } from '../../ui/search-controls.tsx'
import { Empty, Shown } from '../../ui/states.tsx'
import { Decide } from './decide.tsx'
import type { Decision, Target } from './deciding.ts'
import {
  addressOf,
  bodyOf,
  isNarrowed,
  type QueueFilter,
  queueFilterOf,
  WAITED,
  withPart,
} from './filters.ts'
import './approvals.css'
import { useQueue } from './use-queue.ts'
import { Waiting } from './waiting.tsx'

const NONE: ReadonlySet<string> = new Set()

/** The robots that wait until somebody lets them in or sends them away. */
export function Approvals() {
  const { url, route } = useLocation()
  const filter = useMemo(() => queueFilterOf(url), [url])
  const places = usePlaces()
  const [chosen, setChosen] = useState(NONE)
  const setFilter = (next: QueueFilter) => {
    setChosen(NONE)
    route(addressOf(next), true)
  }
  const [isPointed, setPointed] = useState(false)
  const [decided, setDecided] = useState(NONE)
  const [asked, setAsked] = useState<{ decision: Decision; target: Target }>()
  const list = useRef<HTMLUListElement>(null)
  const hasDecided = useRef(false)
  // What had the focus goes with the robot that was decided about.
  useEffect(() => {
    if (asked || !hasDecided.current || document.activeElement !== document.body) return
    const goal = list.current ?? document.querySelector<HTMLElement>('#content')
    goal?.focus({ preventScroll: true })
  })
  const queue = useQueue(filter, isPointed || chosen.size > 0, decided)
  const mayDecide = maySomewhere('robots:write')
  const decidable = (queue.rows ?? []).filter((row) => !queue.gone.has(row.id) && may('robots:write', row))
  const picked = decidable.filter(({ id }) => chosen.has(id)).map(({ id }) => id)
  const narrowed = isNarrowed(filter)
  const ask = (decision: Decision, target: Target) => setAsked({ decision, target })
  return (
    <>
      <PageHead title="Approvals">
        <LiveMark live={queue.live} />
      </PageHead>
      <Filters filter={filter} places={places.value} onFilter={setFilter} />
      {filter.credential && (
        <p class="soft">
          Only those that came with one key.{' '}
          <Button size="small" onClick={() => setFilter(withPart(filter, { credential: undefined }))}>
            Show those of any key
          </Button>
        </p>
      )}
      <Shown loaded={{ ...queue.pages, value: queue.rows }}>
        {(rows) =>
          rows.length === 0 ? (
            narrowed ? (
              <Empty title="No robot that waits passes this filter">
                <Button onClick={() => setFilter({})}>Show all</Button>
              </Empty>
            ) : (
              <Empty title="No robot waits">
                <p>
                  Robots wait here when their key says so, or when a machine that was enrolled comes back and
                  its key wants that looked at.
                </p>
                {maySomewhere('enrollment-keys:write') && (
                  <a href="/keys?new=true">Make a key that says so</a>
                )}
              </Empty>
            )
          ) : (
            <>
              {mayDecide && decidable.length > 0 && (
                <div class="deciding" role="toolbar" aria-label="Decide about many">
                  <label class="check">
                    <input
                      type="checkbox"
                      checked={picked.length > 0 && picked.length === decidable.length}
                      onChange={(event) =>
                        setChosen(event.currentTarget.checked ? new Set(decidable.map(({ id }) => id)) : NONE)
                      }
                    />
                    <span aria-live="polite">
                      {picked.length > 0 ? `${picked.length} chosen` : 'Choose all shown'}
                    </span>
                  </label>
                  {picked.length > 0 ? (
                    <>
                      <Button size="small" kind="primary" onClick={() => ask('approve', { ids: picked })}>
                        Approve chosen
                      </Button>
                      <Button size="small" kind="danger" onClick={() => ask('deny', { ids: picked })}>
                        Deny chosen
                      </Button>
                    </>
                  ) : (
                    <>
                      <Button size="small" onClick={() => ask('approve', { filter: bodyOf(queue.query) })}>
                        {narrowed ? 'Approve all that pass the filter' : 'Approve all'}
                      </Button>
                      <Button
                        size="small"
                        kind="danger"
                        onClick={() => ask('deny', { filter: bodyOf(queue.query) })}
                      >
                        {narrowed ? 'Deny all that pass the filter' : 'Deny all'}
                      </Button>
                    </>
                  )}
                </div>
              )}
              <ul
                ref={list}
                tabIndex={-1}
                class="waiting-robots"
                aria-label="Robots that wait"
                onPointerEnter={(event) => setPointed(event.pointerType === 'mouse')}
                onPointerLeave={() => setPointed(false)}
              >
                {rows.map((row) => (
                  <Waiting
                    key={row.id}
                    robot={row}
                    places={places.value}
                    isGone={queue.gone.has(row.id)}
                    isChosen={chosen.has(row.id)}
                    onChosen={
                      may('robots:write', row)
                        ? (isChosen) => {
                            const next = new Set(chosen)
                            if (isChosen) next.add(row.id)
                            else next.delete(row.id)
                            setChosen(next)
                          }
                        : undefined
                    }
                    onDecide={(decision) => ask(decision, { ids: [row.id] })}
                  />
                ))}
              </ul>
              <More pages={queue.pages} />
            </>
          )
        }
      </Shown>
      {asked && (
        <Decide
          {...asked}
          onClose={() => setAsked(undefined)}
          onDecided={(ids) => {
            setChosen(NONE)
            hasDecided.current = true
            setDecided(new Set(ids))
            queue.pages.reload()
          }}
        />
      )}
    </>
  )
}

function Filters({
  filter,
  places = { sites: [], fleets: [] },
  onFilter,
}: {
  filter: QueueFilter
  places: Places | undefined
  onFilter: (filter: QueueFilter) => void
}) {
  const set = (name: keyof QueueFilter) => (value: string | undefined) =>
    onFilter(withPart(filter, { [name]: value || undefined }))
  return (
    // biome-ignore lint/a11y/useSemanticElements: the element is not known to screen readers everywhere yet.
    <div class="filters" role="search" aria-label="Filter the robots that wait">
      <Typed name="Name or id" placeholder="Name or id" value={filter.q ?? ''} onValue={set('q')} />
      <Typed name="Label" placeholder="Label[=value]" value={filter.label ?? ''} onValue={set('label')} />
      <PlaceChoices filter={filter} places={places} onPlace={(place, id) => set(place)(id)} />
      <Choice name="Waits" value={filter.waited} options={WAITED} onValue={set('waited')} />
      {isNarrowed(filter) && (
        <Button kind="quiet" onClick={() => onFilter({})}>
          Show all
        </Button>
      )}
    </div>
  )
}
