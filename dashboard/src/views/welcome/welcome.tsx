import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { InstallCommand } from '../../keys/install-command.tsx'
import type { Key, MadeKey } from '../../keys/kinds.ts'
import { NewKey } from '../../keys/new-key.tsx'
import { follow, type LiveRobot } from '../../live/feed.ts'
import { Connection } from '../../ui/badge.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePlaces } from '../../ui/places.ts'
import { Shown } from '../../ui/states.tsx'
import { moment } from '../../ui/times.tsx'
import './welcome.css'

/** From nothing to the first robot online: a place, a key, one command, and seeing it arrive. */
export function Welcome() {
  const places = usePlaces()
  const [made, setMade] = useState<MadeKey>()
  const [hasArrived, setArrived] = useState(false)
  const arrived = useCallback(() => setArrived(true), [])
  const key = made?.key
  const next = useRef<HTMLHeadingElement>(null)
  // The button that made it is gone.
  useEffect(() => {
    if (key) next.current?.focus()
  }, [key])
  return (
    <>
      <PageHead title="Add robots" />
      <ol class="steps">
        <li aria-current={key ? undefined : 'step'} data-done={key !== undefined}>
          <h2>Make a key for the batch</h2>
          {key ? (
            <p class="soft">
              “{key.name}” lets in {limitOf(key)}
              {key.expires_at ? ` until ${moment(key.expires_at)}` : ' and never expires'}.
            </p>
          ) : (
            <Shown loaded={places}>
              {(known) => <NewKey kind="enrollment" places={known} name="First batch" onMade={setMade} />}
            </Shown>
          )}
        </li>
        <li aria-current={key ? 'step' : undefined} data-done={hasArrived}>
          <h2 ref={next} tabIndex={-1}>
            Run one command on each robot
          </h2>
          {made ? (
            <InstallCommand command={made.command} />
          ) : (
            <p class="soft">It installs the agent and enrols the robot; Linux, with or without root.</p>
          )}
        </li>
        <li data-done={hasArrived}>
          <h2>See them arrive</h2>
          {key ? (
            <Arrivals keyId={key.id} onOnline={arrived} />
          ) : (
            <p class="soft">A robot is online some seconds after its command.</p>
          )}
        </li>
      </ol>
    </>
  )
}

function limitOf(key: Key): string {
  const limit = 'max_uses' in key ? key.max_uses : 1
  return `${limit.toLocaleString()} ${limit === 1 ? 'robot' : 'robots'}`
}

/** The robots of a key, as they come. */
function Arrivals({ keyId, onOnline }: { keyId: string; onOnline: () => void }) {
  const [robots, setRobots] = useState<ReadonlyMap<string, LiveRobot>>(new Map())
  useEffect(
    () =>
      follow(
        { credential: keyId, detail: 'status' },
        {
          onSnapshot: (all) => setRobots(new Map(all.map((robot) => [robot.id, robot]))),
          onDelta: (changed, removed) =>
            setRobots((old) => {
              const next = new Map(old)
              for (const robot of changed) next.set(robot.id, robot)
              for (const id of removed) next.delete(id)
              return next
            }),
        },
      ),
    [keyId],
  )
  const online = [...robots.values()].filter(({ connection }) => connection === 'online').length
  const isOnline = online > 0
  useEffect(() => {
    if (isOnline) onOnline()
  }, [isOnline, onOnline])
  return (
    <div class="stack" aria-live="polite">
      {robots.size === 0 ? (
        <p class="waiting">Waiting for the first robot…</p>
      ) : (
        <>
          <p>
            <strong>{online}</strong> of {robots.size} online.{' '}
            <a href="/">{isOnline ? 'Go to the fleet' : 'See the fleet'}</a>
          </p>
          <ul class="arrivals">
            {[...robots.values()].slice(-20).map((robot) => (
              <li key={robot.id}>
                <a href={`/robots/${robot.id}`}>{robot.name}</a> <Connection robot={robot} />
                {robot.lifecycle === 'pending' && <a href="/approvals">waits for approval</a>}
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  )
}
