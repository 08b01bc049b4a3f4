import { randomBytes } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { afterAll, beforeAll, expect } from 'vitest'
import { z } from 'zod'
import { createAccess } from '../../src/access/principal.ts'
import { createSeal } from '../../src/access/seal.ts'
import { settingsKeyring } from '../../src/access/secret-key.ts'
import { createSecretRotation } from '../../src/access/secret-rotation.ts'
import { createSignInDesk } from '../../src/access/sign-in/desk.ts'
import { createStanding } from '../../src/access/standing.ts'
import { createLocalBus } from '../../src/bus/local.ts'
import type { ErrorCode } from '../../src/errors.ts'
import { createHealth } from '../../src/http/health.ts'
import { renderRobot } from '../../src/http/live-schema.ts'
import type { HttpParts } from '../../src/http/parts.ts'
import { NO_RATE_LIMITS } from '../../src/http/rate-limits.ts'
import { createHttp } from '../../src/http/server.ts'
import { openHandouts } from '../../src/install/handouts.ts'
import { createLiveFeeds } from '../../src/live/feed.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { seriesOf } from '../../src/processes/robot-port.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { HANDED_OUT } from '../install/stranger.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { RETENTION } from '../support/retention.ts'
import { ask } from './injecting.ts'

/** JSON whose shape the test itself asserts. */
// biome-ignore lint/suspicious/noExplicitAny: answers are checked against the OpenAPI document as they come in
export type Json = any

export interface Answer {
  readonly status: number
  readonly headers: Record<string, string | string[] | number | undefined>
  readonly text: string
  readonly body: Json
}

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT' | 'HEAD'
interface Extra {
  readonly headers?: Record<string, string>
  /** Null: without credentials. */
  readonly token?: string | null
}

/** The REST edge on a database of its own, called as the owner. Every answer has to be as documented. */
export interface Api {
  readonly app: FastifyInstance
  readonly db: TestDatabase
  readonly parts: HttpParts
  readonly token: string
  readonly tokenId: string
  /** What was told to the other servers. */
  readonly published: Json[]
  readonly logged: Json[]
  call(method: Method, url: string, body?: unknown, extra?: Extra): Promise<Answer>
  get(url: string, extra?: Extra): Promise<Answer>
  post(url: string, body?: unknown, extra?: Extra): Promise<Answer>
  patch(url: string, body?: unknown, extra?: Extra): Promise<Answer>
  delete(url: string, extra?: Extra): Promise<Answer>
  close(): Promise<void>
}

const SECRET_KEY = Buffer.alloc(32, 7)

/** `open` may put something between the edge and its database. */
export async function startApi(
  replace: Partial<HttpParts> = {},
  open: (db: TestDatabase) => TestDatabase = (db) => db,
): Promise<Api> {
  const db = open(await createTestDatabase())
  const ownerId = await insertPerson(db.database, [{ role: 'owner' }], { name: 'owner' })
  const { id: tokenId, token } = await insertPersonalToken(db.database, ownerId, { name: 'owner' })
  const published: Json[] = []
  const logged: Json[] = []
  const log = createLog('debug', { write: (line: string) => void logged.push(JSON.parse(line)) })
  const bus = createLocalBus()
  const standing = createStanding({ database: db.database, bus, clock: systemClock, log })
  const metrics = replace.metrics ?? createMetrics()
  const clock = replace.clock ?? systemClock
  const live = createLiveFeeds({
    database: db.database,
    clock,
    random: systemRandom,
    log,
    metrics,
    render: renderRobot,
  })
  const parts: HttpParts = {
    config: { publicUrl: undefined, trustedProxies: [], heartbeatIntervalMs: 10_000, history: RETENTION },
    database: db.database,
    claims: {
      claim: () => Promise.reject(new Error('nobody claims here')),
      check: () => Promise.reject(new Error('nobody checks here')),
    },
    bus: {
      publish(message) {
        published.push(message)
        return bus.publish(message)
      },
    },
    access: createAccess(db.database),
    standing,
    live,
    audit: { refused: () => {}, used: () => {} },
    seal: createSeal(SECRET_KEY, systemRandom),
    signIn: createSignInDesk({
      clock: replace.clock ?? systemClock,
      random: systemRandom,
      seal: createSeal(SECRET_KEY, systemRandom),
      oidc: undefined,
    }),
    handouts: openHandouts(HANDED_OUT),
    secrets: createSecretRotation({
      database: db.database,
      keyring: settingsKeyring(SECRET_KEY, []),
      seal: createSeal(SECRET_KEY, systemRandom),
      clock: systemClock,
      log,
    }),
    log,
    metrics,
    clock: systemClock,
    random: systemRandom,
    health: createHealth({
      database: db.database,
      clock: systemClock,
      draining: () => false,
      takesRobots: () => true,
    }),
    // Tests ask more in a second than anybody else.
    rateLimits: NO_RATE_LIMITS,
    takesUpgrade: () => false,
    gatewayPath: '/agent/ws',
    gatewayPort: () => undefined,
    processSeries: () => seriesOf(metrics),
    ...replace,
  }
  const app = createHttp(parts)
  await app.ready()
  const documented = documentedAnswers(app)

  async function call(method: Method, url: string, body?: unknown, extra: Extra = {}): Promise<Answer> {
    const options: InjectOptions = { method, url, headers: { ...extra.headers } }
    if (extra.token !== null)
      options.headers = { authorization: `Bearer ${extra.token ?? token}`, ...options.headers }
    if (body !== undefined) options.payload = body as NonNullable<InjectOptions['payload']>
    const response = await ask(app, options)
    const isJson = /[/+]json/.test(String(response.headers['content-type'] ?? ''))
    const answer = {
      status: response.statusCode,
      headers: response.headers,
      text: response.payload,
      body: isJson && response.payload !== '' ? JSON.parse(response.payload) : undefined,
    }
    expect(answer.headers['x-request-id']).toMatch(/^[A-Za-z0-9._:-]{1,128}$/)
    expect(answer.headers['x-content-type-options']).toBe('nosniff')
    documented(method, url, answer)
    return answer
  }

  return {
    app,
    db,
    parts,
    token,
    tokenId,
    published,
    logged,
    call,
    get: (url, extra) => call('GET', url, undefined, extra),
    post: (url, body, extra) => call('POST', url, body, extra),
    patch: (url, body, extra) => call('PATCH', url, body, extra),
    delete: (url, extra) => call('DELETE', url, undefined, extra),
    async close() {
      standing.stop()
      live.stop()
      await app.close()
      parts.handouts.close()
      await db.drop()
    },
  }
}

/** Checks answers against the OpenAPI document: the status, the code of a refusal, the form of the body. */
function documentedAnswers(app: FastifyInstance) {
  const document = JSON.parse(JSON.stringify(app.swagger()).replaceAll('#/components/schemas/', '#/$defs/'))
  const paths = Object.entries<Json>(document.paths).map(([path, operations]) => ({
    pattern: new RegExp(`^${path.replace(/\{[^}]+\}/g, '[^/]+')}$`),
    operations,
  }))
  const schemas = new Map<Json, z.ZodType>()
  const schemaOf = (json: Json) => {
    const made = schemas.get(json) ?? z.fromJSONSchema({ ...json, $defs: document.components.schemas })
    schemas.set(json, made)
    return made
  }
  return (method: Method, url: string, answer: Answer) => {
    const path = url.split('?', 1)[0]!
    const operation = paths.find(({ pattern }) => pattern.test(path))?.operations[method.toLowerCase()]
    if (!operation) return
    const where = `${method} ${path} → ${answer.status} ${answer.body?.code ?? ''}`
    const response = operation.responses[String(answer.status)]
    expect(response, `${where} is documented`).toBeDefined()
    if (/problem/.test(String(answer.headers['content-type'])))
      expect(operation['x-problems'], where).toContain(answer.body.code)
    const schema = Object.values<Json>(response.content ?? {})[0]?.schema
    if (schema && answer.body !== undefined) {
      const checked = schemaOf(schema).safeParse(answer.body)
      expect(checked.error?.issues ?? [], where).toEqual([])
    }
  }
}

/** Starts one for the tests of a file and stops it after them. */
export function useApi(replace: Partial<HttpParts> = {}): () => Api {
  let api: Api | undefined
  beforeAll(async () => {
    api = await startApi(replace)
  })
  afterAll(() => api?.close())
  return () => {
    if (!api) throw new Error('the tests have not begun')
    return api
  }
}

/** A name that nobody else has. */
export function unique(prefix: string): string {
  return `${prefix}-${randomBytes(4).toString('hex')}`
}

/** Asserts a problem document and returns it. */
export function expectProblem(answer: Answer, status: number, code: ErrorCode): Json {
  expect(`${answer.status} ${answer.body?.code}`).toBe(`${status} ${code}`)
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
  expect(answer.body).toMatchObject({
    type: `https://beacon.roboflare.dev/errors/${code}`,
    status,
    request_id: answer.headers['x-request-id'],
  })
  return answer.body
}

export async function makeFleet(api: Api, siteId?: string): Promise<{ site_id: string; fleet_id: string }> {
  const site_id = siteId ?? (await api.post('/api/sites', { name: unique('site') })).body.id
  const fleet = await api.post('/api/fleets', { site_id, name: unique('fleet') })
  expect(fleet.status).toBe(201)
  return { site_id, fleet_id: fleet.body.id }
}

/** Says what the gateway would have written of a robot. */
export async function setStatus(api: Api, robotId: string, status: Record<string, unknown>): Promise<void> {
  const columns = Object.keys(status)
  await api.db.pool.query(
    `UPDATE robot_status SET ${columns.map((column, index) => `${column} = $${index + 2}`).join(', ')}
     WHERE robot_id = $1`,
    [robotId, ...columns.map((column) => status[column])],
  )
}

export async function makeRobot(api: Api, fleetId?: string, body: Json = {}): Promise<Json> {
  const fleet_id = fleetId ?? (await makeFleet(api)).fleet_id
  const answer = await api.post('/api/robots', { fleet_id, name: unique('robot'), ...body })
  expect(answer.status).toBe(201)
  return answer.body
}
