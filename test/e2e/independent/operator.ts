/** An operator written from the contract alone: REST over fetch, and nothing of Beacon's own code. */
import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

export type Json = Record<string, unknown>

export type Answer<T = Json> = {
  readonly status: number
  readonly headers: Headers
  readonly body: T
  readonly text: string
}

export type Site = { readonly id: string; readonly name: string }
export type Fleet = { readonly id: string; readonly name: string }
export type EnrollmentKey = {
  readonly id: string
  readonly key_value: string
  readonly uses: number
  readonly max_uses: number
  readonly status: string
}
export type RobotRecord = {
  readonly id: string
  readonly name: string
  readonly site_id: string
  readonly fleet_id: string
  readonly connection: string
  readonly lifecycle: string
} & Json
export type Page<T> = { readonly items: readonly T[]; readonly next_cursor: string | null }

/** A token with 256 random bits and the CRC-32 of everything before it as its last eight digits. */
export function mintToken(prefix: 'rf_pat_' | 'rf_robot_' | 'rf_fleet_'): string {
  const body = `${prefix}${randomBytes(32).toString('hex')}`
  return `${body}${crc32(body).toString(16).padStart(8, '0')}`
}

export class RefusedError extends Error {
  readonly answer: Answer
  constructor(what: string, answer: Answer) {
    super(`${what}: ${answer.status} ${answer.text.slice(0, 500)}`)
    this.name = 'RefusedError'
    this.answer = answer
  }
}

export class Operator {
  readonly #base: string
  readonly #token: string

  constructor(base: string, token: string) {
    this.#base = base.replace(/\/$/, '')
    this.#token = token
  }

  /** The answer as it came, whatever its status. */
  async call<T = Json>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const response = await fetch(`${this.#base}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000),
    })
    const text = await response.text()
    const isJson = /json/.test(response.headers.get('content-type') ?? '') && text !== ''
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: (isJson ? JSON.parse(text) : {}) as T,
    }
  }

  async must<T = Json>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call<T>(method, path, body)
    if (answer.status >= 300) throw new RefusedError(`${method} ${path}`, answer as unknown as Answer)
    return answer.body
  }

  site(name: string): Promise<Site> {
    return this.must<Site>('POST', '/api/sites', { name })
  }

  fleet(siteId: string, name: string, more: Json = {}): Promise<Fleet> {
    return this.must<Fleet>('POST', '/api/fleets', { site_id: siteId, name, ...more })
  }

  key(site: Site, fleet: Fleet, more: Json = {}): Promise<EnrollmentKey> {
    return this.must<EnrollmentKey>('POST', '/api/enrollment-keys', {
      site_id: site.id,
      fleet_id: fleet.id,
      name: 'key',
      ...more,
    })
  }

  async keyById(id: string): Promise<EnrollmentKey> {
    for await (const key of this.all<EnrollmentKey>('/api/enrollment-keys')) if (key.id === id) return key
    throw new Error(`no enrollment key ${id} in the list`)
  }

  robot(id: string): Promise<RobotRecord> {
    return this.must<RobotRecord>('GET', `/api/robots/${id}`)
  }

  /** Every item of a list, page after page. */
  async *all<T>(path: string): AsyncGenerator<T> {
    let cursor: string | null = null
    do {
      const query = new URLSearchParams({ limit: '100', ...(cursor === null ? {} : { cursor }) })
      const page: Page<T> = await this.must<Page<T>>(
        'GET',
        `${path}${path.includes('?') ? '&' : '?'}${query}`,
      )
      yield* page.items
      cursor = page.next_cursor ?? null
    } while (cursor !== null)
  }

  async list<T>(path: string): Promise<T[]> {
    const items: T[] = []
    for await (const item of this.all<T>(path)) items.push(item)
    return items
  }
}
