import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { failed } from './toasts.tsx'

interface Props {
  readonly children: ComponentChildren
  /** A promise keeps the button busy until it settles; a rejection is told. */
  readonly onClick?: (event: MouseEvent) => unknown
  readonly kind?: 'plain' | 'primary' | 'danger' | 'quiet'
  readonly size?: 'small'
  readonly type?: 'button' | 'submit'
  readonly busy?: boolean
  readonly disabled?: boolean
  readonly title?: string
  readonly label?: string
  /** Whether what it opens is open. */
  readonly expanded?: boolean
  readonly class?: string
}

export function Button({ children, onClick, kind = 'plain', size, type = 'button', ...props }: Props) {
  const [isBusy, setBusy] = useState(false)
  const busy = isBusy || props.busy === true
  const click = async (event: MouseEvent) => {
    const answer = onClick?.(event)
    if (!(answer instanceof Promise)) return
    setBusy(true)
    try {
      await answer
    } catch (error) {
      failed(error)
    } finally {
      setBusy(false)
    }
  }
  return (
    <button
      type={type}
      class={`button ${kind} ${size ?? ''} ${props.class ?? ''}`}
      disabled={props.disabled === true || busy}
      aria-busy={busy}
      aria-label={props.label}
      aria-expanded={props.expanded}
      title={props.title}
      onClick={onClick ? click : undefined}
    >
      {children}
    </button>
  )
}
