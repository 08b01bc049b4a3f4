import { type RawBuilder, sql } from 'kysely'

/** Where a row stands in a sorted list; times in microseconds since 1970, as exact as the database has them. */
export interface SortedPlace {
  readonly value: string | number | null
  readonly id: string
}

/** Which rows of a list that can be sorted are wanted: those behind `after` when given. */
export interface SortedPage<Sort extends string> {
  readonly sort: Sort
  readonly descending: boolean
  readonly limit: number
  readonly after: SortedPlace | undefined
}

/** A row with its own place in the list. */
export type Placed<Row> = Row & { readonly place_value: SortedPlace['value'] }

/** A column to sort by. */
export interface SortColumn {
  readonly column: RawBuilder<unknown>
  readonly type: 'text' | 'time'
}

/** What a place in the list holds of the column. */
export function placeValue({ column, type }: SortColumn): RawBuilder<string | number | null> {
  return type === 'text' ? sql`${column}` : sql`(extract(epoch FROM ${column}) * 1000000)::bigint`
}

/** True for rows behind the place. Rows without a value come last, whatever the direction. */
export function isBehind(
  { column, type }: SortColumn,
  id: RawBuilder<unknown>,
  descending: boolean,
  place: SortedPlace,
): RawBuilder<boolean> {
  const beyond = sql.raw(descending ? '<' : '>')
  if (place.value === null) return sql`(${column} IS NULL AND ${id} ${beyond} ${place.id}::uuid)`
  const value =
    type === 'text'
      ? sql`${place.value}::text`
      : sql`timestamptz 'epoch' + ${place.value}::float8 * interval '1 microsecond'`
  return sql`(${column} ${beyond} ${value} OR ${column} IS NULL
    OR (${column} = ${value} AND ${id} ${beyond} ${place.id}::uuid))`
}

export function inOrder(
  { column }: SortColumn,
  id: RawBuilder<unknown>,
  descending: boolean,
): RawBuilder<unknown> {
  const direction = sql.raw(descending ? 'DESC' : 'ASC')
  return sql`${column} ${direction} NULLS LAST, ${id} ${direction}`
}
