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

/** What to tell a person of whatever went wrong. */
export function describe(error: unknown): string {
  if (!(error instanceof Problem)) return error instanceof Error ? error.message : String(error)
  // The detail mostly names the first of them already.
  const others = error.errors.filter(({ pointer }) => !error.message.includes(pointer))
  return [error.message, ...others.map(({ pointer, detail }) => `${pointer}: ${detail}`)].join('; ')
}
