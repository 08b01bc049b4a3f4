/** The sort that a click on a column's head asks for: the largest or latest first, then the other way round. */
export function sortAfter(sort: string, column: string): string {
  return sort === `-${column}` ? column : `-${column}`
}
