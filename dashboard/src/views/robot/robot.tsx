import { useCallback, useMemo } from 'preact/hooks'
import { useLocation, useRoute } from 'preact-iso'
import { Problem } from '../../api/problem.ts'
import { Connection, Health, Lifecycle } from '../../ui/badge.tsx'
import { LiveMark } from '../../ui/live-mark.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { Empty, Failure, Loading } from '../../ui/states.tsx'
import { Lasting } from '../../ui/times.tsx'
import { About } from './about.tsx'
import { Charts } from './charts.tsx'
import { DeedButton } from './deeds.tsx'
import { reasonText } from './happenings.ts'
import './robot.css'
import { Says } from './says.tsx'
import { Timeline } from './timeline.tsx'
import { usePlace, useRobot } from './use-robot.ts'

/** One robot: what it is, what it says now, what it said, and what happened to it. */
export function Robot() {
  const { params } = useRoute()
  return <RobotOf key={params.id} id={params.id ?? ''} />
}

function RobotOf({ id }: { id: string }) {
  const { url, route, path } = useLocation()
  const search = useMemo(() => new URLSearchParams(url.split('?')[1]?.split('#')[0] ?? ''), [url])
  const onSearch = useCallback(
    (change: (search: URLSearchParams) => void) => {
      const next = new URLSearchParams(search)
      change(next)
      const text = next.toString()
      route(text === '' ? path : `${path}?${text}`, true)
    },
    [search, path, route],
  )
  const { robot, said, error, live, isGone, take, reload } = useRobot(id)
  const place = usePlace(robot)

  if (!robot)
    return error === undefined ? (
      <>
        <PageHead title="Robot" />
        <Loading what="Loading the robot" />
      </>
    ) : (
      <NotShown error={error} onRetry={reload} />
    )
  return (
    <>
      <nav class="crumbs small" aria-label="Where this robot is">
        <a href="/">Fleet</a>
        {place.fleet && (
          <>
            <span aria-hidden="true">›</span>
            <a href={`/?fleet=${robot.fleet_id}`}>{place.fleet.name}</a>
          </>
        )}
      </nav>
      <PageHead title={robot.name}>
        {robot.lifecycle !== 'active' && <Lifecycle lifecycle={robot.lifecycle} />}
        <Connection robot={robot} />
        {robot.connection !== 'unseen' && <Health health={robot.health} />}
        {isGone ? (
          <span class="live" role="status">
            No longer followed
          </span>
        ) : (
          <LiveMark live={live} />
        )}
      </PageHead>
      {isGone && (
        <div class="notice" data-tone="warn" role="alert">
          <strong>This robot is gone.</strong>
          It was deleted, or moved to where you may not look. What is shown is what was known last.
        </div>
      )}
      {!isGone && robot.lifecycle === 'pending' && (
        <div class="notice" data-tone="warn">
          <strong>
            Has waited for approval for <Lasting since={robot.pending_since} />
          </strong>
          Until somebody approves it, nothing that it says is kept.
          <div class="row">
            <DeedButton what="approve" robot={robot} onChanged={take} isPrimary />
            <DeedButton what="deny" robot={robot} onChanged={take} />
          </div>
        </div>
      )}
      {!isGone && robot.lifecycle === 'retired' && (
        <div class="notice">
          <strong>
            Out of service for <Lasting since={robot.retired_at} />
          </strong>
          Its record and history stay until the record is deleted.
        </div>
      )}
      {!isGone && robot.lifecycle !== 'retired' && robot.connection === 'unseen' && (
        <div class="notice">
          <strong>It never connected.</strong>
          {robot.enrolled_at
            ? 'It has enrolled, and its agent has not been heard of since.'
            : 'A setup token, below, brings a machine in as this robot.'}
        </div>
      )}
      {!isGone &&
        robot.lifecycle !== 'retired' &&
        (robot.connection === 'stale' || robot.connection === 'offline') && (
          <div class="notice" data-tone={robot.connection === 'offline' ? 'error' : 'warn'} role="status">
            <strong>
              {robot.connection === 'offline' ? 'Offline' : 'Silent'} for{' '}
              <Lasting since={robot.connection_since} />: {reasonText(robot.connection_reason)}
            </strong>
            What is shown below is what it said last.
          </div>
        )}
      <div class="robot-page">
        <div class="stack">
          <Says robot={robot} said={said} heartbeatMs={place.heartbeatMs} />
          <Charts robot={robot} heartbeatMs={place.heartbeatMs} search={search} onSearch={onSearch} />
          <Timeline robot={robot} search={search} onSearch={onSearch} />
        </div>
        <aside class="stack" aria-label="About this robot">
          <About robot={robot} place={place} onChanged={take} />
        </aside>
      </div>
    </>
  )
}

function NotShown({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const status = error instanceof Problem ? error.status : undefined
  if (status === 403)
    return (
      <>
        <PageHead title="Robot" />
        <Empty title="You may not see this robot">
          <p>It belongs to a fleet that is not within your reach. An administrator can change that.</p>
          <a class="button" href="/">
            Go to the fleet
          </a>
        </Empty>
      </>
    )
  // An address with something else than an id in it is no robot's either.
  if (status === 404 || status === 400)
    return (
      <>
        <PageHead title="Robot" />
        <Empty title="There is no such robot">
          <p>Its record was deleted, it is not within your reach, or the address is not right.</p>
          <a class="button" href="/">
            Go to the fleet
          </a>
        </Empty>
      </>
    )
  return (
    <>
      <PageHead title="Robot" />
      <Failure error={error} onRetry={onRetry} />
    </>
  )
}
