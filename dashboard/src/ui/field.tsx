import { type ComponentChildren, cloneElement, type VNode } from 'preact'
import { useId } from 'preact/hooks'

/** A control with its name, a hint and what is wrong with it. The control is the one child. */
export function Field({
  name,
  hint,
  wrong,
  children,
}: {
  name: string
  hint?: ComponentChildren
  wrong?: string | undefined
  children: VNode<Record<string, unknown>>
}) {
  const id = useId()
  const about = [hint && `${id}-hint`, wrong && `${id}-wrong`].filter(Boolean).join(' ')
  return (
    <div class="field">
      <label class="name" for={id}>
        {name}
      </label>
      {cloneElement(children, {
        id,
        'aria-invalid': wrong ? 'true' : undefined,
        'aria-describedby': about || undefined,
      })}
      {hint && (
        <span class="hint" id={`${id}-hint`}>
          {hint}
        </span>
      )}
      {wrong && (
        <span class="wrong" id={`${id}-wrong`}>
          {wrong}
        </span>
      )}
    </div>
  )
}

/** What a form holds, by the names of its controls. */
export function textsOf(event: SubmitEvent | Event): Record<string, string> {
  event.preventDefault()
  const form = event.currentTarget as HTMLFormElement
  return Object.fromEntries(
    [...new FormData(form)].flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : [])),
  )
}
