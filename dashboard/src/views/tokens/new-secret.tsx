import type { ComponentChildren } from 'preact'
import { Button } from '../../ui/button.tsx'
import { Secret } from '../../ui/copy.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { moment } from '../../ui/times.tsx'

/** A token that is shown this once. Only the button closes it: it cannot be brought back. */
export function NewSecret({
  title,
  token,
  expiresAt,
  children,
  onClose,
}: {
  title: string
  token: string | null
  expiresAt: string | null
  children?: ComponentChildren
  onClose: () => void
}) {
  return (
    <Dialog title={title} onClose={() => {}}>
      {token === null ? (
        <p class="notice" data-tone="warn">
          The token was shown before, and is not shown again. Revoke this one and make another if it was lost.
        </p>
      ) : (
        <>
          <Secret
            what="The token"
            text={token}
            note={`It is shown only now. ${expiresAt ? `It works until ${moment(expiresAt)}.` : 'It works until it is revoked.'}`}
          />
          <Secret
            what="Try it"
            text={`curl -H 'Authorization: Bearer ${token}' ${location.origin}/api/tokens/self`}
          />
        </>
      )}
      {children}
      <div class="actions">
        <Button kind="primary" onClick={onClose}>
          I have stored it
        </Button>
      </div>
    </Dialog>
  )
}
