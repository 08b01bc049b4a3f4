/** The address of another database of the same server. */
export function urlOfDatabase(url: string, name: string): string {
  // A host in the query leaves the one in front of it empty, which URL does not take.
  const parsed = new URL(url.replace('@/', '@socket/'))
  parsed.pathname = `/${name}`
  return parsed.href.replace('@socket/', '@/')
}
