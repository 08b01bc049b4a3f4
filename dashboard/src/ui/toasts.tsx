import { signal } from '@preact/signals'
import { describe } from '../api/problem.ts'

interface Toast {
  readonly id: number
  readonly tone: 'ok' | 'error'
  readonly text: string
}

const toasts = signal<readonly Toast[]>([])
let count = 0
const SHOWN_MS = 6_000
const MOST = 4

function show(tone: Toast['tone'], text: string): void {
  const id = ++count
  toasts.value = [...toasts.value, { id, tone, text }].slice(-MOST)
  // What went wrong stays until somebody has read it.
  if (tone === 'ok') setTimeout(() => dismiss(id), SHOWN_MS)
}

function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id)
}

/** Tells in a corner that something was done. */
export const done = (text: string) => show('ok', text)

/** Tells in a corner what went wrong. */
export const failed = (error: unknown) => show('error', describe(error))

export function Toasts() {
  return (
    <div class="toasts" role="log" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.id} class="toast" data-tone={toast.tone}>
          <span>{toast.text}</span>
          <button
            type="button"
            class="button quiet small"
            aria-label="Dismiss"
            onClick={() => dismiss(toast.id)}
          >
            ✕
          </button>
        </div>
      ))}
    </div>
  )
}
