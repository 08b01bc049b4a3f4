import { useEffect, useState } from 'preact/hooks'
import { api } from '../api/client.ts'
import type { Page } from '../api/types.ts'
import { type Loaded, useLoaded } from './loaded.ts'
import { failed } from './toasts.tsx'

export interface Pages<Item> extends Loaded<Item[]> {
  /** Loads the next page; undefined when all is there. */
  readonly more: (() => Promise<void>) | undefined
}

/** A list of the REST interface, page after page. */
export function usePages<Item>(
  path: string,
  query: Readonly<Record<string, string | number | boolean | undefined | readonly string[]>> = {},
): Pages<Item> {
  const first = useLoaded<Page<Item>>((signal) => api.get(path, query, { signal }), [path, query])
  const [rest, setRest] = useState<{ of: Page<Item>; items: Item[]; next: string | null }>()
  useEffect(() => setRest(undefined), [first.value])
  const page = first.value
  const fits = rest && rest.of === page ? rest : undefined
  const next = fits ? fits.next : (page?.next_cursor ?? null)
  const more = async () => {
    if (!page || next === null) return
    try {
      const answer = await api.get<Page<Item>>(path, { ...query, cursor: next })
      setRest({ of: page, items: [...(fits?.items ?? []), ...answer.items], next: answer.next_cursor })
    } catch (error) {
      failed(error)
    }
  }
  return {
    ...first,
    value: page && [...page.items, ...(fits?.items ?? [])],
    more: next === null ? undefined : more,
  }
}
