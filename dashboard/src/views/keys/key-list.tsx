import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { KeyStatus } from '../../keys/key-status.tsx'
import { capital, type Key, KINDS, type Kind, usesOf } from '../../keys/kinds.ts'
import { may, maySomewhere } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { More } from '../../ui/more.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePages } from '../../ui/pages.ts'
import { type Places, placeName } from '../../ui/places.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { Choice, words } from '../../ui/search-controls.tsx'
import { Empty, Shown } from '../../ui/states.tsx'
import { type Column, Table } from '../../ui/table.tsx'
import { Ago } from '../../ui/times.tsx'
import { addressOf, type KeysAddress } from './address.ts'
import { RevokeKey } from './revoke-key.tsx'

const PAGE = 50
const REFRESH_MS = 10_000
const NEWEST_FIRST = '-created_at'

/** Without this, each listed key would count as read by whoever only looks at the list. */
export const UNREAD: Readonly<Record<Kind, { readonly reveal?: boolean }>> = {
  enrollment: { reveal: false },
  provisioning: {},
}

export function KeyList({
  address,
  places,
  tabs,
  onAddress,
}: {
  address: KeysAddress
  places: Places | undefined
  tabs: ComponentChildren
  onAddress: (address: KeysAddress) => void
}) {
  const { kind, status, site, fleet, sort = NEWEST_FIRST } = address
  const facts = KINDS[kind]
  const keys = usePages<Key>(facts.path, { status, site, fleet, sort, limit: PAGE, ...UNREAD[kind] })
  useRepeated(() => {
    if (!keys.isLoading) keys.reload()
  }, REFRESH_MS)
  const [revoking, setRevoking] = useState<Key>()
  const mayMake = maySomewhere('enrollment-keys:write')
  const isNarrowed = status !== undefined || site !== undefined || fleet !== undefined
  const set = (part: Partial<KeysAddress>) => onAddress({ ...address, ...part })
  const columns: Column<Key>[] = [
    { name: 'Name', sort: 'name', show: (item) => <Name item={item} kind={kind} /> },
    { name: 'Fleet', show: (item) => <span class="wrap">{places && placeName(places, item)}</span> },
    {
      name: 'Status',
      show: ({ status }) => <KeyStatus status={status} />,
    },
    { name: 'Robots', show: (item) => <span class="numbers uses">{usesOf(item)}</span> },
    { name: 'Last used', sort: 'last_used_at', show: ({ last_used_at }) => <Ago time={last_used_at} /> },
    { name: 'Expires', sort: 'expires_at', show: ({ expires_at }) => <Ago time={expires_at} /> },
    { name: 'Made', sort: 'created_at', show: ({ created_at }) => <Ago time={created_at} /> },
  ]
  if (mayMake)
    columns.push({
      name: 'What can be done',
      isActions: true,
      show: (item) =>
        item.revoked_at === null &&
        may('enrollment-keys:write', item) && (
          <Button size="small" kind="danger" label={`Revoke ${item.name}`} onClick={() => setRevoking(item)}>
            Revoke
          </Button>
        ),
    })
  const newKey = (
    <a class="button primary" href={addressOf({ kind, isNew: true, fleet })}>
      {kind === 'enrollment' ? 'New key' : 'New token'}
    </a>
  )
  return (
    <>
      <PageHead title="Keys">{mayMake && newKey}</PageHead>
      {tabs}
      {/* biome-ignore lint/a11y/useSemanticElements: the element is not known to screen readers everywhere yet. */}
      <div class="filters" role="search" aria-label={`Filter the ${facts.nouns}`}>
        <Choice
          name="Status"
          value={status}
          options={words(...facts.statuses)}
          onValue={(value) => set({ status: value })}
        />
        <Choice
          name="Site"
          value={site}
          options={(places?.sites ?? []).map(({ id, name }) => ({ value: id, text: name }))}
          onValue={(value) => set({ site: value, fleet: undefined })}
        />
        <Choice
          name="Fleet"
          value={fleet}
          options={(places?.fleets ?? [])
            .filter(({ site_id }) => !site || site_id === site)
            .map((each) => ({ value: each.id, text: each.name }))}
          onValue={(value) => set({ fleet: value })}
        />
        {isNarrowed && (
          <Button kind="quiet" onClick={() => onAddress({ kind, sort: address.sort })}>
            Show all
          </Button>
        )}
      </div>
      <Shown loaded={keys}>
        {(items) =>
          items.length > 0 ? (
            <>
              <Table
                label={capital(facts.nouns)}
                columns={columns}
                rows={items}
                keyOf={({ id }) => id}
                sort={sort}
                onSort={(next) => set({ sort: next === NEWEST_FIRST ? undefined : next })}
              />
              <More pages={keys} />
            </>
          ) : isNarrowed ? (
            <Empty title={`No ${facts.noun} passes this filter`}>
              <Button onClick={() => onAddress({ kind })}>Show all</Button>
            </Empty>
          ) : (
            <Empty title={`No ${facts.nouns} yet`}>
              <p>{facts.about}</p>
              {mayMake && newKey}
            </Empty>
          )
        }
      </Shown>
      {revoking && (
        <RevokeKey
          kind={kind}
          item={revoking}
          onClose={() => setRevoking(undefined)}
          onRevoked={keys.reload}
        />
      )}
    </>
  )
}

function Name({ item, kind }: { item: Key; kind: Kind }) {
  const notes = [
    item.require_approval && 'approval',
    item.allowed_cidrs.length > 0 && 'some addresses',
    'single_use' in item && item.single_use && 'one robot',
  ].filter((note) => note !== false)
  return (
    <div>
      <a class="name wrap" href={addressOf({ kind, id: item.id })}>
        {item.name}
      </a>
      <div class="small soft">
        <code>
          {item.prefix}…{item.last_four}
        </code>
        {notes.length > 0 && ` · ${notes.join(' · ')}`}
      </div>
    </div>
  )
}
