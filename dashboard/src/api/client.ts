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
  /** How long the answer may take. */
  readonly timeoutMs?: number
}

/** Whoever waits longer than this for an answer has none: what is shown may be old, and that is said. */
const ANSWER_MS = 15_000
const DEED_MS = 60_000
const UNKNOWN_END =
  'The server did not answer in time. Whether it did what was asked is not known: look before you try again'

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
  const timeoutMs = options.timeoutMs ?? (method === 'GET' ? ANSWER_MS : DEED_MS)
  const late = AbortSignal.timeout(timeoutMs)
  const signal = options.signal ? AbortSignal.any([options.signal, late]) : late
  let response: Response
  let text: string
  try {
    response = await fetch(withQuery(path, options.query), {
      method,
      headers,
      credentials: options.token === undefined ? 'same-origin' : 'omit',
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      signal,
    })
    text = await response.text()
  } catch (error) {
    if (options.signal?.aborted) throw error
    isReachable.value = false
    throw new Unreachable(method === 'GET' || !late.aborted ? undefined : UNKNOWN_END)
  }
  isReachable.value = true
  hearServerTime(response.headers.get('date'))
  if (response.ok) {
    if (response.status === 204) return undefined as Answer
    try {
      return JSON.parse(text) as Answer
    } catch {
      throw notBeacon(response.status)
    }
  }
  const problem = problemFrom(response, text)
  if (problem.code === 'credentials_required' && options.token === undefined) signedOut.value++
  throw problem
}

/** What the server refused with. */
export async function problemOf(response: Response): Promise<Problem> {
  return problemFrom(response, await response.text().catch(() => ''))
}

function problemFrom(response: Response, text: string): Problem {
  const retryAfterMs = Number(response.headers.get('retry-after') ?? Number.NaN) * 1_000 || undefined
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    document = undefined
  }
  if (typeof document !== 'object' || document === null || !('code' in document))
    return notBeacon(response.status, retryAfterMs)
  return new Problem(response.status, document as ConstructorParameters<typeof Problem>[1], retryAfterMs)
}

/** Proxies answer for servers that restart, and hotels for whoever has not paid. */
export function notBeacon(status: number, retryAfterMs?: number): Problem {
  const detail =
    status >= 502 && status <= 504
      ? `The server is not there at the moment (${status}): it may be restarting. Try again in a moment.`
      : `What answered (${status}) was not Beacon but something on the way to it: a proxy, or a network that wants a sign-in.`
  return new Problem(status, { code: 'unknown', detail }, retryAfterMs)
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
