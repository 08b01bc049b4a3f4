import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Call {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  readonly body: unknown
}

export interface Answer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  /** An object goes out as JSON, a text as it is; 'cut' ends the connection without one, 'silence' keeps it. */
  readonly body: unknown
}

/** What the server says to `METHOD /path`: an answer, or a function of the call. */
export type Script = Readonly<Record<string, Answer | ((call: Call) => Answer)>>

export interface FakeServer {
  readonly url: string
  readonly calls: readonly Call[]
  /** Replaces what it says from now on. */
  say(script: Script): void
  close(): Promise<void>
}

/** A server of the REST interface that says what it is told to, gone when the test is over. */
export async function fakeServer(script: Script): Promise<FakeServer> {
  let current = script
  const calls: Call[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    const url = new URL(request.url ?? '/', 'http://fake')
    const call: Call = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: text === '' ? undefined : JSON.parse(text),
    }
    calls.push(call)
    const entry = current[`${call.method} ${call.path}`]
    const answer = typeof entry === 'function' ? entry(call) : entry
    respond(response, answer ?? problem(404, 'not_found', 'there is no such address'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  onTestFinished(close)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    say(next) {
      current = next
    },
    close,
  }
}

function respond(response: ServerResponse, { status = 200, headers = {}, body }: Answer): void {
  if (body === 'silence') return
  if (body === 'cut') {
    response.socket?.destroy()
    return
  }
  const isText = typeof body === 'string'
  response.writeHead(status, { 'content-type': isText ? 'text/html' : 'application/json', ...headers })
  response.end(isText ? body : JSON.stringify(body))
}

/** A problem document. */
export function problem(status: number, code: string, detail: string, more: object = {}): Answer {
  return {
    status,
    headers: { 'content-type': 'application/problem+json' },
    body: { type: 'about:blank', title: 'A title', status, code, detail, request_id: 'req-7', ...more },
  }
}

export const page = (items: readonly unknown[], next_cursor: string | null = null): Answer => ({
  body: { items, next_cursor },
})
