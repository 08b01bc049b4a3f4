/** What the server refused, as it says it: a problem document of RFC 9457. */
export class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly requestId: string | undefined
  /** What is wrong with which field, as JSON pointers. */
  readonly errors: readonly { readonly pointer: string; readonly detail: string }[]
  /** How long it asks to be left alone. */
  readonly retryAfterMs: number | undefined

  constructor(
    status: number,
    document: {
      code?: string
      title?: string
      detail?: string
      request_id?: string
      errors?: readonly { pointer: string; detail: string }[]
    },
    retryAfterMs?: number,
  ) {
    super(document.detail ?? document.title ?? `The server answered ${status}`)
    this.status = status
    this.code = document.code ?? 'unknown'
    this.requestId = document.request_id
    this.errors = document.errors ?? []
    this.retryAfterMs = retryAfterMs
  }

  /** What is wrong with a field of the body. */
  at(field: string): string | undefined {
    return this.errors.find(({ pointer }) => pointer === `/${field}` || pointer.startsWith(`/${field}/`))
      ?.detail
  }
}

/** The server was not reached at all, or did not answer in time. */
export class Unreachable extends Error {
  constructor(message = 'The server cannot be reached') {
    super(message)
  }
}

const PASSING = [429, 502, 503, 504]
const AGAIN_MS = 5_000

/** When to try again by itself what failed with this; undefined for what will go on failing. */
export function againAfterMs(error: unknown): number | undefined {
  if (error instanceof Unreachable) return AGAIN_MS
  if (!(error instanceof Problem) || !PASSING.includes(error.status)) return undefined
  return Math.max(AGAIN_MS, error.retryAfterMs ?? 0)
}

/** What to tell a person of whatever went wrong. */
export function describe(error: unknown): string {
  if (!(error instanceof Problem)) return error instanceof Error ? error.message : String(error)
  // The detail mostly names the first of them already.
  const others = error.errors.filter(({ pointer }) => !error.message.includes(pointer))
  return [error.message, ...others.map(({ pointer, detail }) => `${pointer}: ${detail}`)].join('; ')
}
