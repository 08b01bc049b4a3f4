import { randomUUID } from 'node:crypto'
import type { Problem } from '../errors.ts'
import { type Clock, systemClock } from '../runtime.ts'
import { CliError, EXIT } from './failure.ts'
import { printable } from './text.ts'

/** An array stands for a parameter that is repeated. */
export type Query = Readonly<Record<string, string | number | readonly string[] | undefined>>

export interface Page<Item> {
  readonly items: Item[]
  readonly next_cursor: string | null
}

/** Calls of the REST interface. Every failure is a CliError with one sentence and the exit code that fits. */
export interface Client {
  readonly url: string
  get<Answer>(path: string, query?: Query): Promise<Answer>
  post<Answer>(path: string, body?: unknown): Promise<Answer>
  /** The body of an answer as it comes, however long that takes, as long as something comes. */
  stream(path: string, query?: Query): AsyncGenerator<Uint8Array>
  patch<Answer>(path: string, body: unknown): Promise<Answer>
  delete(path: string): Promise<void>
  /** One page, as it came. */
  page<Item>(path: string, query?: Query): Promise<Page<Item>>
  /** Follows the cursor over as many pages as it takes to have `limit` items (all without one). */
  list<Item>(path: string, query?: Query, limit?: number): Promise<Page<Item>>
}

/** Cookies of a sign-in, as long as it takes. */
export class CookieJar {
  readonly #cookies = new Map<string, string>()

  get header(): string {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ')
  }

  take(response: Response): void {
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=;\s]+)=([^;]*)/.exec(cookie) ?? []
      if (name !== undefined && value) this.#cookies.set(name, value)
      else if (name !== undefined) this.#cookies.delete(name)
    }
  }
}

export interface ClientOptions {
  readonly url: string
  /** A token, or the cookies of somebody who signs in. */
  readonly apiKey: string | CookieJar
  readonly timeoutMs?: number
  readonly clock?: Clock
}

/** Items that one request asks for at the most. */
const PAGE_SIZE = 200
const TIMEOUT_MS = 15_000

const CONNECTION_ERRORS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ENOTFOUND: 'the name does not resolve',
  EAI_AGAIN: 'the name does not resolve at the moment',
  ETIMEDOUT: 'no answer in time',
  UND_ERR_CONNECT_TIMEOUT: 'no answer in time',
  EHOSTUNREACH: 'no way to that host',
  ENETUNREACH: 'no way to that network',
  ECONNRESET: 'the connection was lost',
  EPIPE: 'the connection was lost',
  UND_ERR_SOCKET: 'the connection was lost',
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'its certificate is self-signed; NODE_EXTRA_CA_CERTS names the authorities to trust',
  SELF_SIGNED_CERT_IN_CHAIN:
    'its certificate is not from a known authority; NODE_EXTRA_CA_CERTS names the authorities to trust',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'its certificate is not from a known authority; NODE_EXTRA_CA_CERTS names the authorities to trust',
  CERT_HAS_EXPIRED: 'its certificate has expired',
}

/** Lost after the request may have arrived: asking again is safe, for GETs by nature and POSTs by their key. */
const LOST = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return ''
  const cause = error.cause as { code?: unknown; errors?: { code?: unknown }[] } | undefined
  const code = cause?.code ?? cause?.errors?.[0]?.code
  return typeof code === 'string' ? code : ''
}

function unreachable(url: string, error: unknown): CliError {
  const code = errorCode(error)
  const timedOut = error instanceof Error && error.name === 'TimeoutError'
  const why = timedOut ? 'no answer in time' : (CONNECTION_ERRORS[code] ?? (code || 'the request failed'))
  return new CliError(`cannot reach ${url}: ${why}`, EXIT.unreachable)
}

function isProblem(value: unknown): value is Problem {
  const problem = value as Partial<Problem> | null
  return (
    typeof problem === 'object' && typeof problem?.code === 'string' && typeof problem.detail === 'string'
  )
}

/** A problem document as one sentence: what, which fields, and the request id to look for in the server's log. */
function sentenceOf(problem: Problem): string {
  const fields = (problem.errors ?? [])
    .map((field) => `${field.pointer}: ${field.detail}`)
    // The first is often the detail itself.
    .filter((field) => !problem.detail.includes(field))
  const details = [problem.code, ...(problem.request_id ? [`request ${problem.request_id}`] : [])].join(', ')
  return printable(`${[problem.detail, ...fields].join('; ')} (${details})`)
}

async function failureOf(response: Response, url: string): Promise<CliError> {
  const exitCode = response.status === 401 || response.status === 403 ? EXIT.credential : EXIT.error
  // A gateway in front of a server that restarts answers 502 to 504; Beacon itself 429 or 503.
  const passing = response.status === 429 || response.status >= 502
  const text = await response.text().catch(() => '')
  try {
    const body: unknown = JSON.parse(text)
    if (isProblem(body)) return new CliError(sentenceOf(body), exitCode, passing)
  } catch {
    // Not JSON: some other program's answer.
  }
  const location = response.headers.get('location')
  if (location)
    return new CliError(
      `${url} sends us on to ${printable(location)}; name that address with --url`,
      EXIT.error,
    )
  return new CliError(
    `${url} answered ${response.status}, and not as a Beacon server does`,
    exitCode,
    passing,
  )
}

function withQuery(path: string, query: Query): string {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(query))
    for (const item of value === undefined ? [] : [value].flat()) given.append(name, String(item))
  return given.size === 0 ? path : `${path}?${given}`
}

/** A client for the server at `url`. */
export function createClient(options: ClientOptions): Client {
  const { url, apiKey, timeoutMs = TIMEOUT_MS, clock = systemClock } = options

  /** With cookies, the server asks from where a request comes, as it asks browsers. */
  const credentials = (): Record<string, string> =>
    apiKey instanceof CookieJar
      ? { origin: new URL(url).origin, ...(apiKey.header === '' ? {} : { cookie: apiKey.header }) }
      : { authorization: `Bearer ${apiKey}` }

  async function send(path: string, init: RequestInit, attempts = 2): Promise<Response> {
    try {
      return await fetch(url + path, { ...init, redirect: 'manual', signal: AbortSignal.timeout(timeoutMs) })
    } catch (error) {
      if (attempts > 1 && LOST.has(errorCode(error))) return send(path, init, attempts - 1)
      throw unreachable(url, error)
    }
  }

  async function call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const headers: Record<string, string> = { ...credentials(), accept: 'application/json' }
    if (method !== 'GET') headers['idempotency-key'] = randomUUID()
    if (body !== undefined) headers['content-type'] = 'application/json'
    const response = await send(path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (apiKey instanceof CookieJar) apiKey.take(response)
    if (!response.ok) throw await failureOf(response, url)
    if (response.status === 204) return undefined as Answer
    const text = await response.text().catch((error: unknown) => {
      throw unreachable(url, error)
    })
    try {
      return JSON.parse(text) as Answer
    } catch {
      throw new CliError(`${url} did not answer with JSON: is it a Beacon server?`)
    }
  }

  async function* stream(path: string): AsyncGenerator<Uint8Array> {
    const silence = new AbortController()
    const late = () => silence.abort(new DOMException('nothing came', 'TimeoutError'))
    let timer = clock.after(timeoutMs, late)
    try {
      const headers = credentials()
      const response = await fetch(url + path, { headers, redirect: 'manual', signal: silence.signal })
      if (!response.ok) throw await failureOf(response, url)
      for await (const chunk of response.body ?? []) {
        timer.cancel()
        yield chunk
        timer = clock.after(timeoutMs, late)
      }
    } catch (error) {
      if (error instanceof CliError) throw error
      throw unreachable(url, error)
    } finally {
      timer.cancel()
    }
  }

  const client: Client = {
    url,
    get: (path, query = {}) => call('GET', withQuery(path, query)),
    post: (path, body) => call('POST', path, body),
    patch: (path, body) => call('PATCH', path, body),
    delete: (path) => call('DELETE', path),
    stream: (path, query = {}) => stream(withQuery(path, query)),
    page: (path, query = {}) => call('GET', withQuery(path, query)),
    async list<Item>(path: string, query: Query = {}, limit = Number.POSITIVE_INFINITY) {
      const items: Item[] = []
      let cursor: string | null = null
      do {
        const size = Math.min(limit - items.length, PAGE_SIZE)
        const page: Page<Item> = await client.page<Item>(path, {
          ...query,
          limit: size,
          cursor: cursor ?? undefined,
        })
        items.push(...page.items)
        cursor = page.next_cursor
      } while (cursor !== null && items.length < limit)
      return { items, next_cursor: cursor }
    },
  }
  return client
}
