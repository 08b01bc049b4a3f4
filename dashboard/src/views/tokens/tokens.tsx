import { useMemo, useState } from 'preact/hooks'
import { useLocation } from 'preact-iso'
import { all, api } from '../../api/client.ts'
import type { AccessToken, Fleet, User } from '../../api/types.ts'
import { isOwner, manages, may, maySomewhere, visitor } from '../../session/session.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Confirm } from '../../ui/dialog.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { PageHead } from '../../ui/page-head.tsx'
import { usePages } from '../../ui/pages.ts'
import { type Places, placeName, usePlaces } from '../../ui/places.ts'
import { Choice, words } from '../../ui/search-controls.tsx'
import { Empty, Shown } from '../../ui/states.tsx'
import { type Column, Table } from '../../ui/table.tsx'
import { Ago } from '../../ui/times.tsx'
import { done } from '../../ui/toasts.tsx'
import { roleAt } from '../people/role-words.ts'
import { NEWEST_FIRST, type TokenFilter, tokenAddressOf, tokenFilterOf, tokenQueryOf } from './filters.ts'
import { NewToken } from './new-token.tsx'
import { type Extent, RevokeAll } from './revoke-all.tsx'
import { RotateToken } from './rotate-token.tsx'
import { scopesInFew } from './scopes.ts'
import { pathOf } from './token-path.ts'
import './tokens.css'

/** Tokens of people and fleets: what programs show instead of signing in. */
export function Tokens() {
  const { url, route } = useLocation()
  const filter = useMemo(() => tokenFilterOf(url), [url])
  const setFilter = (next: TokenFilter) => route(tokenAddressOf(next), true)
  const places = usePlaces()
  const ofFleets = filter.of === 'fleet' && maySomewhere('tokens:manage')
  const ofOthers = filter.of === 'others' && maySomewhere('users:manage')
  return (
    <>
      <PageHead title="Tokens" />
      <nav class="tabs" aria-label="Whose tokens">
        <a href="/tokens" aria-current={!ofFleets && !ofOthers ? 'page' : undefined}>
          Mine
        </a>
        {maySomewhere('tokens:manage') && (
          <a href="/tokens?of=fleet" aria-current={ofFleets ? 'page' : undefined}>
            Of fleets
          </a>
        )}
        {maySomewhere('users:manage') && (
          <a href="/tokens?of=others" aria-current={ofOthers ? 'page' : undefined}>
            Everybody’s
          </a>
        )}
      </nav>
      {ofFleets ? (
        <Shown loaded={places}>
          {({ sites, fleets }) => {
            const known = fleets.filter((fleet) =>
              may('tokens:manage', { site_id: fleet.site_id, fleet_id: fleet.id }),
            )
            const fleet = known.find(({ id }) => id === filter.fleet) ?? known[0]
            if (!fleet)
              return (
                <Empty title="No fleet yet">
                  <p>A fleet’s tokens are for programs that work with its robots.</p>
                  <a href="/places">Go to the places</a>
                </Empty>
              )
            const names = known.map((each) => ({
              value: each.id,
              text: placeName({ sites, fleets }, { site_id: each.site_id, fleet_id: each.id }),
            }))
            return (
              <TokenList
                key={fleet.id}
                filter={filter}
                onFilter={setFilter}
                path={`/api/fleets/${fleet.id}/tokens`}
                fleet={fleet}
                fleetChoice={
                  <span class="beside">
                    <label for="fleet-of-tokens">Fleet</label>
                    <select
                      id="fleet-of-tokens"
                      value={fleet.id}
                      onChange={(event) => setFilter({ ...filter, fleet: event.currentTarget.value })}
                    >
                      {names.map(({ value, text }) => (
                        <option key={value} value={value}>
                          {text}
                        </option>
                      ))}
                    </select>
                  </span>
                }
              />
            )
          }}
        </Shown>
      ) : (
        <TokenList
          key={String(ofOthers)}
          filter={filter}
          onFilter={setFilter}
          path="/api/tokens"
          query={ofOthers ? (filter.user ? { user: filter.user } : { all: true }) : {}}
          ofOthers={ofOthers}
          places={places.value}
        />
      )}
    </>
  )
}

type Deed =
  | { readonly kind: 'create' }
  | { readonly kind: 'rotate' | 'revoke'; readonly token: AccessToken }
  | { readonly kind: 'revoke-all'; readonly of: Extent }

const STATUS_TONE = { active: 'ok', expired: 'idle', revoked: 'error' } as const

function TokenList({
  filter,
  onFilter,
  path,
  query = {},
  fleet,
  fleetChoice,
  ofOthers = false,
  places,
}: {
  filter: TokenFilter
  onFilter: (filter: TokenFilter) => void
  path: string
  query?: Readonly<Record<string, string | boolean>>
  fleet?: Fleet
  fleetChoice?: preact.ComponentChildren
  ofOthers?: boolean
  places?: Places | undefined
}) {
  const asked = tokenQueryOf(filter)
  const tokens = usePages<AccessToken>(path, { ...query, ...asked })
  const [deed, setDeed] = useState<Deed>()
  const found = visitor.value
  const self = found.kind === 'somebody' ? found.who.user : undefined
  const close = () => setDeed(undefined)
  const isMine = (token: AccessToken) => token.user_id !== null && token.user_id === self?.id
  const at = fleet && { site_id: fleet.site_id, fleet_id: fleet.id }
  const people = useLoaded(() => (ofOthers ? all<User>('/api/users') : Promise.resolve([])), [ofOthers])
  /** Somebody's who holds more than the viewer is seen, and not theirs to revoke. */
  const mayRevoke = (token: AccessToken) => {
    if (token.fleet_id !== null || isMine(token)) return true
    const whose = people.value?.find(({ id }) => id === token.user_id)
    return (
      whose !== undefined && places !== undefined && manages(whose.roles.map((role) => roleAt(role, places)))
    )
  }
  const mayRevokeFleet = at && may('tokens:manage', at) && may('enrollment-keys:write', at)

  const columns: Column<AccessToken>[] = [
    { name: 'Name', sort: 'name', show: (token) => <Named token={token} /> },
    ...(ofOthers
      ? [
          {
            name: 'Whose',
            show: (token: AccessToken) =>
              token.user_id && (
                <a href={tokenAddressOf({ ...filter, user: token.user_id })}>
                  {isMine(token) ? 'mine' : (token.user_name ?? 'somebody')}
                </a>
              ),
          },
        ]
      : []),
    {
      name: 'May do',
      show: ({ scopes, allowed_cidrs }) => (
        <span title={scopes?.join('\n')}>
          {scopesInFew(scopes)}
          {allowed_cidrs.length > 0 && (
            <span class="small soft" title={allowed_cidrs.join('\n')}>
              {' '}
              · from {allowed_cidrs.length === 1 ? allowed_cidrs[0] : `${allowed_cidrs.length} ranges`}
            </span>
          )}
        </span>
      ),
    },
    { name: 'Made', sort: 'created_at', show: ({ created_at }) => <Ago time={created_at} /> },
    {
      name: 'Last used',
      sort: 'last_used_at',
      show: ({ last_used_at, last_used_ip }) => (
        <span>
          <Ago time={last_used_at} />
          {last_used_ip && <span class="small soft"> from {last_used_ip}</span>}
        </span>
      ),
    },
    {
      name: 'Ends',
      sort: 'expires_at',
      show: ({ expires_at, revoked_at }) =>
        revoked_at ? (
          <span>
            <span class="small soft">revoked</span> <Ago time={revoked_at} />
          </span>
        ) : (
          <Ago time={expires_at} />
        ),
    },
    {
      name: 'What can be done',
      isActions: true,
      show: (token) =>
        token.status === 'active' && (
          <div class="row">
            {(fleet || isMine(token)) && (
              <Button
                size="small"
                label={`Replace ${token.name}`}
                onClick={() => setDeed({ kind: 'rotate', token })}
              >
                Replace
              </Button>
            )}
            {mayRevoke(token) && (
              <Button
                size="small"
                kind="danger"
                label={`Revoke ${token.name}`}
                onClick={() => setDeed({ kind: 'revoke', token })}
              >
                Revoke
              </Button>
            )}
          </div>
        ),
    },
  ]

  return (
    <>
      <div class="row apart">
        <div class="row controls">
          {fleetChoice}
          <Choice
            name="State"
            any="works"
            value={filter.status}
            options={[...words('expired', 'revoked'), { value: 'any', text: 'any state' }]}
            onValue={(status) => onFilter({ ...filter, status })}
          />
          {ofOthers && filter.user && (
            <a class="button quiet" href={tokenAddressOf({ ...filter, user: undefined })}>
              Show everybody’s
            </a>
          )}
        </div>
        <div class="row">
          {fleet && mayRevokeFleet && (
            <Button
              kind="danger"
              onClick={() =>
                setDeed({
                  kind: 'revoke-all',
                  of: { fleet_id: fleet.id, name: fleet.name, mayRobots: may('robots:write', at) },
                })
              }
            >
              Revoke all of {fleet.name}…
            </Button>
          )}
          {!fleet && !ofOthers && self && (
            <Button
              kind="danger"
              onClick={() =>
                setDeed({ kind: 'revoke-all', of: { user_id: self.id, name: self.name, isSelf: true } })
              }
            >
              Revoke all of mine…
            </Button>
          )}
          {ofOthers && isOwner() && (
            <Button kind="danger" onClick={() => setDeed({ kind: 'revoke-all', of: { deployment: true } })}>
              Revoke everything…
            </Button>
          )}
          {!ofOthers && (
            <Button kind="primary" onClick={() => setDeed({ kind: 'create' })}>
              New token
            </Button>
          )}
        </div>
      </div>
      <Shown loaded={tokens}>
        {(rows) =>
          rows.length > 0 ? (
            <Table
              label="Tokens"
              columns={columns}
              rows={rows}
              keyOf={({ id }) => id}
              sort={asked.sort}
              onSort={(sort) => onFilter({ ...filter, sort: sort === NEWEST_FIRST ? undefined : sort })}
            />
          ) : (
            <Empty title={filter.status ? 'No such token' : 'No token yet'}>
              {!ofOthers && !filter.status && (
                <p>Programs show a token instead of signing in: over REST, and with the beacon command.</p>
              )}
            </Empty>
          )
        }
      </Shown>
      {tokens.more && <Button onClick={tokens.more}>Show more</Button>}
      {deed?.kind === 'create' && (
        <NewToken {...(fleet ? { fleet } : {})} onMade={tokens.reload} onClose={close} />
      )}
      {deed?.kind === 'rotate' && <RotateToken token={deed.token} onMade={tokens.reload} onClose={close} />}
      {deed?.kind === 'revoke' && <RevokeOne token={deed.token} onDone={tokens.reload} onClose={close} />}
      {deed?.kind === 'revoke-all' && <RevokeAll of={deed.of} onDone={tokens.reload} onClose={close} />}
    </>
  )
}

function Named({ token }: { token: AccessToken }) {
  return (
    <span class="named">
      <strong>{token.name}</strong>
      <code class="soft">
        {token.prefix}…{token.last_four}
      </code>
      {token.status !== 'active' && <Badge tone={STATUS_TONE[token.status]}>{token.status}</Badge>}
      {token.status === 'active' && token.replaced_by && (
        <Badge tone="warn" title="Another was made to take its place">
          replaced
        </Badge>
      )}
    </span>
  )
}

function RevokeOne({
  token,
  onDone,
  onClose,
}: {
  token: AccessToken
  onDone: () => void
  onClose: () => void
}) {
  return (
    <Confirm
      title={`Revoke “${token.name}”`}
      action="Revoke it"
      danger
      onClose={onClose}
      onConfirm={async () => {
        await api.post(pathOf(token, 'revoke'))
        done(`“${token.name}” is revoked.`)
        onDone()
      }}
    >
      <p>
        Its next request is refused, and what goes on with it ends. This cannot be undone
        {token.replaced_by ? '; the token that took its place stays' : ''}.
      </p>
      <p>
        <code>
          {token.prefix}…{token.last_four}
        </code>{' '}
        {token.last_used_at ? (
          <>
            was used <Ago time={token.last_used_at} />
            {token.last_used_ip && ` from ${token.last_used_ip}`}.
          </>
        ) : (
          'was never used.'
        )}
      </p>
    </Confirm>
  )
}
