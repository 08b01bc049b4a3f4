import type { FastifyInstance, FastifySchemaCompiler } from 'fastify'
import type { z } from 'zod'
import { BeaconError, type FieldError } from '../errors.ts'

const MAX_ERRORS = 20

function escapePart(part: PropertyKey): string {
  return String(part).slice(0, 100).replaceAll('~', '~0').replaceAll('/', '~1')
}

function pointer(httpPart: string | undefined, path: readonly PropertyKey[]): string {
  if (httpPart === 'querystring') return `?${String(path[0] ?? '').slice(0, 100)}`
  if (httpPart === 'headers') return `header:${String(path[0] ?? '')}`
  return path.map((part) => `/${escapePart(part)}`).join('')
}

function detail(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_key' || issue.code === 'invalid_element')
    return issue.issues[0]?.message ?? issue.message
  return issue.message
}

/** What is wrong with each field. */
function fieldErrors(httpPart: string | undefined, error: z.core.$ZodError): FieldError[] {
  const errors = error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({
          pointer: pointer(httpPart, [...issue.path, key]),
          detail: 'is not known here',
        }))
      : [{ pointer: pointer(httpPart, issue.path), detail: detail(issue) }],
  )
  return errors.slice(0, MAX_ERRORS)
}

/** A refusal that names its bad fields. */
export function invalidRequest(errors: readonly FieldError[]): BeaconError {
  const [first] = errors
  const text = first && [first.pointer, first.detail].filter(Boolean).join(': ')
  return new BeaconError('invalid_request', text, { errors })
}

/** Validates with a route's zod schemas. An id of the wrong form in the path names nothing: 404. */
export const validate: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  return (data) => {
    const parsed = schema.safeParse(data)
    if (parsed.success) return { value: parsed.data }
    if (httpPart === 'params') return { error: new BeaconError('not_found') }
    return { error: invalidRequest(fieldErrors(httpPart, parsed.error)) }
  }
}

/**
 * Refuses parameters and fields that a route takes none of: left alone, `?dry_run=true` behind a POST that reads it
 * from its body would do what was only to be tried. What is public to read is read whatever stands behind it.
 */
export function refuseUndescribed(app: FastifyInstance): void {
  app.addHook('preValidation', async ({ is404, method, query, body, routeOptions: { config, schema } }) => {
    if (is404 || (config.scope === 'public' && (method === 'GET' || method === 'HEAD'))) return
    const parameters = schema?.querystring
      ? []
      : Object.keys(query as object).map((name) => pointer('querystring', [name]))
    const fields = schema?.body || body == null ? [] : fieldsOf(body)
    const pointers = [...parameters, ...fields].slice(0, MAX_ERRORS)
    if (pointers.length > 0)
      throw invalidRequest(pointers.map((pointer) => ({ pointer, detail: 'is not known here' })))
  })
}

function fieldsOf(body: unknown): string[] {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return ['']
  return Object.keys(body).map((name) => pointer('body', [name]))
}
