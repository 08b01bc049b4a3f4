/** Somebody at a browser, written from the contract alone: fetch, a cookie jar, and an authenticator. */
import { Secret, TOTP } from 'otpauth'
import type { Json } from './operator.ts'

export type Seen = {
  readonly status: number
  readonly text: string
  readonly body: Json
  readonly headers: Headers
}

export class Person {
  readonly #base: string
  readonly cookies = new Map<string, string>()

  constructor(base: string) {
    this.#base = base
  }

  async call(method: string, path: string, body?: unknown): Promise<Seen> {
    const response = await fetch(`${this.#base}${path}`, {
      method,
      redirect: 'manual',
      headers: {
        origin: this.#base,
        ...(this.cookies.size === 0
          ? {}
          : { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ') }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000),
    })
    for (const cookie of response.headers.getSetCookie()) {
      const [name = '', value = ''] = cookie.split(';', 1)[0]!.split('=')
      this.cookies.set(name, value)
    }
    const text = await response.text()
    const isJson = /json/.test(response.headers.get('content-type') ?? '') && text !== ''
    return {
      status: response.status,
      text,
      body: isJson ? (JSON.parse(text) as Json) : {},
      headers: response.headers,
    }
  }

  get session(): string {
    return [...this.cookies.values()].at(-1) ?? ''
  }
}

/** What an authenticator shows so many periods from now. */
export function codeOf(secret: string, periods = 0): string {
  return new TOTP({ secret: Secret.fromBase32(secret) }).generate({
    timestamp: Date.now() + periods * 30_000,
  })
}
