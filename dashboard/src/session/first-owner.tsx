import { api } from '../api/client.ts'
import type { InvitedUser, WhoAmI } from '../api/types.ts'
import { Button } from '../ui/button.tsx'
import { Field } from '../ui/field.tsx'
import { Form } from '../ui/form.tsx'
import { lookAgain } from './session.ts'

/**
 * From the owner token, which the server prints once at its first start, to somebody who can sign in: the token's person
 * gets an email and, by an invitation of their own, a password. The token is held by this page only while it does so.
 */
export function FirstOwner({ onBack }: { onBack: () => void }) {
  return (
    <>
      <h1>Become the owner</h1>
      <p class="soft">
        The server printed a token beginning with <code>rf_pat_</code> when it started for the first time.
        Choose how you sign in from now on.
      </p>
      <Form
        action="Set up and sign in"
        onSubmit={async ({ token, name, email, password }) => {
          const given = { token: token!.trim() }
          const { user } = await api.get<WhoAmI>('/api/session', undefined, given)
          await api.patch(`/api/users/${user.id}`, { name, email }, given)
          const invited = await api.post<InvitedUser>(`/api/users/${user.id}/invite`, {}, given)
          await api.post('/api/invitations/accept', { token: invited.invitation_token, password })
          await api.post('/api/sign-in', { email, password })
          await lookAgain()
        }}
      >
        {(wrong) => (
          <>
            <Field name="Owner token">
              <input
                name="token"
                type="password"
                autocomplete="off"
                required
                pattern="\s*rf_pat_[0-9a-f]{72}\s*"
                autofocus
                title="rf_pat_ and 72 characters"
              />
            </Field>
            <Field name="Your name" wrong={wrong('name')}>
              <input name="name" autocomplete="name" required />
            </Field>
            <Field name="Email" wrong={wrong('email')}>
              <input name="email" type="email" autocomplete="username" required />
            </Field>
            <Field name="Password" wrong={wrong('password')} hint="At least twelve characters.">
              <input name="password" type="password" autocomplete="new-password" required minlength={12} />
            </Field>
          </>
        )}
      </Form>
      <Button kind="quiet" size="small" onClick={onBack}>
        Back to sign in
      </Button>
    </>
  )
}
