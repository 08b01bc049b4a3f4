/**
 * An array in PostgreSQL's own notation, for thousands of items: much cheaper than to have each one escaped. The items need
 * none: ids, numbers, hexadecimal digits, our own words, and times as `timeItem` writes them.
 */
export function arrayLiteral(items: readonly (string | number | boolean | null | undefined)[]): string {
  return `{${items.map((item) => item ?? 'NULL').join(',')}}`
}

/** A time in RFC 3339 or milliseconds since 1970, as an item of an array literal. */
export function timeItem(time: string | number | Date): string {
  return `"${typeof time === 'string' ? time : new Date(time).toISOString()}"`
}
