import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { Page, Robot } from '../../api/types.ts'
import { type Key, KINDS, type Kind } from '../../keys/kinds.ts'
import { may } from '../../session/session.ts'
import { Confirm } from '../../ui/dialog.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { done } from '../../ui/toasts.tsx'
import { hasToken, robots, toldOf } from './revoking.ts'

interface Revoked {
  readonly robots_revoked: number
  readonly robots_out_of_reach: number
}

const LOOKED_AT = 200

/** Asks before a key is revoked, and whether its robots go with it. Of a key that is revoked already: only those. */
export function RevokeKey({
  kind,
  item,
  onClose,
  onRevoked,
}: {
  kind: Kind
  item: Key
  onClose: () => void
  onRevoked: () => void
}) {
  const { path, noun } = KINDS[kind]
  const isRevoked = item.revoked_at !== null
  const mayCascade = may('robots:write', item)
  const [cascade, setCascade] = useState(isRevoked)
  const found = useLoaded<Page<Robot>>(
    (signal) => api.get(`${path}/${item.id}/robots`, { limit: LOOKED_AT }, { signal }),
    [item.id],
  )
  const standing = found.value?.items.filter(hasToken)
  const count = standing
    ? robots(standing.length, found.value?.next_cursor !== null)
    : found.error === undefined
      ? '…'
      : 'its robots'
  return (
    <Confirm
      title={isRevoked ? `Revoke the robots of “${item.name}”?` : `Revoke “${item.name}”?`}
      action={isRevoked ? `Revoke ${count}` : cascade ? `Revoke the ${word(noun)} and ${count}` : 'Revoke it'}
      danger
      onClose={onClose}
      onConfirm={async () => {
        const answer = await api.post<Revoked>(`${path}/${item.id}/revoke`, {
          cascade: cascade ? 'revoke_robots' : 'none',
        })
        done(toldOf(item.name, isRevoked, answer))
        onRevoked()
      }}
    >
      {!isRevoked && (
        <p>
          It lets nobody in from now on. This cannot be undone; for further robots a new {noun} has to be
          made.
        </p>
      )}
      {isRevoked ? (
        <p>{CASCADE_SAYS}</p>
      ) : (
        <fieldset class="choices">
          <legend>Robots that came with it: {count}</legend>
          <label class="choice">
            <input type="radio" name="cascade" checked={!cascade} onChange={() => setCascade(false)} />
            <span>
              <strong>They stay.</strong> Their own tokens are good as before, and nothing happens to them.
            </span>
          </label>
          <label class="choice">
            <input
              type="radio"
              name="cascade"
              checked={cascade}
              disabled={!mayCascade}
              onChange={() => setCascade(true)}
            />
            <span>
              <strong>They are revoked, too.</strong>{' '}
              {mayCascade ? CASCADE_SAYS : 'You may not change robots here.'}
            </span>
          </label>
        </fieldset>
      )}
    </Confirm>
  )
}

const CASCADE_SAYS =
  'Their tokens stop working at once and their connections end. The agents stop, and nothing more is heard of a robot until it is enrolled again.'

const word = (noun: string) => noun.split(' ').at(-1)
