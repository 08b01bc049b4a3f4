import { useEffect, useRef, useState } from 'preact/hooks'
import { api } from '../api/client.ts'
import type { Page } from '../api/types.ts'
import { type Loaded, useLoaded } from './loaded.ts'
import { failed } from './toasts.tsx'

export interface Pages<Item> extends Loaded<Item[]> {
  /** Loads the next page; undefined when all is there. */
  readonly more: (() => Promise<void>) | undefined
}

type Query = Readonly<Record<string, string | number | boolean | undefined | readonly string[]>>

/** A list of the REST interface, page after page. Loading it again loads as many pages as were there. */
export function usePages<Item>(path: string, query: Query = {}): Pages<Item> {
  const key = JSON.stringify([path, query])
  const depth = useRef({ key, pages: 1 })
  if (depth.current.key !== key) depth.current = { key, pages: 1 }
  const first = useLoaded<Page<Item>>(
    async (signal) => {
      const items: Item[] = []
      let cursor: string | null = null
      for (let left = depth.current.pages; left > 0; left--) {
        const page: Page<Item> = await api.get(path, { ...query, cursor: cursor ?? undefined }, { signal })
        items.push(...page.items)
        cursor = page.next_cursor
        if (cursor === null) break
      }
      return { items, next_cursor: cursor }
    },
    [path, query],
  )
  const [rest, setRest] = useState<{ of: Page<Item>; items: Item[]; next: string | null }>()
  useEffect(() => setRest(undefined), [first.value])
  const page = first.value
  const fits = rest && rest.of === page ? rest : undefined
  const next = fits ? fits.next : (page?.next_cursor ?? null)
  const more = async () => {
    if (!page || next === null) return
    try {
      const answer = await api.get<Page<Item>>(path, { ...query, cursor: next })
      depth.current.pages++
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
