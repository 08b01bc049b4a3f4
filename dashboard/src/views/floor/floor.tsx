import { useMemo, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { all } from '../../api/client.ts'
import type { Site } from '../../api/types.ts'
import { Connection, Health } from '../../ui/badge.tsx'
import { LiveMark } from '../../ui/live-mark.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { PageHead } from '../../ui/page-head.tsx'
import { Empty, Failure, Loading } from '../../ui/states.tsx'
import { Ago } from '../../ui/times.tsx'
import type { Placed } from './draw.ts'
import './floor.css'
import { boundsOf } from './geometry.ts'
import { FloorMap } from './map.tsx'
import { useFloor } from './use-floor.ts'

/** Robots that the list beside the floor holds at the most. */
const LISTED = 100
const WORST_FIRST = ['error', 'warn', 'unknown', 'ok']

/** Where the robots of a site are, and how each of them is. */
export function Floor() {
  const { url, route } = useLocation()
  const query = new URLSearchParams(url.split('?')[1] ?? '')
  const sites = useLoaded(() => all<Site>('/api/sites'), [])
  const site = query.get('site') ?? sites.value?.[0]?.id
  const frame = query.get('frame') ?? undefined
  const floor = useFloor(site, frame)
  const [chosenId, setChosenId] = useState<string>()
  const bounds = useMemo(() => boundsOf(floor.placed.map(({ spot }) => spot)), [floor.placed])
  const go = (parts: Record<string, string>) => route(`/floor?${new URLSearchParams(parts)}`, true)
  const chosen = floor.placed.find(({ robot }) => robot.id === chosenId)
  return (
    <>
      <PageHead title="Floor">
        <LiveMark live={floor.live} />
        <label>
          <span class="visually-hidden">Site</span>
          <select value={site} onChange={(event) => go({ site: event.currentTarget.value })}>
            {sites.value?.map(({ id, name }) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
        {floor.frames.length > 0 && site && (
          <label>
            <span class="visually-hidden">Frame</span>
            <select
              value={frame ?? floor.frames[0]!.name}
              onChange={(event) => go({ site, frame: event.currentTarget.value })}
            >
              {floor.frames.map(({ name, robots }) => (
                <option key={name} value={name}>
                  {name} ({robots})
                </option>
              ))}
            </select>
          </label>
        )}
      </PageHead>
      {sites.error !== undefined && <Failure error={sites.error} onRetry={sites.reload} />}
      {sites.value?.length === 0 ? (
        <Empty title="No sites yet">
          <a href="/welcome">Bring in the first robot</a>
        </Empty>
      ) : !floor.isKnown ? (
        sites.error === undefined &&
        (floor.live.why === undefined ? <Loading /> : <Failure error={floor.live.why} />)
      ) : floor.placed.length === 0 ? (
        <Empty title="No robot says where it is">
          <p>
            Robots appear here once their heartbeats have a <code>pose</code>: x and y in metres with a frame,
            or lat and lon.
          </p>
        </Empty>
      ) : (
        <div class="floor">
          <FloorMap robots={floor.placed} bounds={bounds} chosenId={chosenId} onChoose={setChosenId} />
          <aside class="panel" aria-label="Robots on the floor">
            {chosen && <Chosen placed={chosen} />}
            <RobotList placed={floor.placed} chosenId={chosenId} onChoose={setChosenId} />
            {floor.unplaced > 0 && (
              <p class="small soft">
                {floor.unplaced} more {floor.unplaced === 1 ? 'robot does' : 'robots do'} not say where they
                are.
              </p>
            )}
          </aside>
        </div>
      )}
    </>
  )
}

function Chosen({ placed: { robot, spot } }: { placed: Placed }) {
  const { heartbeat } = robot
  return (
    <div class="chosen stack" aria-live="polite">
      <h2>
        <a href={`/robots/${robot.id}`}>{robot.name}</a>
      </h2>
      <div class="row">
        <Connection robot={robot} />
        <Health health={robot.health} />
      </div>
      <dl class="facts small">
        <dt>At</dt>
        <dd class="numbers">
          {spot.x.toFixed(2)}, {spot.y.toFixed(2)} m
        </dd>
        {heartbeat?.activity && (
          <>
            <dt>Doing</dt>
            <dd>{heartbeat.activity}</dd>
          </>
        )}
        {heartbeat?.battery && (
          <>
            <dt>Battery</dt>
            <dd>{Math.round(heartbeat.battery.charge * 100)} %</dd>
          </>
        )}
        <dt>Said</dt>
        <dd>
          <Ago time={heartbeat?.received_at} />
        </dd>
      </dl>
    </div>
  )
}

function RobotList({
  placed,
  chosenId,
  onChoose,
}: {
  placed: readonly Placed[]
  chosenId: string | undefined
  onChoose: (id: string) => void
}) {
  const sorted = [...placed].sort(
    ({ robot: a }, { robot: b }) =>
      Number(a.connection === 'online') - Number(b.connection === 'online') ||
      WORST_FIRST.indexOf(a.health) - WORST_FIRST.indexOf(b.health) ||
      a.name.localeCompare(b.name),
  )
  return (
    <ul class="on-floor">
      {sorted.slice(0, LISTED).map(({ robot }) => (
        <li key={robot.id}>
          <button type="button" aria-pressed={robot.id === chosenId} onClick={() => onChoose(robot.id)}>
            <span>{robot.name}</span>
            {robot.connection === 'online' ? <Health health={robot.health} /> : <Connection robot={robot} />}
          </button>
        </li>
      ))}
      {sorted.length > LISTED && <li class="small soft">and {sorted.length - LISTED} more on the floor</li>}
    </ul>
  )
}
