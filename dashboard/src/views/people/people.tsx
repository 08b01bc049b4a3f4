import { useState } from 'preact/hooks'
import type { User } from '../../api/types.ts'
import { may, visitor } from '../../session/session.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePages } from '../../ui/pages.ts'
import { type Places, placeName, usePlaces } from '../../ui/places.ts'
import { Empty, Failure, Shown } from '../../ui/states.tsx'
import { type Column, Table } from '../../ui/table.tsx'
import { Ago } from '../../ui/times.tsx'
import { Invite } from './invite.tsx'
import { Person } from './person.tsx'
import './people.css'
import { Security } from './security.tsx'

/** Who may do what, and where. */
export function People() {
  const users = usePages<User>('/api/users')
  const places = usePlaces()
  const [open, setOpen] = useState<'invite' | User>()
  const found = visitor.value
  const selfId = found.kind === 'somebody' ? found.who.user.id : undefined
  const close = () => setOpen(undefined)
  return (
    <>
      <PageHead title="People">
        <Button onClick={users.reload}>Refresh</Button>
        <Button kind="primary" disabled={!places.value} onClick={() => setOpen('invite')}>
          Invite somebody
        </Button>
      </PageHead>
      {places.error !== undefined && <Failure error={places.error} onRetry={places.reload} />}
      <Shown loaded={users}>
        {(rows) =>
          rows.length > 0 ? (
            <Table
              label="People"
              columns={columnsOf(places.value, selfId, setOpen)}
              rows={rows}
              keyOf={({ id }) => id}
            />
          ) : (
            <Empty title="Nobody within your reach yet">
              <p>Invite whoever works with these robots; each signs in as themselves.</p>
            </Empty>
          )
        }
      </Shown>
      {users.more && <Button onClick={users.more}>Show more</Button>}
      {may('users:manage') && (
        <Security
          without={users.value?.filter((user) => !user.second_factor).length ?? 0}
          areAllKnown={users.value !== undefined && users.more === undefined}
        />
      )}
      {places.value && open === 'invite' && (
        <Invite places={places.value} onDone={users.reload} onClose={close} />
      )}
      {places.value && typeof open === 'object' && (
        <Person
          user={open}
          places={places.value}
          isSelf={open.id === selfId}
          onDone={users.reload}
          onClose={close}
        />
      )}
    </>
  )
}

function columnsOf(
  places: Places | undefined,
  selfId: string | undefined,
  onOpen: (user: User) => void,
): Column<User>[] {
  return [
    {
      name: 'Name',
      show: (user) => (
        <span class="who">
          <strong>
            {user.name}
            {user.id === selfId && <span class="soft"> (you)</span>}
          </strong>
          {user.email && <span class="small soft">{user.email}</span>}
        </span>
      ),
    },
    {
      name: 'Roles',
      show: ({ roles }) =>
        roles.length === 0 ? (
          <span class="soft">none</span>
        ) : (
          <ul class="roles-held">
            {roles.map((role) => (
              <li key={`${role.site_id} ${role.fleet_id}`}>
                {role.role} <span class="soft">of {places ? placeName(places, role) : '…'}</span>
              </li>
            ))}
          </ul>
        ),
    },
    { name: 'Signs in', show: (user) => <SignsIn user={user} /> },
    {
      name: 'Second factor',
      show: ({ second_factor }) =>
        second_factor ? <Badge tone="ok">set up</Badge> : <Badge tone="idle">none</Badge>,
    },
    { name: 'Last signed in', show: ({ last_signed_in_at }) => <Ago time={last_signed_in_at} /> },
    {
      name: 'What can be done',
      isActions: true,
      show: (user) => (
        <Button size="small" label={`Manage ${user.name}`} disabled={!places} onClick={() => onOpen(user)}>
          Manage…
        </Button>
      ),
    },
  ]
}

function SignsIn({ user }: { user: User }) {
  return (
    <span class="who">
      {user.status === 'active' && <Badge tone="ok">active</Badge>}
      {user.status === 'invited' && <Badge tone="wait">invited</Badge>}
      {user.status === 'without_sign_in' && (
        <Badge tone="warn" title="Has neither a password nor an identity, and no invitation stands">
          cannot
        </Badge>
      )}
      {user.invited_until && (
        <span class="small soft">
          invitation ends <Ago time={user.invited_until} />
        </span>
      )}
    </span>
  )
}
