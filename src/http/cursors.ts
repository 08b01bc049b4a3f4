import { z } from 'zod'
import { BeaconError } from '../errors.ts'

/** The longest name in a cursor takes far less than this. */
const MAX_LENGTH = 1024

type Place = Readonly<Record<string, string | number | boolean | null>>

/** Opaque to callers: where a list goes on. */
export function encodeCursor(place: Place): string {
  return Buffer.from(JSON.stringify(place)).toString('base64url')
}

/** The place that a cursor of ours names; undefined without a cursor. */
export function decodeCursor<Schema extends z.ZodType>(
  text: string | undefined,
  place: Schema,
): z.output<Schema> | undefined {
  if (text === undefined) return undefined
  try {
    if (text.length > MAX_LENGTH || !/^[A-Za-z0-9_-]+$/.test(text)) throw new BeaconError('invalid_cursor')
    const decoded = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(text, 'base64url'))
    return place.parse(JSON.parse(decoded))
  } catch (cause) {
    throw new BeaconError('invalid_cursor', undefined, { cause })
  }
}

/** Microseconds since 1970 that a PostgreSQL interval and a JavaScript number both hold exactly. */
export const microseconds = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

/** A page out of `limit + 1` rows: the row too many says that there is more. */
export function pageOf<Row, Item>(
  rows: readonly Row[],
  limit: number,
  toItem: (row: Row) => Item,
  toPlace: (row: Row) => Place,
): { items: Item[]; next_cursor: string | null } {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  return {
    items: items.map(toItem),
    next_cursor: rows.length > limit && last !== undefined ? encodeCursor(toPlace(last)) : null,
  }
}
