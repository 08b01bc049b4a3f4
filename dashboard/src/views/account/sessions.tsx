import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { SignIn } from '../../api/types.ts'
import { lookAgain } from '../../session/session.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Confirm } from '../../ui/dialog.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Shown } from '../../ui/states.tsx'
import { type Column, Table } from '../../ui/table.tsx'
import { Ago } from '../../ui/times.tsx'
import { done } from '../../ui/toasts.tsx'
import { browserName } from './user-agent.ts'

/** Where one is signed in, and ending that. */
export function Sessions() {
  const sessions = useLoaded<{ items: SignIn[] }>(() => api.get('/api/sessions'), [])
  const [isEndingAll, setEndingAll] = useState(false)
  const columns: Column<SignIn>[] = [
    {
      name: 'Browser',
      show: ({ user_agent, current }) => (
        <span class="row" title={user_agent ?? undefined}>
          {browserName(user_agent)}
          {current && <Badge tone="ok">this one</Badge>}
        </span>
      ),
    },
    { name: 'From', show: ({ address }) => address ?? <span class="soft">unknown</span> },
    {
      name: 'Signed in',
      show: ({ created_at, method, second_factor }) => (
        <span>
          <Ago time={created_at} />
          <span class="small soft">
            {' '}
            with {method === 'oidc' ? 'your organisation' : 'a password'}
            {second_factor && ' and a second factor'}
          </span>
        </span>
      ),
    },
    { name: 'Last seen', show: ({ last_seen_at }) => <Ago time={last_seen_at} /> },
    { name: 'Ends', show: ({ expires_at }) => <Ago time={expires_at} /> },
    {
      name: 'What can be done',
      isActions: true,
      show: (session) =>
        !session.current && (
          <Button
            size="small"
            kind="danger"
            label={`End the session of ${browserName(session.user_agent)}`}
            onClick={async () => {
              await api.delete(`/api/sessions/${session.id}`)
              done('The session is ended.')
              sessions.reload()
            }}
          >
            End
          </Button>
        ),
    },
  ]
  return (
    <section class="panel wide" aria-labelledby="sessions">
      <div class="row apart">
        <h2 id="sessions">Where you are signed in</h2>
        <span class="row">
          <Button size="small" onClick={sessions.reload}>
            Refresh
          </Button>
          <Button size="small" kind="danger" onClick={() => setEndingAll(true)}>
            Sign out everywhere…
          </Button>
        </span>
      </div>
      <Shown loaded={sessions}>
        {({ items }) => <Table label="Your sessions" columns={columns} rows={items} keyOf={({ id }) => id} />}
      </Shown>
      {isEndingAll && (
        <Confirm
          title="Sign out everywhere"
          action="Sign out everywhere"
          danger
          onClose={() => setEndingAll(false)}
          onConfirm={async () => {
            await api.post('/api/sign-out', { everywhere: true })
            await lookAgain()
          }}
        >
          <p>All your sessions end, this one included. Your tokens stay.</p>
        </Confirm>
      )}
    </section>
  )
}
