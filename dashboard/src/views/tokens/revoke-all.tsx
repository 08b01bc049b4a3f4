import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { RevokedAll } from '../../api/types.ts'
import { lookAgain } from '../../session/session.ts'
import { Confirm } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import { Shown } from '../../ui/states.tsx'
import { done } from '../../ui/toasts.tsx'
import { groupSays, totalSays } from './revoked.ts'

export type Extent =
  | { readonly user_id: string; readonly name: string; readonly isSelf: boolean }
  | { readonly fleet_id: string; readonly name: string; readonly mayRobots: boolean }
  | { readonly deployment: true }

const SURE = 'revoke everything'

/** The answer to a leak: says all that will go, by asking the server without doing it, and then does it. */
export function RevokeAll({ of, onDone, onClose }: { of: Extent; onDone: () => void; onClose: () => void }) {
  const [isSparing, setSparing] = useState(true)
  const [withRobots, setWithRobots] = useState(false)
  const [typed, setTyped] = useState('')
  const isOfUser = 'user_id' in of
  const body = {
    of: isOfUser
      ? { user_id: of.user_id }
      : 'fleet_id' in of
        ? { fleet_id: of.fleet_id }
        : { deployment: true },
    ...(withRobots ? { include: ['robots'] } : {}),
    except_current: isSparing,
  }
  const plan = useLoaded<RevokedAll>(
    () => api.post('/api/tokens/revoke-all', { ...body, dry_run: true }),
    [body],
  )
  const isSure = !('deployment' in of) || typed.trim().toLowerCase() === SURE
  // Whoever asks is not among what a fleet has, nor among what somebody else holds.
  const mayBeIncluded = 'deployment' in of || (isOfUser && of.isSelf)
  return (
    <Confirm
      title={`Revoke everything of ${'deployment' in of ? 'the deployment' : of.name}`}
      action="Revoke all of it"
      danger
      disabled={!isSure || plan.isLoading || (plan.value?.total ?? 0) === 0}
      onClose={onClose}
      onConfirm={async () => {
        const answer = await api.post<RevokedAll>('/api/tokens/revoke-all', { ...body, dry_run: false })
        done(`${totalSays(answer)} revoked.`)
        onDone()
        if (answer.includes_current) await lookAgain()
      }}
    >
      <p>
        For when something leaked. All of it stops working at once and cannot be brought back: programs that
        use it stop until they are given something new.
      </p>
      {mayBeIncluded && (
        <label class="check">
          <input
            type="checkbox"
            checked={isSparing}
            onChange={(event) => setSparing(event.currentTarget.checked)}
          />
          Leave the session that I am signed in with now
        </label>
      )}
      {('deployment' in of || ('fleet_id' in of && of.mayRobots)) && (
        <label class="check">
          <input
            type="checkbox"
            checked={withRobots}
            onChange={(event) => setWithRobots(event.currentTarget.checked)}
          />
          The robots’ own tokens, too: each robot has to be enrolled again
        </label>
      )}
      <Shown loaded={plan}>
        {(answer) => (
          <div class="notice plan" data-tone={answer.total > 0 ? 'warn' : 'ok'} aria-live="polite">
            <strong>
              {answer.total === 0 ? 'There is nothing to revoke.' : `${totalSays(answer)} will go:`}
            </strong>
            {Object.entries(answer.revoked).map(([group, found]) =>
              found && found.count > 0 ? (
                <details key={group}>
                  <summary>{groupSays(group, found.count)}</summary>
                  <ul class="small">
                    {found.items.map((item) => (
                      <li key={item.id}>
                        {item.name ?? item.id}
                        {item.last_four && <code> …{item.last_four}</code>}
                      </li>
                    ))}
                    {found.count > found.items.length && <li>and {found.count - found.items.length} more</li>}
                  </ul>
                </details>
              ) : null,
            )}
            {answer.includes_current && <span>You will be signed out here, too.</span>}
          </div>
        )}
      </Shown>
      {'deployment' in of && (
        <Field name={`Type “${SURE}”`}>
          <input value={typed} autocomplete="off" onInput={(event) => setTyped(event.currentTarget.value)} />
        </Field>
      )}
    </Confirm>
  )
}
