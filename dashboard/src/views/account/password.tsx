import { api } from '../../api/client.ts'
import type { WhoAmI } from '../../api/types.ts'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'

/** A new password; every other session ends with the old one. */
export function ChangePassword({
  who,
  onDone,
  onCancel,
}: {
  who: WhoAmI
  onDone: () => Promise<unknown>
  onCancel: () => void
}) {
  return (
    <>
      <p>Your other sessions end. Tokens stay as they are.</p>
      <Form
        action={who.has_password ? 'Change it' : 'Choose it'}
        onCancel={onCancel}
        onSubmit={async ({ current, next, again }) => {
          if (next !== again) throw new Error('The new password is not the same both times')
          await api.post('/api/password', {
            new_password: next,
            ...(who.has_password ? { current_password: current } : {}),
          })
          await onDone()
        }}
      >
        {(wrong) => (
          <>
            {/* So that a password manager knows whose it is. */}
            <input
              class="visually-hidden"
              type="text"
              autocomplete="username"
              value={who.user.email ?? ''}
              readOnly
              tabIndex={-1}
              aria-hidden="true"
            />
            {who.has_password && (
              <Field name="Current password" wrong={wrong('current_password')}>
                <input name="current" type="password" autocomplete="current-password" required autofocus />
              </Field>
            )}
            <Field name="New password" hint="At least twelve characters." wrong={wrong('new_password')}>
              <input name="next" type="password" autocomplete="new-password" required minlength={12} />
            </Field>
            <Field name="New password again">
              <input name="again" type="password" autocomplete="new-password" required minlength={12} />
            </Field>
          </>
        )}
      </Form>
    </>
  )
}
