import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Problem } from '../api/problem.ts'
import { Button } from './button.tsx'
import { textsOf } from './field.tsx'
import { Failure } from './states.tsx'

/**
 * A form that sends what it holds and shows what the server finds wrong: with the fields that `children` ask `wrong`
 * about, and above the button.
 */
export function Form({
  action,
  danger = false,
  onSubmit,
  onCancel,
  children,
}: {
  /** What the button says. */
  action: string
  danger?: boolean
  onSubmit: (texts: Record<string, string>) => Promise<unknown>
  onCancel?: () => void
  children: (wrong: (field: string) => string | undefined) => ComponentChildren
}) {
  const [error, setError] = useState<unknown>()
  const [isBusy, setBusy] = useState(false)
  const form = useRef<HTMLFormElement>(null)
  // The browser itself goes by the attribute only while a document or a dialog opens.
  useEffect(() => form.current?.querySelector<HTMLElement>('[autofocus]')?.focus(), [])
  const wrong = (field: string) => (error instanceof Problem ? error.at(field) : undefined)
  const submit = async (event: Event) => {
    const texts = textsOf(event)
    setBusy(true)
    setError(undefined)
    try {
      await onSubmit(texts)
    } catch (reason) {
      setError(reason)
    } finally {
      setBusy(false)
    }
  }
  return (
    <form class="stack" ref={form} onSubmit={submit}>
      {children(wrong)}
      {error !== undefined && <Failure error={error} />}
      <div class="row">
        <Button type="submit" kind={danger ? 'danger' : 'primary'} busy={isBusy}>
          {action}
        </Button>
        {onCancel && <Button onClick={onCancel}>Cancel</Button>}
      </div>
    </form>
  )
}
