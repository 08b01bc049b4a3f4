import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { version } from '../../src/package.ts'
import { type Json, useApi } from './api.ts'

const api = useApi()
const GOLDEN = join(import.meta.dirname, 'openapi.golden.json')

async function document(): Promise<Json> {
  const answer = await api().get('/openapi.json', { token: null })
  expect(answer.status).toBe(200)
  return answer.body
}

function operations(doc: Json): [string, Json][] {
  return Object.entries<Json>(doc.paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods).map(([method, operation]): [string, Json] => [
      `${method} ${path}`,
      operation,
    ]),
  )
}

describe('the OpenAPI document', () => {
  // After a deliberate change, take the new one and read the difference:
  // UPDATE_GOLDEN=1 npx vitest run test/http/openapi.test.ts; npx biome format --write test/http/openapi.golden.json
  test('is the one that was agreed on', async () => {
    const doc = await document()
    expect(doc.info.version).toBe(version)
    const text = `${JSON.stringify({ ...doc, info: { ...doc.info, version: 'any' } }, null, 2)}\n`
    if (process.env.UPDATE_GOLDEN) writeFileSync(GOLDEN, text)
    expect(JSON.parse(text)).toEqual(JSON.parse(readFileSync(GOLDEN, 'utf8')))
  })

  test('is OpenAPI 3.1 whose references all lead somewhere, and nothing in it is unused', async () => {
    const doc = await document()
    expect(doc.openapi).toBe('3.1.0')
    const text = JSON.stringify(doc)
    const used = new Set(
      [...text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map((found) => found[1]!),
    )
    expect([...used].sort()).toEqual(Object.keys(doc.components.schemas).sort())
  })

  test('says of every operation what it does, who may, and how it is refused', async () => {
    const doc = await document()
    const ids = operations(doc).map(([, operation]) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const [where, operation] of operations(doc)) {
      expect(operation.operationId, where).toMatch(/^[a-z][A-Za-z]+$/)
      expect(operation.summary, where).toMatch(/\S/)
      expect(operation.tags, where).toHaveLength(1)
      const scope = operation['x-scope']
      const security = {
        public: [],
        claim: [{ claim_credential: [] }],
        person: [{ personal_token: [] }, { session: [] }],
        self: [{ personal_token: [] }, { fleet_token: [] }],
      }[scope as string] ?? [{ personal_token: [] }, { fleet_token: [] }, { session: [] }]
      expect(operation.security, where).toEqual(security)
      expect(operation.responses['500'].content['application/problem+json'], where).toBeDefined()
      if (scope !== 'public') expect(operation.responses['401'], where).toBeDefined()
    }
  })

  test('offers an Idempotency-Key with every POST under /api that is no step of a sign-in', async () => {
    for (const [where, operation] of operations(await document())) {
      const headers = (operation.parameters ?? []).filter((parameter: Json) => parameter.in === 'header')
      const names = headers
        .map((header: Json) => header.name)
        .filter((name: string) => name !== 'last-event-id')
      // What somebody signs in with is not kept for a repetition.
      const takesKey = where.startsWith('post /api/') && !operation.tags.includes('Sign-in')
      expect(names, where).toEqual(takesKey ? ['idempotency-key'] : [])
    }
  })

  test('says which bodies may be left out', async () => {
    const bodies = operations(await document())
      .filter(([, operation]) => operation.requestBody?.required === false)
      .map(([where]) => where)
    expect(bodies.sort()).toEqual([
      'post /api/enrollment-keys/{id}/revoke',
      'post /api/fleets/{id}/tokens/{token_id}/revoke',
      'post /api/fleets/{id}/tokens/{token_id}/rotate',
      'post /api/provisioning-tokens/{id}/revoke',
      'post /api/robots/{id}/approve',
      'post /api/robots/{id}/deny',
      'post /api/robots/{id}/retire',
      'post /api/robots/{id}/revoke-token',
      'post /api/robots/{id}/rotate-token',
      'post /api/robots/{id}/setup-token',
      'post /api/secrets/rotate',
      'post /api/session/second-factor',
      'post /api/sign-out',
      'post /api/tokens/self/revoke',
      'post /api/tokens/self/rotate',
      'post /api/tokens/{id}/revoke',
      'post /api/tokens/{id}/rotate',
      'post /api/users/{id}/invite',
    ])
  })
})

describe('the page at /docs', () => {
  test('brings all it needs, under a policy that lets nothing else in', async () => {
    const page = await api().get('/docs/', { token: null })
    expect(page.status).toBe(200)
    expect(page.headers['content-type']).toMatch(/^text\/html/)
    const policy = String(page.headers['content-security-policy'])
    expect(policy).toContain("default-src 'none'")
    expect(policy).not.toMatch(/unsafe|https?:|\*/)
    const urls = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((found) => found[1]!)
    expect(urls.length).toBeGreaterThan(4)
    expect(page.text).not.toMatch(/<script>|<style|\son\w+=|https?:\/\//)
    for (const url of urls) {
      const part = await api().get(new URL(url, 'http://here/docs/').pathname, { token: null })
      expect([url, part.status]).toEqual([url, 200])
      expect(part.headers['content-security-policy']).toBe(policy)
    }
    const described = await api().get('/docs/json', { token: null })
    expect(described.body).toEqual(await document())
    expect((await api().get('/docs', { token: null })).status).toBe(200)
  })

  test('has nothing outside its own folder', async () => {
    for (const path of [
      '/docs/static/..%2f..%2fpackage.json',
      '/docs/static/%2e%2e/package.json',
      '/docs/../api/sites',
    ])
      expect((await api().get(path, { token: null })).status).toBeGreaterThanOrEqual(400)
  })
})
