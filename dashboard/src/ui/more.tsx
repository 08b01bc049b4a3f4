import { Button } from './button.tsx'
import type { Pages } from './pages.ts'

/** Loads the next page of a list, as long as there is one. */
export function More({ pages }: { pages: Pages<unknown> }) {
  return pages.more ? (
    <div>
      <Button onClick={pages.more}>Show more</Button>
    </div>
  ) : null
}
