import type { InjectOptions } from 'fastify'
import type { Answer, Api, Json } from '../http/api.ts'

export interface SentCookie {
  readonly name: string
  readonly value: string
  /** As sent, in lower case: `httponly`, `samesite=lax`. */
  readonly attributes: readonly string[]
}

interface BrowserOptions {
  /** Where its pages come from; null: it says nothing of it. */
  readonly origin?: string | null
  readonly address?: string
  readonly headers?: Readonly<Record<string, string>>
}

export interface BrowserAnswer extends Answer {
  readonly cookies: readonly SentCookie[]
}

/** A browser as far as it matters here: keeps cookies, and says from which page a request comes. */
export class Browser {
  readonly cookies = new Map<string, string>()
  readonly #api: Pick<Api, 'app'>
  readonly #options: BrowserOptions

  constructor(api: Pick<Api, 'app'>, options: BrowserOptions = {}) {
    this.#api = api
    this.#options = options
  }

  async call(
    method: string,
    url: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<BrowserAnswer> {
    const { origin = 'http://localhost', address = '127.0.0.1' } = this.#options
    const sent: Record<string, string> = { host: 'localhost', ...this.#options.headers }
    if (origin !== null && method !== 'GET') sent.origin = origin
    if (this.cookies.size > 0)
      sent.cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const options: InjectOptions = {
      method: method as NonNullable<InjectOptions['method']>,
      url,
      remoteAddress: address,
      headers: { ...sent, ...headers },
    }
    if (body !== undefined) options.payload = body as NonNullable<InjectOptions['payload']>
    const response = await this.#api.app.inject(options)
    const cookies = [response.headers['set-cookie'] ?? []].flat().map(parseCookie)
    for (const { name, value, attributes } of cookies)
      if (value === '' || attributes.includes('max-age=0')) this.cookies.delete(name)
      else this.cookies.set(name, value)
    const isJson = /json/.test(String(response.headers['content-type'] ?? ''))
    return {
      status: response.statusCode,
      headers: response.headers,
      text: response.payload,
      body: isJson && response.payload !== '' ? (JSON.parse(response.payload) as Json) : undefined,
      cookies,
    }
  }

  get = (url: string, headers?: Record<string, string>) => this.call('GET', url, undefined, headers)
  post = (url: string, body?: unknown, headers?: Record<string, string>) =>
    this.call('POST', url, body, headers)
  patch = (url: string, body?: unknown) => this.call('PATCH', url, body)
  delete = (url: string) => this.call('DELETE', url)
}

function parseCookie(header: string): SentCookie {
  const [pair = '', ...attributes] = header.split(';').map((part) => part.trim())
  const [name = '', value = ''] = pair.split('=')
  return { name, value, attributes: attributes.map((attribute) => attribute.toLowerCase()) }
}
