import { useEffect, useRef, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { EnrollmentKey, Robot } from '../../api/types.ts'
import { InstallCommand } from '../../keys/install-command.tsx'
import { KeyStatus } from '../../keys/key-status.tsx'
import {
  capital,
  type Key,
  KINDS,
  type Kind,
  type MadeKey,
  ON_EXISTING_SAYS,
  STATUS_SAYS,
  usesOf,
} from '../../keys/kinds.ts'
import { may } from '../../session/session.ts'
import { Connection, Lifecycle } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Secret } from '../../ui/copy.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { More } from '../../ui/more.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePages } from '../../ui/pages.ts'
import { type Places, placeName } from '../../ui/places.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { Empty, Shown } from '../../ui/states.tsx'
import { Table } from '../../ui/table.tsx'
import { Ago, moment } from '../../ui/times.tsx'
import { addressOf } from './address.ts'
import { UNREAD } from './key-list.tsx'
import { RevokeKey } from './revoke-key.tsx'
import { hasToken } from './revoking.ts'

const REFRESH_MS = 3_000
const PAGE = 50

/** One key: what it allows, its secret while somebody wants to see it, and the robots that came with it. */
export function KeyPage({
  kind,
  id,
  places,
  made,
  onMadeSeen,
}: {
  kind: Kind
  id: string
  places: Places | undefined
  /** It was made just now. */
  made: MadeKey | undefined
  onMadeSeen: () => void
}) {
  const { path, noun, nouns } = KINDS[kind]
  const key = useLoaded<Key>((signal) => api.get(`${path}/${id}`, UNREAD[kind], { signal }), [kind, id])
  const robots = usePages<Robot>(`${path}/${id}/robots`, { limit: PAGE })
  useRepeated(() => {
    if (!key.isLoading) key.reload()
    if (!robots.isLoading) robots.reload()
  }, REFRESH_MS)
  const [isRevoking, setRevoking] = useState(false)
  const reload = () => {
    key.reload()
    robots.reload()
  }
  const item = key.value
  const mayWrite = item !== undefined && may('enrollment-keys:write', item)
  const mayCascade = item !== undefined && mayWrite && may('robots:write', item)
  return (
    <>
      <nav aria-label="Where this is">
        <a href={addressOf({ kind })}>All {nouns}</a>
      </nav>
      <PageHead title={item?.name ?? capital(noun)}>
        {item?.revoked_at === null && mayWrite && (
          <Button kind="danger" onClick={() => setRevoking(true)}>
            Revoke
          </Button>
        )}
        {item && item.revoked_at !== null && mayCascade && robots.value?.some(hasToken) && (
          <Button kind="danger" onClick={() => setRevoking(true)}>
            Revoke its robots
          </Button>
        )}
      </PageHead>
      {made && <Made made={made} onSeen={onMadeSeen} />}
      <Shown loaded={key}>
        {(found) => (
          <div class="key-page">
            <section class="panel" aria-label="What it allows">
              <Facts item={found} kind={kind} places={places} />
              {!made && <Reveal item={found} path={path} />}
            </section>
            <section class="panel" aria-labelledby="robots-of-key">
              <h2 id="robots-of-key">Robots that came with it</h2>
              <Shown loaded={robots}>
                {(items) =>
                  items.length === 0 ? (
                    <Empty title={found.status === 'active' ? 'Waiting for the first robot' : 'None'}>
                      <p>
                        {found.status === 'active'
                          ? 'A robot is here some seconds after its command was run.'
                          : STATUS_SAYS[found.status]}
                      </p>
                    </Empty>
                  ) : (
                    <>
                      <Robots items={items} keyId={id} />
                      <More pages={robots} />
                    </>
                  )
                }
              </Shown>
            </section>
          </div>
        )}
      </Shown>
      {isRevoking && item && (
        <RevokeKey kind={kind} item={item} onClose={() => setRevoking(false)} onRevoked={reload} />
      )}
    </>
  )
}

/** A secret that was just made. */
function Made({ made, onSeen }: { made: MadeKey; onSeen: () => void }) {
  // The form that had the focus is gone; what it made is what comes next, also for who does not see it.
  const panel = useRef<HTMLElement>(null)
  useEffect(() => panel.current?.focus(), [])
  return (
    <section ref={panel} tabIndex={-1} class="panel made" aria-label="What was just made">
      <p class="notice" data-tone={made.canBeShown ? 'ok' : 'warn'} role="status">
        <strong>
          {made.canBeShown
            ? 'The key is ready. Whoever may read keys can have it shown again.'
            : 'Copy it now: it is shown this once, and nobody can read it again.'}
        </strong>
      </p>
      <InstallCommand command={made.command} />
      <Secret
        text={made.secret}
        what={made.kind === 'enrollment' ? 'The key alone' : 'The token alone'}
        note="For images and provisioning systems."
      />
      <div>
        <Button onClick={onSeen}>I have it: hide it</Button>
      </div>
    </section>
  )
}

/** The secret of a key that can be read again, from when somebody asks for it until they had enough. */
function Reveal({ item, path }: { item: Key; path: string }) {
  const [shown, setShown] = useState<EnrollmentKey>()
  if (!('retrievable' in item) || item.status !== 'active') return null
  if (!item.retrievable) return <p class="small soft">It was shown once, and nobody can read it again.</p>
  if (!may('enrollment-keys:reveal', item)) return null
  if (shown?.key_value && shown.setup_command)
    return (
      <div class="stack">
        <InstallCommand command={shown.setup_command} />
        <Secret text={shown.key_value} what="The key alone" />
        <div>
          <Button onClick={() => setShown(undefined)}>Hide</Button>
        </div>
      </div>
    )
  return (
    <div class="stack">
      <div class="row">
        <Button
          onClick={async () => {
            const answer = await api.get<EnrollmentKey>(`${path}/${item.id}`)
            if (answer.key_value === null)
              throw new Error('The server cannot read this key: the secret that sealed it is not there')
            setShown(answer)
          }}
        >
          Show key and command
        </Button>
      </div>
      <p class="small soft">The audit log tells who looked.</p>
    </div>
  )
}

function Facts({ item, kind, places }: { item: Key; kind: Kind; places: Places | undefined }) {
  const labels = Object.entries(item.labels)
  return (
    <dl class="facts">
      <dt>Status</dt>
      <dd>
        <KeyStatus status={item.status} /> <span class="soft">{STATUS_SAYS[item.status]}</span>
      </dd>
      <dt>{kind === 'enrollment' ? 'Key' : 'Token'}</dt>
      <dd>
        <code>
          {item.prefix}…{item.last_four}
        </code>
      </dd>
      <dt>Robots</dt>
      <dd class="numbers">
        {usesOf(item)}
        {'single_use' in item && !item.single_use && ' (any number)'}
      </dd>
      <dt>Fleet</dt>
      <dd>
        {may('robots:read', item) && places ? (
          <a href={`/?fleet=${item.fleet_id}`}>{placeName(places, item)}</a>
        ) : (
          item.fleet_id
        )}
      </dd>
      <dt>Last used</dt>
      <dd>
        <Ago time={item.last_used_at} />
      </dd>
      <dt>Expires</dt>
      <dd>
        <Ago time={item.expires_at} />
        {item.expires_at && <span class="soft"> · {moment(item.expires_at)}</span>}
      </dd>
      <dt>Made</dt>
      <dd>
        <Ago time={item.created_at} />
      </dd>
      {item.revoked_at && (
        <>
          <dt>Revoked</dt>
          <dd>
            <Ago time={item.revoked_at} />
          </dd>
        </>
      )}
      <dt>Approval</dt>
      <dd>{item.require_approval ? 'each robot waits for it' : 'not needed'}</dd>
      <dt>Enrolled before</dt>
      <dd>{ON_EXISTING_SAYS[item.on_existing]}</dd>
      <dt>From</dt>
      <dd>
        {item.allowed_cidrs.length === 0 ? (
          'any address'
        ) : (
          <code class="wrap">{item.allowed_cidrs.join(', ')}</code>
        )}
      </dd>
      <dt>Labels</dt>
      <dd>
        {labels.length === 0
          ? 'none'
          : labels.map(([name, value]) => (
              <span key={name} class="tag">
                {value === '' ? name : `${name}=${value}`}
              </span>
            ))}
      </dd>
    </dl>
  )
}

function Robots({ items, keyId }: { items: readonly Robot[]; keyId: string }) {
  return (
    <Table
      label="Robots that came with it"
      rows={items}
      keyOf={({ id }) => id}
      columns={[
        {
          name: 'Name',
          show: (robot) => (
            <div>
              <a class="name wrap" href={`/robots/${robot.id}`}>
                {robot.name}
              </a>
              {robot.credential_id !== keyId && <div class="small soft">was here before</div>}
            </div>
          ),
        },
        { name: 'Connection', show: (robot) => <Connection robot={robot} /> },
        {
          name: 'Lifecycle',
          show: ({ lifecycle }) =>
            lifecycle === 'pending' ? (
              <a href={`/approvals?credential=${keyId}`}>
                <Lifecycle lifecycle={lifecycle} />
              </a>
            ) : (
              <Lifecycle lifecycle={lifecycle} />
            ),
        },
        {
          name: 'Token',
          show: (robot) => (hasToken(robot) ? 'valid' : robot.token_revoked_at ? 'revoked' : 'none'),
        },
        { name: 'Enrolled', show: ({ enrolled_at }) => <Ago time={enrolled_at} /> },
      ]}
    />
  )
}
