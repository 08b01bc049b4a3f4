/** The parts of an address's query that a view knows; what it does not know or is empty is left out. */
export function partsOf<Name extends string>(
  url: string,
  names: readonly Name[],
): { readonly [Each in Name]?: string } {
  const search = new URLSearchParams(url.split('?')[1]?.split('#')[0] ?? '')
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = search.get(name)?.trim()
      return value ? [[name, value]] : []
    }),
  ) as { [Each in Name]?: string }
}

/** A path with those parts that are something. */
export function addressWith(path: string, parts: Readonly<Record<string, string | undefined>>): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(parts)) if (value) search.set(name, value)
  const text = search.toString()
  return text === '' ? path : `${path}?${text}`
}
