import { useState } from 'preact/hooks'
import { FLEET_TOKEN_SCOPES, SCOPES } from '../../../../src/access/scopes.ts'
import { api } from '../../api/client.ts'
import type { Fleet, NewAccessToken } from '../../api/types.ts'
import { held, may, visitor } from '../../session/session.ts'
import { Dialog } from '../../ui/dialog.tsx'
import { Field } from '../../ui/field.tsx'
import { Form } from '../../ui/form.tsx'
import { expiryOf, rangesOf } from './expiry.ts'
import { ExpiryField } from './expiry-field.tsx'
import { NewSecret } from './new-secret.tsx'
import { SCOPE_SAYS } from './scopes.ts'

/** Makes a token of the viewer's own, or one of a fleet, and shows it once. */
export function NewToken({
  fleet,
  onMade,
  onClose,
}: {
  fleet?: Fleet
  onMade: () => void
  onClose: () => void
}) {
  const [made, setMade] = useState<NewAccessToken>()
  if (made)
    return (
      <NewSecret
        title={`“${made.name}” is made`}
        token={made.token}
        expiresAt={made.expires_at}
        onClose={onClose}
      />
    )
  return (
    <Dialog title={fleet ? `New token of ${fleet.name}` : 'New token of your own'} onClose={onClose}>
      <p class="soft">
        {fleet
          ? 'For programs. It reaches this fleet alone, and stays when whoever made it goes.'
          : 'For your programs. It never does more than you may do at that moment, and goes when you go.'}
      </p>
      <TokenForm
        {...(fleet ? { fleet } : {})}
        onCancel={onClose}
        onBody={async (body) => {
          setMade(
            await api.post<NewAccessToken>(fleet ? `/api/fleets/${fleet.id}/tokens` : '/api/tokens', body),
          )
          onMade()
        }}
      />
    </Dialog>
  )
}

function TokenForm({
  fleet,
  onBody,
  onCancel,
}: {
  fleet?: Fleet
  onBody: (body: unknown) => Promise<void>
  onCancel: () => void
}) {
  const found = visitor.value
  // Somebody whose own rights are cut down gives no token that is not.
  const mayAll = !fleet && found.kind === 'somebody' && found.who.scopes === null
  const scopes = fleet
    ? FLEET_TOKEN_SCOPES.filter((scope) => may(scope, { site_id: fleet.site_id, fleet_id: fleet.id }))
    : held(SCOPES)
  const [isAll, setAll] = useState(false)
  return (
    <Form
      action="Make the token"
      onCancel={onCancel}
      onSubmit={async (texts) => {
        const chosen = scopes.filter((scope) => texts[`scope ${scope}`] === 'on')
        if (!isAll && chosen.length === 0) throw new Error('Choose at least one thing that it may do')
        const ranges = rangesOf(texts.ranges ?? '')
        await onBody({
          name: texts.name,
          ...(isAll ? {} : { scopes: chosen }),
          ...expiryOf(texts.expiry ?? '', texts.expiry_day ?? ''),
          ...(ranges.length > 0 ? { allowed_cidrs: ranges } : {}),
        })
      }}
    >
      {(wrong) => (
        <>
          <Field name="Name" hint="What it is for, and where it is kept." wrong={wrong('name')}>
            <input name="name" required maxLength={128} autofocus autocomplete="off" />
          </Field>
          <fieldset class="scopes">
            <legend>What it may do</legend>
            {mayAll && (
              <label class="check">
                <input
                  type="checkbox"
                  checked={isAll}
                  onChange={(event) => setAll(event.currentTarget.checked)}
                />
                <span>All that I may do, also what I may do later</span>
              </label>
            )}
            {!isAll &&
              scopes.map((scope) => (
                <label key={scope} class="check">
                  <input type="checkbox" name={`scope ${scope}`} defaultChecked={scope === 'robots:read'} />
                  <span>
                    {SCOPE_SAYS[scope]} <code class="soft">{scope}</code>
                  </span>
                </label>
              ))}
            {wrong('scopes') && <span class="wrong">{wrong('scopes')}</span>}
          </fieldset>
          <ExpiryField wrong={wrong('expires_at') ?? wrong('expires_in_days')} />
          <details>
            <summary>Only from some addresses</summary>
            <Field
              name="Addresses"
              hint="Addresses or ranges like 10.1.0.0/16, one a line. Empty: from anywhere."
              wrong={wrong('allowed_cidrs')}
            >
              <textarea name="ranges" rows={3} spellcheck={false} />
            </Field>
          </details>
        </>
      )}
    </Form>
  )
}
