import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { Button } from './button.tsx'
import { Failure } from './states.tsx'

/** A window over the page, open as long as it is there. Escape closes it; the focus goes back where it was. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string
  onClose: () => void
  children: ComponentChildren
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  const heading = useId()
  useEffect(() => {
    const before = document.activeElement
    const element = dialog.current!
    element.showModal()
    return () => {
      // As long as it is open, nothing behind it takes the focus.
      element.close()
      if (before instanceof HTMLElement) before.focus()
      // What opened it may have gone with what was done.
      if (document.activeElement === document.body) document.querySelector<HTMLElement>('#content')?.focus()
    }
  }, [])
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault()
        onClose()
      }}
    >
      <div class="inside">
        <h2 id={heading}>{title}</h2>
        {children}
      </div>
    </dialog>
  )
}

/** Asks before something is done, and says what will happen. It stays open with the reason when that fails. */
export function Confirm({
  title,
  children,
  action,
  danger = false,
  disabled = false,
  onConfirm,
  onClose,
}: {
  title: string
  children: ComponentChildren
  /** What the button says: the deed, not "OK". */
  action: string
  danger?: boolean
  /** As long as it is not known what will happen, or there is nothing to do. */
  disabled?: boolean
  onConfirm: () => Promise<unknown>
  onClose: () => void
}) {
  const [error, setError] = useState<unknown>()
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="stack">{children}</div>
      {error !== undefined && <Failure error={error} />}
      <div class="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button
          kind={danger ? 'danger' : 'primary'}
          disabled={disabled}
          onClick={async () => {
            setError(undefined)
            try {
              await onConfirm()
              onClose()
            } catch (reason) {
              setError(reason)
            }
          }}
        >
          {action}
        </Button>
      </div>
    </Dialog>
  )
}
