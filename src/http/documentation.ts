import { STATUS_CODES } from 'node:http'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { RouteOptions } from 'fastify'
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { ERRORS, type ErrorCode } from '../errors.ts'
import { version } from '../package.ts'
import { PAGE_POLICY } from './headers.ts'
import type { App, RouteScope } from './parts.ts'

type Json = Record<string, unknown>

/** Of every route that somebody has to be let in to. */
const GUARD_PROBLEMS: readonly ErrorCode[] = [
  'credentials_required',
  'invalid_token',
  'token_expired',
  'token_revoked',
  'address_not_allowed',
  'second_factor_required',
  'insufficient_scope',
  'not_found',
  'rate_limited',
]

/** Every refusal that a route may answer with, as far as its declaration tells. */
function problemsOf(route: Pick<RouteOptions, 'config' | 'schema' | 'method'>): ErrorCode[] {
  const { scope = 'public', problems = [] } = route.config ?? {}
  const schema = (route.schema ?? {}) as Record<
    'body' | 'querystring' | 'params' | 'headers',
    { shape?: Json } | undefined
  >
  const codes = new Set<ErrorCode>(['internal_error', ...problems])
  const add = (...more: ErrorCode[]) => {
    for (const code of more) codes.add(code)
  }
  if (scope !== 'public') add('database_unavailable', 'overloaded')
  if (scope !== 'public' && scope !== 'claim') add(...GUARD_PROBLEMS)
  if (schema.body) add('invalid_json', 'invalid_request', 'body_too_large', 'unsupported_media_type')
  // What a route takes none of is refused, too.
  if (schema.querystring || scope !== 'public' || route.method !== 'GET') add('invalid_request')
  if (schema.querystring?.shape?.cursor) add('invalid_cursor')
  if (schema.params) add('not_found')
  if (schema.headers?.shape?.['idempotency-key'])
    add('invalid_request', 'request_in_progress', 'idempotency_key_reused')
  return [...codes].sort()
}

function problemResponses(codes: readonly ErrorCode[]): Json {
  const statuses = [...new Set(codes.map((code) => ERRORS[code].status))]
  const entries = statuses.map((status) => [
    status,
    {
      description: codes
        .filter((code) => ERRORS[code].status === status)
        .map((code) => `\`${code}\`: ${ERRORS[code].title}.`)
        .join('\n\n'),
      content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
    },
  ])
  return Object.fromEntries(entries)
}

/** What a caller may come with; any one of them will do. */
function admittedBy(scope: RouteScope): string[] {
  if (scope === 'public') return []
  if (scope === 'claim') return ['claim_credential']
  if (scope === 'person') return ['personal_token', 'session']
  if (scope === 'self') return ['personal_token', 'fleet_token']
  return ['personal_token', 'fleet_token', 'session']
}

/** A route's own part of the document: what its schemas say, and what its scope and refusals are. */
const transform: typeof jsonSchemaTransform = (document) => {
  const { schema, url } = jsonSchemaTransform(document)
  const { route } = document
  if (!schema || (schema as { hide?: boolean }).hide || !route.config?.scope)
    return { schema: { hide: true }, url }
  const { scope } = route.config
  const response = (schema.response ?? {}) as Json
  const codes = problemsOf(route)
  return {
    url,
    schema: {
      ...schema,
      security: admittedBy(scope).map((scheme) => ({ [scheme]: [] })),
      'x-scope': scope,
      ...(route.config.on === undefined ? {} : { 'x-reach': route.config.on }),
      ...(route.config.audit === undefined ? {} : { 'x-audit': route.config.audit }),
      'x-problems': codes,
      response: { ...response, ...problemResponses(codes) },
    } as typeof schema,
  }
}

/** Names of all components that something names, directly or through others. */
function usedComponents(value: unknown, schemas: Json, used = new Set<string>()): Set<string> {
  if (Array.isArray(value)) for (const item of value) usedComponents(item, schemas, used)
  else if (typeof value === 'object' && value !== null)
    for (const [key, item] of Object.entries(value)) {
      const name = key === '$ref' && typeof item === 'string' ? item.split('/').at(-1)! : undefined
      if (name === undefined) usedComponents(item, schemas, used)
      else if (!used.has(name)) usedComponents(schemas[name], schemas, used.add(name))
    }
  return used
}

interface Operation {
  requestBody?: { required: boolean; content: Record<string, { schema: { anyOf?: Json[] } }> }
  responses: Record<string, { description: string }>
}

/** Says that a body which may be null may be left out, and names answers that say nothing of themselves. */
function completeOperation(operation: Operation): void {
  const media = operation.requestBody?.content['application/json']
  if (media?.schema.anyOf?.some((schema) => schema.type === 'null')) operation.requestBody!.required = false
  for (const [status, response] of Object.entries(operation.responses))
    if (response.description === 'Default Response') response.description = STATUS_CODES[status] ?? 'Done'
}

const SELF_EXPLAINING = new Set(['uuid', 'date-time'])

/** A format that says it all needs no pattern beside it. */
function dropPatterns(value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  const schema = value as Json
  if (SELF_EXPLAINING.has(schema.format as string)) delete schema.pattern
  for (const item of Object.values(schema)) dropPatterns(item)
}

const transformObject: typeof jsonSchemaTransformObject = (document) => {
  const object = jsonSchemaTransformObject(document) as {
    paths?: Record<string, Record<string, Operation>>
    components?: { schemas?: Json }
  }
  const schemas = object.components?.schemas ?? {}
  const used = usedComponents(object.paths, schemas)
  for (const name of Object.keys(schemas)) if (!used.has(name)) delete schemas[name]
  for (const path of Object.values(object.paths ?? {})) Object.values(path).forEach(completeOperation)
  dropPatterns(object)
  return object as ReturnType<typeof jsonSchemaTransformObject>
}

/** Gathers the OpenAPI document from the routes that are registered after it. */
export function documentRoutes(app: App): void {
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Beacon',
        version,
        description:
          'The control plane for robot fleets. Errors are RFC 9457 problem documents with a stable `code`; every response carries `x-request-id`.',
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          personal_token: { type: 'http', scheme: 'bearer', description: 'A personal token, `rf_pat_…`' },
          fleet_token: { type: 'http', scheme: 'bearer', description: 'A fleet’s token, `rf_fleet_…`' },
          session: {
            type: 'apiKey',
            in: 'cookie',
            name: 'beacon_session',
            description: 'Somebody who is signed in on the page; over HTTPS `__Host-beacon_session`',
          },
          claim_credential: {
            type: 'http',
            scheme: 'bearer',
            description:
              'An enrollment key `rf_enroll_…`, a provisioning token `apt_…` or a setup token `rf_setup_…`',
          },
        },
      },
    },
    transform,
    transformObject,
  })
}

const DOCUMENTATION_POLICY = {
  ...PAGE_POLICY,
  // The hash is of the one style that the page's own script adds to it.
  'style-src': "'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='",
  'form-action': "'none'",
}

/** The document in a form for people, at /docs. */
export function documentationPage(app: App): void {
  app.register(async (page) => {
    // The plugin's own routes hold nothing but the document and the page around it.
    page.addHook('onRoute', (route) => {
      route.config = { ...route.config, scope: 'public' }
    })
    await page.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: DOCUMENTATION_POLICY,
      uiConfig: { docExpansion: 'list', deepLinking: true },
      theme: { title: 'Beacon API' },
    })
  })
}
