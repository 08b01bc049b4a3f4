import type { ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'

/** A page's heading, which is its title in the browser too, with what can be done there. */
export function PageHead({ title, children }: { title: string; children?: ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · Beacon`
  }, [title])
  return (
    <div class="page-head">
      <h1>{title}</h1>
      <div class="row">{children}</div>
    </div>
  )
}
