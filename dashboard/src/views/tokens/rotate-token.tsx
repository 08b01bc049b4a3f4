import { useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { AccessToken, RotatedAccessToken } from '../../api/types.ts'
import { Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { moment } from '../../ui/times.tsx'
import { expiryOf, OVERLAPS } from './expiry.ts'
import { ExpiryField } from './expiry-field.tsx'
import { NewSecret } from './new-secret.tsx'
import { pathOf } from './token-path.ts'

/** A new token in the place of an old one, which works for a while longer so that nothing stops. */
export function RotateToken({
  token,
  onMade,
  onClose,
}: {
  token: AccessToken
  onMade: () => void
  onClose: () => void
}) {
  const [made, setMade] = useState<RotatedAccessToken>()
  if (made)
    return (
      <NewSecret
        title={`“${made.name}” is replaced`}
        token={made.token}
        expiresAt={made.expires_at}
        onClose={onClose}
      >
        <p>
          The old one, ending in <code>{token.last_four}</code>, works until {moment(made.old.expires_at)}.
        </p>
      </NewSecret>
    )
  return (
    <Dialog title={`Replace “${token.name}”`} onClose={onClose}>
      <p class="soft">
        You get a new token that may do the same. Give it to the programs that use the old one before that
        ends.
      </p>
      <Form
        action="Make the new token"
        onCancel={onClose}
        onSubmit={async ({ overlap, expiry, expiry_day }) => {
          setMade(
            await api.post<RotatedAccessToken>(pathOf(token, 'rotate'), {
              overlap_seconds: Number(overlap),
              ...expiryOf(expiry ?? '', expiry_day ?? ''),
            }),
          )
          onMade()
        }}
      >
        {(wrong) => (
          <>
            <Field name="The old one works for" wrong={wrong('overlap_seconds')}>
              <select name="overlap" defaultValue="86400">
                {OVERLAPS.map(({ value, text }) => (
                  <option key={value} value={value}>
                    {text}
                  </option>
                ))}
              </select>
            </Field>
            <ExpiryField asBefore wrong={wrong('expires_at') ?? wrong('expires_in_days')} />
          </>
        )}
      </Form>
    </Dialog>
  )
}
