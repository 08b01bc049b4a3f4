import { connectionsTo, type Network } from './network/dial.ts'
import { httpRequest, httpsRequest } from './network/node-http.ts'

export interface HttpAnswer {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly location: string | undefined
  /** The server's clock. */
  readonly date: string | undefined
  readonly contentType: string | undefined
  /** The body when it is a JSON object, else undefined. */
  readonly body: Readonly<Record<string, unknown>> | undefined
}

const MAX_BODY_BYTES = 64 * 1024

/** Posts JSON with a bearer token. Follows no redirects: the token is for this address alone. Rejects when no answer comes. */
export function postJson(
  url: string,
  bearer: string,
  body: unknown,
  limits: { readonly timeoutMs: number; readonly network: Network; readonly signal: AbortSignal },
): Promise<HttpAnswer> {
  const content = Buffer.from(JSON.stringify(body))
  const send = url.startsWith('https:') ? httpsRequest : httpRequest
  return new Promise((resolve, reject) => {
    const request = send(url, {
      method: 'POST',
      createConnection: connectionsTo(new URL(url), limits.network),
      signal: limits.signal,
      headers: {
        authorization: `Bearer ${bearer}`,
        'content-type': 'application/json',
        'content-length': content.length,
        accept: 'application/json, application/problem+json',
      },
    })
    const timer = limits.network.clock.after(limits.timeoutMs, () =>
      request.destroy(new Error('no answer in time')),
    )
    const settle = (finish: () => void) => {
      timer.cancel()
      finish()
    }
    request.once('error', (error) => settle(() => reject(error)))
    request.once('response', (response) => {
      response.once('error', (error) => settle(() => reject(error)))
      collect(response).then(
        (text) =>
          settle(() =>
            resolve({
              status: response.statusCode ?? 0,
              retryAfter: response.headers['retry-after'],
              location: response.headers.location,
              date: response.headers.date,
              contentType: response.headers['content-type'],
              body: objectIn(text),
            }),
          ),
        (error) => settle(() => reject(error)),
      )
    })
    request.end(content)
  })
}

/** The text of a stream, up to a bound; what lies beyond it is not read. */
export async function collect(stream: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of stream) {
    size += part.length
    if (size > MAX_BODY_BYTES) break
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

/** The JSON object in a text, else undefined. */
export function objectIn(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

/** The `detail` and field errors of a problem document, in one line. */
export function problemText(body: Readonly<Record<string, unknown>> | undefined): string | undefined {
  if (!body) return undefined
  const detail = [body.detail, body.title].find(
    (text): text is string => typeof text === 'string' && text !== '',
  )
  const fields = (Array.isArray(body.errors) ? body.errors : [])
    .filter((error) => typeof error?.pointer === 'string' && typeof error?.detail === 'string')
    .slice(0, 5)
    .map((error) => `${error.pointer}: ${error.detail}`)
  return [detail, ...fields].filter(Boolean).join('; ') || undefined
}

/**
 * The stable code of a problem document. JSON that calls itself nothing of the kind is none: gateways and sign-in pages
 * have codes of their own.
 */
export function problemCode(
  body: Readonly<Record<string, unknown>> | undefined,
  contentType: string | undefined,
): string | undefined {
  const isProblem = /^application\/problem\+json *(;|$)/i.test(contentType ?? '')
  return isProblem && typeof body?.code === 'string' ? body.code : undefined
}
