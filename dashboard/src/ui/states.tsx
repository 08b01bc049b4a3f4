import type { ComponentChildren } from 'preact'
import { describe, Problem, Unreachable } from '../api/problem.ts'
import { Button } from './button.tsx'
import type { Loaded } from './loaded.ts'

export function Loading({ what = 'Loading' }: { what?: string }) {
  return (
    <div class="loading" role="status" aria-label={what}>
      <div class="bar" />
      <div class="bar" />
      <div class="bar" />
    </div>
  )
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  )
}

/** What went wrong, in the server's words, with the number that its log knows it by. */
export function Failure({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  return (
    <div class="notice" data-tone="error" role="alert">
      <strong>{describe(error)}</strong>
      {error instanceof Problem && error.requestId && (
        <span class="small soft">
          {error.code} · request <code>{error.requestId}</code>
        </span>
      )}
      {onRetry && <Button onClick={onRetry}>Try again</Button>}
    </div>
  )
}

/** Shows what was loaded, or why it is not there; what was there before stays below a failure. */
export function Shown<Value>({
  loaded,
  children,
}: {
  loaded: Loaded<Value>
  children: (value: Value) => ComponentChildren
}) {
  // That the server cannot be reached stands above every page already.
  const isTold =
    loaded.error !== undefined && !(loaded.error instanceof Unreachable && loaded.value !== undefined)
  return (
    <>
      {isTold && <Failure error={loaded.error} onRetry={loaded.reload} />}
      {loaded.value !== undefined ? children(loaded.value) : loaded.error === undefined && <Loading />}
    </>
  )
}
