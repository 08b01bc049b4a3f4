import { STATUS_CODES } from 'node:http'
import { BeaconError, problemOf } from '../errors.ts'
import { requestIdOf } from '../request-id.ts'

/** What is answered in plain HTTP, whichever engine writes it. Content-Length is the engine's to add. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** The connection ends with it. */
  readonly last: boolean
}

/** A request as far as answers depend on it, its header names in lower case. */
export interface PlainRequest {
  readonly method: string
  readonly path: string
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined }
}

export interface AnswerOptions {
  readonly path: string
  /** What refusals and other answers carry besides what every one does. */
  readonly headers: (requestId: string) => Readonly<Record<string, string>>
  readonly notReadyFor: () => readonly string[]
}

/** The reason phrase that goes with a status. */
export function reasonOf(status: number): string {
  return STATUS_CODES[status] ?? 'Unknown'
}

/** The answer to a request that is refused: a problem document, after which the connection ends. */
export function refusal(
  error: BeaconError,
  request: Pick<PlainRequest, 'headers'>,
  headers: AnswerOptions['headers'],
): Answer {
  const requestId = requestIdOf(request)
  return {
    status: error.status,
    headers: {
      'x-request-id': requestId,
      ...headers(requestId),
      'content-type': 'application/problem+json; charset=utf-8',
      ...(error.status === 401 ? { 'www-authenticate': 'Bearer realm="beacon"' } : {}),
      ...(error.status === 426 ? { upgrade: 'websocket' } : {}),
      ...(error.retryAfterSeconds === undefined
        ? {}
        : { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterSeconds))) }),
    },
    body: JSON.stringify(problemOf(error, requestId)),
    last: true,
  }
}

function document(status: number, body: object, request: PlainRequest, options: AnswerOptions): Answer {
  const requestId = requestIdOf(request)
  return {
    status,
    headers: {
      'x-request-id': requestId,
      ...options.headers(requestId),
      'content-type': 'application/json; charset=utf-8',
    },
    body: JSON.stringify(body),
    last: false,
  }
}

/** The answer to a request that is no upgrade, on a port that is there for robots: how the port is, or a refusal. */
export function answerTo(request: PlainRequest, options: AnswerOptions): Answer {
  const { method, path } = request
  if (method === 'GET' || method === 'HEAD') {
    if (path === '/healthz') return document(200, { status: 'ok' }, request, options)
    if (path === '/readyz') {
      const reasons = options.notReadyFor()
      const ready = reasons.length === 0
      return document(ready ? 200 : 503, { ready, reasons }, request, options)
    }
    if (path === options.path) return refusal(new BeaconError('upgrade_required'), request, options.headers)
  }
  return refusal(
    new BeaconError('not_found', 'there is nothing at this address; robots are taken here'),
    request,
    options.headers,
  )
}
