import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { User } from '../../api/types.ts'
import { manages, mayDecideAbout } from '../../session/session.ts'
import { Button } from '../../ui/button.tsx'
import { Confirm, Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import type { Places } from '../../ui/places.ts'
import { done } from '../../ui/toasts.tsx'
import { RevokeAll } from '../tokens/revoke-all.tsx'
import { InviteAgain } from './invite.tsx'
import { RoleEditor } from './role-editor.tsx'
import { doublePlace, type Role, roleAt, sameRoles } from './role-words.ts'

type Deed = 'roles' | 'name' | 'invite' | 'reset' | 'revoke' | 'remove'

interface Props {
  readonly user: User
  readonly places: Places
  readonly isSelf: boolean
  readonly onDone: () => void
  readonly onClose: () => void
}

/** What can be done about one person, each with what it means. */
export function Person(props: Props) {
  const { user, places, isSelf, onClose } = props
  const [deed, setDeed] = useState<Deed>()
  if (deed === 'roles') return <ChangeRoles {...props} />
  if (deed === 'name') return <ChangeName {...props} />
  if (deed === 'invite') return <InviteAgain {...props} />
  if (deed === 'reset') return <ResetSecondFactor {...props} />
  if (deed === 'remove') return <Remove {...props} />
  if (deed === 'revoke') return <RevokeAll {...props} of={{ user_id: user.id, name: user.name, isSelf }} />
  const roles = user.roles.map((role) => roleAt(role, places))
  const mayDecide = mayDecideAbout(roles)
  return (
    <Dialog title={user.name} onClose={onClose}>
      {isSelf && (
        <p class="soft">
          This is you: nobody changes their own roles. What you sign in with is at{' '}
          <a href="/account" onClick={onClose}>
            your account
          </a>
          .
        </p>
      )}
      {!isSelf && !mayDecide && (
        <p class="soft">They hold more than you could give, so how they sign in is not yours to change.</p>
      )}
      <ul class="deeds">
        {!isSelf && (
          <Offer name="Change roles" onChoose={() => setDeed('roles')}>
            What they may do, and where.
          </Offer>
        )}
        {mayDecide && (
          <Offer name="Name and email" onChoose={() => setDeed('name')}>
            They sign in with the email. A new one makes invitations void that went to the old one.
          </Offer>
        )}
        {mayDecide && !isSelf && (
          <Offer name="Invite again" onChoose={() => setDeed('invite')}>
            A link to choose a new password with.
          </Offer>
        )}
        {mayDecide && !isSelf && user.second_factor && (
          <Offer name="Reset second factor" onChoose={() => setDeed('reset')}>
            For when their authenticator is lost, and the backup codes with it.
          </Offer>
        )}
        {(isSelf || manages(roles)) && (
          <Offer name="Revoke everything" danger onChoose={() => setDeed('revoke')}>
            Their tokens, sessions and invitations, all at once. They stay, and may sign in again.
          </Offer>
        )}
        {mayDecide && (
          <Offer name="Remove" danger onChoose={() => setDeed('remove')}>
            They lose all access now; tokens and sessions go with them.
          </Offer>
        )}
      </ul>
      <div class="actions">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  )
}

function Offer({
  name,
  danger = false,
  children,
  onChoose,
}: {
  name: string
  danger?: boolean
  children: ComponentChildren
  onChoose: () => void
}) {
  return (
    <li>
      <Button kind={danger ? 'danger' : 'plain'} onClick={onChoose}>
        {name}…
      </Button>
      <span class="small soft">{children}</span>
    </li>
  )
}

function ChangeRoles({ user, places, onDone, onClose }: Props) {
  const [roles, setRoles] = useState<readonly Role[]>(user.roles)
  return (
    <Dialog title={`Roles of ${user.name}`} onClose={onClose}>
      <p class="soft">
        Only roles within your reach are shown; others stay. What is taken away is gone at once.
      </p>
      <Form
        action="Change the roles"
        onCancel={onClose}
        onSubmit={async () => {
          if (doublePlace(roles) >= 0) throw new Error('One role at each place')
          if (!sameRoles(roles, user.roles)) {
            await api.patch(`/api/users/${user.id}`, { roles })
            done(`The roles of ${user.name} are changed.`)
            onDone()
          }
          onClose()
        }}
      >
        {(wrong) => <RoleEditor roles={roles} places={places} wrong={wrong('roles')} onRoles={setRoles} />}
      </Form>
    </Dialog>
  )
}

function ChangeName({ user, onDone, onClose }: Props) {
  return (
    <Dialog title={`Name and email of ${user.name}`} onClose={onClose}>
      <Form
        action="Change"
        onCancel={onClose}
        onSubmit={async ({ name, email }) => {
          const change = {
            ...(name === user.name ? {} : { name }),
            ...(email === (user.email ?? '') ? {} : { email }),
          }
          if (Object.keys(change).length > 0) {
            await api.patch(`/api/users/${user.id}`, change)
            done('Changed.')
            onDone()
          }
          onClose()
        }}
      >
        {(wrong) => (
          <>
            <Field name="Name" wrong={wrong('name')}>
              <input
                name="name"
                required
                maxLength={128}
                defaultValue={user.name}
                autocomplete="off"
                autofocus
              />
            </Field>
            <Field name="Email" wrong={wrong('email')}>
              <input
                name="email"
                type="email"
                required={user.email !== null}
                maxLength={254}
                defaultValue={user.email ?? ''}
                autocomplete="off"
              />
            </Field>
          </>
        )}
      </Form>
    </Dialog>
  )
}

function ResetSecondFactor({ user, onDone, onClose }: Props) {
  return (
    <Confirm
      title={`Reset the second factor of ${user.name}`}
      action="Reset it"
      danger
      onClose={onClose}
      onConfirm={async () => {
        await api.post(`/api/users/${user.id}/reset-second-factor`)
        done(`${user.name} has no second factor any more.`)
        onDone()
      }}
    >
      <p>
        Their authenticator and backup codes stop working, and all their sessions end. The password alone lets
        them in until they set up another: be sure that it is they who ask.
      </p>
    </Confirm>
  )
}

function Remove({ user, isSelf, onDone, onClose }: Props) {
  return (
    <Confirm
      title={`Remove ${user.name}`}
      action={isSelf ? 'Remove myself' : 'Remove'}
      danger
      onClose={onClose}
      onConfirm={async () => {
        await api.delete(`/api/users/${user.id}`)
        done(`${user.name} is removed.`)
        onDone()
      }}
    >
      <p>
        {isSelf ? 'You lose' : 'They lose'} all access at once: sessions end, personal tokens stop working,
        and the email is free again. What they made stays: robots, keys, and tokens of fleets. The audit log
        still tells what they did.
      </p>
      <p>This cannot be undone; to come back they have to be invited anew.</p>
    </Confirm>
  )
}
