import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { InvitedUser, User } from '../../api/types.ts'
import { Button } from '../../ui/button.tsx'
import { Secret } from '../../ui/copy.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { useLoaded } from '../../ui/loaded.ts'
import type { Places } from '../../ui/places.ts'
import { moment } from '../../ui/times.tsx'
import { firstRole, RoleEditor } from './role-editor.tsx'
import { doublePlace, type Role } from './role-words.ts'

interface Props {
  readonly onDone: () => void
  readonly onClose: () => void
}

/** Invites somebody new, and shows the link that lets them in. */
export function Invite({ places, onDone, onClose }: Props & { places: Places }) {
  const [invited, setInvited] = useState<InvitedUser>()
  const [roles, setRoles] = useState<readonly Role[]>(() => {
    const first = firstRole(places, [])
    return first ? [first] : []
  })
  if (invited) return <Invitation invited={invited} onClose={onClose} />
  return (
    <Dialog title="Invite somebody" onClose={onClose}>
      <Form
        action="Invite"
        onCancel={onClose}
        onSubmit={async ({ name, email }) => {
          if (roles.length === 0) throw new Error('Give at least one role')
          if (doublePlace(roles) >= 0) throw new Error('One role at each place')
          setInvited(await api.post<InvitedUser>('/api/users', { name, email, roles }))
          onDone()
        }}
      >
        {(wrong) => (
          <>
            <Field name="Name" wrong={wrong('name')}>
              <input name="name" required maxLength={128} autocomplete="off" autofocus />
            </Field>
            <Field name="Email" hint="They sign in with it. Nothing is sent." wrong={wrong('email')}>
              <input name="email" type="email" required maxLength={254} autocomplete="off" />
            </Field>
            <RoleEditor roles={roles} places={places} wrong={wrong('roles')} onRoles={setRoles} />
          </>
        )}
      </Form>
    </Dialog>
  )
}

/** A way in for whoever has lost theirs, or let their invitation lapse. */
export function InviteAgain({ user, onDone, onClose }: Props & { user: User }) {
  const [invited, setInvited] = useState<InvitedUser>()
  const ways = useLoaded<{ oidc: boolean }>(() => api.get('/api/sign-in'), [])
  if (invited) return <Invitation invited={invited} onClose={onClose} />
  return (
    <Dialog title={`Invite ${user.name} again`} onClose={onClose}>
      <p>
        Earlier invitations are void at once. When this one is accepted, the new password takes the place of
        the old one and every session ends; until then nothing changes.
        {user.second_factor && ' The second factor stays.'}
      </p>
      <Form
        action="Make the invitation"
        onCancel={onClose}
        onSubmit={async ({ email, forget }) => {
          setInvited(
            await api.post<InvitedUser>(`/api/users/${user.id}/invite`, {
              email,
              ...(forget === 'on' ? { forget_identity: true } : {}),
            }),
          )
          onDone()
        }}
      >
        {(wrong) => (
          <>
            <Field name="Email" wrong={wrong('email')}>
              <input
                name="email"
                type="email"
                required
                maxLength={254}
                autocomplete="off"
                defaultValue={user.email ?? ''}
              />
            </Field>
            {ways.value?.oidc && (
              <label class="check">
                <input type="checkbox" name="forget" />
                They have a new identity at the organisation’s sign-in: forget the old one now
              </label>
            )}
          </>
        )}
      </Form>
    </Dialog>
  )
}

function Invitation({ invited, onClose }: { invited: InvitedUser; onClose: () => void }) {
  return (
    <Dialog title={`${invited.name} is invited`} onClose={() => {}}>
      {invited.accept_url === null ? (
        <p class="notice" data-tone="warn">
          The link was shown before, and is not shown again: invite them again.
        </p>
      ) : (
        <Secret
          what="Invitation link"
          text={invited.accept_url}
          note={`Give it to ${invited.name} alone: whoever opens it first chooses the password. It is shown only now, works once, and until ${moment(invited.invitation_expires_at)}.`}
        />
      )}
      <div class="actions">
        <Button kind="primary" onClick={onClose}>
          Done
        </Button>
      </div>
    </Dialog>
  )
}
