import { z } from 'zod'
import type { Placed, SortedPage } from '../db/sorting.ts'
import { isStorableText } from '../protocol/text.ts'
import { decodeCursor, microseconds, pageOf } from './cursors.ts'
import { id } from './schemas.ts'

/** Lists that callers sort by one of several columns: of these `name` is a text, and all others are times. */

/** What the query's `sort` may be: with `-` descending. */
export function sortKeys<Sort extends string>(sorts: readonly Sort[]): (Sort | `-${Sort}`)[] {
  return sorts.flatMap((sort) => [sort, `-${sort}` as const])
}

/** What a sorted list is asked with. */
export interface SortedQuery<Sort extends string> {
  readonly sort: Sort | `-${Sort}`
  readonly limit: number
  readonly cursor?: string | undefined
}

/** A place counts for one list and one order only. */
function placeSchema(list: string, sort: string, descending: boolean) {
  return z.strictObject({
    list: z.literal(list),
    sort: z.literal(sort),
    descending: z.literal(descending),
    value: sort === 'name' ? z.string().max(512).refine(isStorableText) : microseconds.nullable(),
    id,
  })
}

/** The page of the list so named that the query asks for, out of what `read` finds: it is asked for one row too many. */
export async function sortedPage<Sort extends string, Row extends { readonly id: string }, Item>(
  list: string,
  query: SortedQuery<Sort>,
  read: (page: SortedPage<Sort>) => Promise<Placed<Row>[]>,
  show: (row: Placed<Row>) => Item,
): Promise<{ items: Item[]; next_cursor: string | null }> {
  const descending = query.sort.startsWith('-')
  const sort = (descending ? query.sort.slice(1) : query.sort) as Sort
  const after = decodeCursor(query.cursor, placeSchema(list, sort, descending))
  const rows = await read({ sort, descending, limit: query.limit + 1, after })
  return pageOf(rows, query.limit, show, (row) => ({
    list,
    sort,
    descending,
    value: row.place_value,
    id: row.id,
  }))
}
