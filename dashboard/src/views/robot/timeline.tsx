import { useMemo, useState } from 'preact/hooks'
import { all } from '../../api/client.ts'
import type { Robot, RobotEvent, User } from '../../api/types.ts'
import { maySomewhere, visitor } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Choice } from '../../ui/search-controls.tsx'
import { Failure, Loading } from '../../ui/states.tsx'
import { Ago, moment } from '../../ui/times.tsx'
import { actorOf, GROUPS, happeningOf, LEVELS } from './happenings.ts'
import { linesOf } from './said.ts'
import { Fact } from './says.tsx'
import { useTimeline } from './use-timeline.ts'
import { isWorthSaying } from './worth-saying.ts'

interface Props {
  readonly robot: Robot
  readonly search: URLSearchParams
  readonly onSearch: (change: (search: URLSearchParams) => void) => void
}

/** Whatever of a robot changes when something happened to it. */
function newsOf(robot: Robot): string {
  const faults = robot.heartbeat?.faults?.map(({ code }) => code) ?? []
  return [robot.updated_at, robot.session_no, robot.connection_since, robot.connection, ...faults].join()
}

/** What happened to the robot: sessions, losses and why, faults, its tokens, what people changed, what it told. */
export function Timeline({ robot, search, onSearch }: Props) {
  const level = LEVELS.find(({ value }) => value === search.get('level'))
  const code = search.get('code') ?? ''
  const group = GROUPS.find(({ name }) => name === code)
  const query = {
    ...(level ? { level: level.levels } : {}),
    ...(group ? { code: group.codes } : code ? { code: [code] } : {}),
  }
  const { events, error, reload, more } = useTimeline(robot.id, query, newsOf(robot))
  const names = useNames(events)
  const set = (name: string, value: string | undefined) =>
    onSearch((search) => {
      if (value) search.set(name, value)
      else search.delete(name)
    })
  const isNarrowed = code !== '' || level !== undefined
  return (
    <section class="panel timeline" aria-labelledby="timeline-title">
      <div class="row apart">
        <h2 id="timeline-title">Timeline</h2>
        <div class="row">
          <Choice
            name="Level"
            value={level?.value}
            options={LEVELS.map(({ name, value }) => ({ value, text: name }))}
            onValue={(value) => set('level', value)}
          />
          <Choice
            name="Kind"
            value={code}
            options={[
              ...GROUPS.map(({ name }) => ({ value: name, text: name })),
              ...(code !== '' && !group ? [{ value: code, text: code }] : []),
            ]}
            onValue={(value) => set('code', value)}
          />
        </div>
      </div>
      {isWorthSaying(error, events) && <Failure error={error} onRetry={reload} />}
      {events === undefined ? (
        error === undefined && <Loading what="Loading the timeline" />
      ) : events.length === 0 ? (
        <p class="soft">{isNarrowed ? 'Nothing of this kind has happened.' : 'Nothing has happened yet.'}</p>
      ) : (
        <ol class="events">
          {events.map((event) => (
            <Entry key={event.id} event={event} names={names} onCode={(code) => set('code', code)} />
          ))}
        </ol>
      )}
      {more && <Button onClick={more}>Earlier</Button>}
    </section>
  )
}

function Entry({
  event,
  names,
  onCode,
}: {
  event: RobotEvent
  names: Names
  onCode: (code: string) => void
}) {
  const { title, detail, tone } = happeningOf(event)
  const { user, token } = actorOf(event)
  const [isOpen, setOpen] = useState(false)
  return (
    <li data-tone={tone}>
      <span class="mark" aria-hidden="true" />
      <div class="what">
        <strong>{shortened(title)}</strong>{' '}
        {(tone === 'error' || tone === 'warn') && <Level level={event.level} />}
        {detail && <span class="detail">{shortened(detail)}</span>}
        {user && <span class="small soft">by {names.user(user)}</span>}
        {token && <span class="small soft">by a program, token {token.slice(0, 8)}…</span>}
        {event.source === 'robot' && <span class="small soft">told by the robot</span>}
        <details class="more" onToggle={(event) => setOpen(event.currentTarget.open)}>
          <summary class="small soft">Details</summary>
          {isOpen && <Details event={event} onCode={onCode} />}
        </details>
      </div>
      <span class="when small soft">
        <Ago time={event.at} />
      </span>
    </li>
  )
}

function Details({ event, onCode }: { event: RobotEvent; onCode: (code: string) => void }) {
  const isLate = Math.abs(Date.parse(event.received_at) - Date.parse(event.at)) > LATE_MS
  return (
    <dl class="facts small">
      <Fact name="Code">
        <code>{event.code}</code>{' '}
        <button type="button" class="link" onClick={() => onCode(event.code)}>
          Only these
        </button>
      </Fact>
      {event.message !== '' && <Fact name="Message">{event.message}</Fact>}
      <Fact name="Time">{moment(event.at)}</Fact>
      {isLate && <Fact name="Heard">{moment(event.received_at)}</Fact>}
      {linesOf(event.data)
        .filter(([path]) => path !== '')
        .map(([path, text]) => (
          <Fact key={path} name={path}>
            {text}
          </Fact>
        ))}
    </dl>
  )
}

const LATE_MS = 2_000
/** The rest stands in the details. */
const SHORT = 240

function shortened(text: string): string {
  return text.length <= SHORT ? text : `${text.slice(0, SHORT).toWellFormed()}…`
}

/** For those who do not see the colour. */
function Level({ level }: { level: RobotEvent['level'] }) {
  return <span class="visually-hidden">({level})</span>
}

interface Names {
  readonly user: (id: string) => string
}

/** Who people are, as far as the viewer may know. */
function useNames(events: readonly RobotEvent[] | undefined): Names {
  const found = visitor.value
  const self = found.kind === 'somebody' ? found.who.user.id : undefined
  const hasOthers = (events ?? []).some((event) => {
    const { user } = actorOf(event)
    return user !== undefined && user !== self
  })
  const isAsked = hasOthers && maySomewhere('users:manage')
  const { value } = useLoaded(
    async () =>
      isAsked ? new Map((await all<User>('/api/users')).map(({ id, name }) => [id, name])) : undefined,
    [isAsked],
  )
  return useMemo(
    () => ({ user: (id) => (id === self ? 'you' : (value?.get(id) ?? `person ${id.slice(0, 8)}…`)) }),
    [self, value],
  )
}
