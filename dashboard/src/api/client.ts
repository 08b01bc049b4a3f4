import { signal } from '@preact/signals'
import { hearServerTime } from '../ui/clock.ts'
import { Problem, Unreachable } from './problem.ts'

type Query = Readonly<Record<string, string | number | boolean | undefined | null | readonly string[]>>

interface Options {
  readonly query?: Query
  readonly body?: unknown
  readonly signal?: AbortSignal
  /** Speaks for another than whoever is signed in. */
  readonly token?: string
}

/** Grows when the server says that nobody is signed in any more. */
export const signedOut = signal(0)

/** False after a request that reached nobody, until one does. */
export const isReachable = signal(true)

export function withQuery(path: string, query: Query = {}): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query))
    for (const item of Array.isArray(value) ? value : [value])
      if (item !== undefined && item !== null && item !== '') search.append(name, String(item))
  const text = search.toString()
  return text === '' ? path : `${path}?${text}`
}

async function call<Answer>(method: string, path: string, options: Options = {}): Promise<Answer> {
  const headers: Record<string, string> = { accept: 'application/json' }
  if (options.body !== undefined) headers['content-type'] = 'application/json'
  if (options.token !== undefined) headers.authorization = `Bearer ${options.token}`
  let response: Response
  try {
    response = await fetch(withQuery(path, options.query), {
      method,
      headers,
      credentials: options.token === undefined ? 'same-origin' : 'omit',
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    })
  } catch (error) {
    if (options.signal?.aborted) throw error
    isReachable.value = false
    throw new Unreachable()
  }
  isReachable.value = true
  hearServerTime(response.headers.get('date'))
  if (response.ok) return (response.status === 204 ? undefined : await response.json()) as Answer
  const document = await response.json().catch(() => ({}))
  const problem = new Problem(response.status, document as ConstructorParameters<typeof Problem>[1])
  if (problem.code === 'credentials_required' && options.token === undefined) signedOut.value++
  throw problem
}

/** The REST interface, as whoever is signed in. All reject with a Problem, or with Unreachable. */
export const api = {
  get: <Answer>(path: string, query?: Query, options?: Options) =>
    call<Answer>('GET', path, { ...options, ...(query ? { query } : {}) }),
  post: <Answer>(path: string, body?: unknown, options?: Options) =>
    call<Answer>('POST', path, { ...options, body: body ?? {} }),
  patch: <Answer>(path: string, body: unknown, options?: Options) =>
    call<Answer>('PATCH', path, { ...options, body }),
  delete: <Answer>(path: string) => call<Answer>('DELETE', path),
}

/** All pages of a list, for lists that are short. */
export async function all<Item>(path: string, query: Query = {}): Promise<Item[]> {
  const items: Item[] = []
  let cursor: string | null = null
  do {
    const page: { items: Item[]; next_cursor: string | null } = await api.get(path, {
      limit: 200,
      ...query,
      cursor,
    })
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null)
  return items
}
