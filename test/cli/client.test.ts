import { describe, expect, test } from 'vitest'
import { createClient } from '../../src/cli/client.ts'
import { CliError, EXIT } from '../../src/cli/failure.ts'
import { fakeServer, page, problem, type Script } from './fake-server.ts'

async function clientFor(script: Script, timeoutMs?: number) {
  const server = await fakeServer(script)
  const client = createClient({ url: server.url, apiKey: 'rf_pat_x', ...(timeoutMs ? { timeoutMs } : {}) })
  return { server, client }
}

async function failure(promise: Promise<unknown>): Promise<CliError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(CliError)
  return error as CliError
}

describe('a call', () => {
  test('carries the key as a bearer and nowhere else', async () => {
    const { server, client } = await clientFor({ 'GET /api/info': { body: { version: '1' } } })
    await client.get('/api/info', { a: 1, b: undefined, c: ['x', 'y'] })
    const [call] = server.calls
    expect(call?.headers.authorization).toBe('Bearer rf_pat_x')
    expect(String(call?.query)).toBe('a=1&c=x&c=y')
  })

  test('that changes something carries an idempotency key of its own', async () => {
    const { server, client } = await clientFor({ 'POST /api/sites': { status: 201, body: {} } })
    await client.post('/api/sites', { name: 'a' })
    await client.post('/api/sites', { name: 'b' })
    const keys = server.calls.map((call) => call.headers['idempotency-key'])
    expect(new Set(keys).size).toBe(2)
    expect(keys.every((key) => typeof key === 'string' && key.length >= 32)).toBe(true)
  })

  test('whose answer is lost is made once more with the same idempotency key', async () => {
    let answers = 0
    const { server, client } = await clientFor({
      'POST /api/sites': () => {
        answers += 1
        return answers === 1 ? { body: 'cut' } : { status: 201, body: { id: '1' } }
      },
    })
    expect(await client.post('/api/sites', { name: 'a' })).toEqual({ id: '1' })
    expect(server.calls).toHaveLength(2)
    expect(server.calls[0]?.headers['idempotency-key']).toBe(server.calls[1]?.headers['idempotency-key'])
  })
})

describe('a list', () => {
  test('follows the cursor to the end', async () => {
    const { server, client } = await clientFor({
      'GET /api/robots': ({ query }) => (query.get('cursor') === 'next' ? page([3]) : page([1, 2], 'next')),
    })
    expect(await client.list('/api/robots', { q: 'bot' })).toEqual({ items: [1, 2, 3], next_cursor: null })
    expect(server.calls.map((call) => call.query.get('q'))).toEqual(['bot', 'bot'])
  })

  test('stops at the limit and tells where it stopped', async () => {
    const { server, client } = await clientFor({
      'GET /api/robots': ({ query }) =>
        page(
          Array.from({ length: Number(query.get('limit')) }, (_, index) => index),
          'more',
        ),
    })
    const { items, next_cursor } = await client.list('/api/robots', {}, 250)
    expect(items).toHaveLength(250)
    expect(next_cursor).toBe('more')
    expect(server.calls.map((call) => call.query.get('limit'))).toEqual(['200', '50'])
  })
})

describe('a failure', () => {
  test('is one sentence with the fields at fault and the request id', async () => {
    const errors = [
      { pointer: '/max_uses', detail: 'must be above 0' },
      { pointer: '/name', detail: 'is missing' },
    ]
    const { client } = await clientFor({
      'POST /api/x': problem(400, 'invalid_request', 'The request is not valid', { errors }),
    })
    const error = await failure(client.post('/api/x', {}))
    expect(error.message).toBe(
      'The request is not valid; /max_uses: must be above 0; /name: is missing (invalid_request, request req-7)',
    )
    expect(error.exitCode).toBe(EXIT.error)
  })

  test('does not say twice what the server put into its sentence already', async () => {
    const errors = [
      { pointer: '?sort', detail: 'is not one of them' },
      { pointer: '?limit', detail: 'must be above 0' },
    ]
    const { client } = await clientFor({
      'GET /api/x': problem(400, 'invalid_request', '?sort: is not one of them', { errors }),
    })
    const error = await failure(client.get('/api/x'))
    expect(error.message).toBe(
      '?sort: is not one of them; ?limit: must be above 0 (invalid_request, request req-7)',
    )
  })

  test.each([
    [401, EXIT.credential],
    [403, EXIT.credential],
    [404, EXIT.error],
    [409, EXIT.error],
    [503, EXIT.error],
  ])('with status %i ends with exit code %i', async (status, exitCode) => {
    const { client } = await clientFor({ 'GET /api/x': problem(status, 'some_code', 'No.') })
    expect((await failure(client.get('/api/x'))).exitCode).toBe(exitCode)
  })

  test('holds no control characters, whatever the server says', async () => {
    const { client } = await clientFor({ 'GET /api/x': problem(404, 'not_found', 'no \u001b[2Jsuch\nthing') })
    expect((await failure(client.get('/api/x'))).message).toContain('no \\u001b[2Jsuch\\u000athing')
  })

  test('of something that is no Beacon server says so', async () => {
    const { client, server } = await clientFor({
      'GET /api/x': { status: 502, body: '<h1>Bad gateway</h1>' },
      'GET /api/y': { body: '<h1>Welcome</h1>' },
    })
    expect((await failure(client.get('/api/x'))).message).toBe(
      `${server.url} answered 502, and not as a Beacon server does`,
    )
    expect((await failure(client.get('/api/y'))).message).toMatch(/did not answer with JSON/)
  })

  test('sends no key after a redirect', async () => {
    const other = await fakeServer({})
    const { client } = await clientFor({
      'GET /api/x': { status: 301, headers: { location: `${other.url}/api/x` }, body: {} },
    })
    expect((await failure(client.get('/api/x'))).message).toContain(`sends us on to ${other.url}/api/x`)
    expect(other.calls).toEqual([])
  })

  test('to reach the server names it and why', async () => {
    const { client, server } = await clientFor({})
    await server.close()
    const error = await failure(client.get('/api/x'))
    expect(error.message).toBe(`cannot reach ${server.url}: nothing listens there`)
    expect(error.exitCode).toBe(EXIT.unreachable)
  })

  test('to answer in time is one to reach it', async () => {
    const { client, server } = await clientFor({ 'GET /api/x': { body: 'silence' } }, 50)
    const error = await failure(client.get('/api/x'))
    expect(error.message).toBe(`cannot reach ${server.url}: no answer in time`)
    expect(error.exitCode).toBe(EXIT.unreachable)
  })
})
