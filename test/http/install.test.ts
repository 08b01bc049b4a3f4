import { createHash } from 'node:crypto'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openHandouts } from '../../src/install/handouts.ts'
import { RETENTION } from '../support/retention.ts'
import { type Api, expectProblem, useApi } from './api.ts'

/** A folder as the build makes it, with a file as large as a Node. */
const folder = mkdtempSync(join(tmpdir(), 'beacon-handouts-'))
const LARGE = 'beacon-agent-linux-x64.tar.gz'
const agent = Buffer.from('#!/usr/bin/env node\n// an agent\n')
const large = Buffer.alloc(9_000_000, 'node')
const sum = (contents: Buffer) => createHash('sha256').update(contents).digest('hex')
const sums = `${sum(large)}  ${LARGE}\n${sum(agent)}  beacon-agent.mjs\n`
writeFileSync(join(folder, 'beacon-agent.mjs'), agent)
writeFileSync(join(folder, LARGE), large)
writeFileSync(join(folder, 'SHA256SUMS'), sums)
writeFileSync(join(folder, 'install.sh'), "server='@BEACON_SERVER@'\nsums='@BEACON_SUMS@'\nkept='@OTHER@'\n")
// Beside the build's files, and none of them.
writeFileSync(join(folder, 'secret.txt'), 'of nobody')
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const anyone = { token: null } as const
const at = (host: string, more: Record<string, string> = {}) => ({
  ...anyone,
  headers: { host, ...more },
})

describe('what robots install themselves with', () => {
  const api = useApi({ handouts: openHandouts(folder) })

  test('is there for everybody, with its type, its length and a name of its contents', async () => {
    const answer = await api().get('/install/beacon-agent.mjs', anyone)
    expect(answer.status).toBe(200)
    expect(answer.text).toBe(agent.toString())
    expect(answer.headers).toMatchObject({
      'content-type': 'text/javascript; charset=utf-8',
      'content-length': String(agent.byteLength),
      'cache-control': 'public, no-cache',
      etag: `"${sum(agent)}"`,
    })
    expect((await api().get('/install/SHA256SUMS', anyone)).text).toBe(sums)
  })

  test('is not sent again to whoever has it', async () => {
    const path = '/install/beacon-agent.mjs'
    const { etag } = (await api().get(path, anyone)).headers
    for (const known of [`${etag}`, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await api().get(path, { ...anyone, headers: { 'if-none-match': known } })
      expect([again.status, again.text, again.headers.etag]).toEqual([304, '', etag])
    }
    const other = await api().get(path, { ...anyone, headers: { 'if-none-match': '"other"' } })
    expect(other.status).toBe(200)
  })

  test('HEAD tells the length without the rest', async () => {
    const head = await api().call('HEAD', `/install/${LARGE}`, undefined, anyone)
    expect([head.status, head.text]).toEqual([200, ''])
    expect(head.headers['content-length']).toBe(String(large.byteLength))
  })

  test('is nothing else, whatever is asked for', async () => {
    for (const name of [
      'secret.txt',
      'install.sh',
      'beacon-agent-linux-arm64.tar.gz',
      '..%2fsecret.txt',
      '%2e%2e/package.json',
      'beacon-agent.mjs%00',
      '__proto__',
      'constructor',
    ])
      expectProblem(await api().get(`/install/${name}`, anyone), 404, 'not_found')
    expectProblem(await api().post('/install.sh', undefined, anyone), 405, 'method_not_allowed')
  })
})

describe('install.sh', () => {
  const api = useApi({ handouts: openHandouts(folder) })

  test('knows the address that it came from, and what the files have to be', async () => {
    const answer = await api().get('/install.sh', at('beacon.example:8080'))
    expect(answer.headers['content-type']).toBe('text/x-shellscript; charset=utf-8')
    // Another address is another script.
    expect(answer.headers['cache-control']).toBe('no-store')
    expect(answer.text).toBe(
      `server='http://beacon.example:8080'\nsums='${sums.trimEnd()}'\nkept='@OTHER@'\n`,
    )
  })

  test.each([
    "evil.example'; reboot; '",
    'evil.example$(reboot)',
    'evil.example/path',
    'user@evil.example',
    'evil.example`id`',
    'evil.example\\',
    'evil.example @BEACON_SUMS@',
  ])('does not repeat a Host that is none: %s', async (host) => {
    const { text } = await api().get('/install.sh', at(host, { 'x-forwarded-host': host }))
    expect(text).toContain("server='http://localhost'\n")
    expect(text).not.toContain('evil')
  })

  test('believes no proxy that is not configured', async () => {
    const { text } = await api().get(
      '/install.sh',
      at('beacon.example', { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https' }),
    )
    expect(text).toContain("server='http://beacon.example'\n")
  })
})

describe('install.sh of a server with a configured address', () => {
  const api = useApi({
    handouts: openHandouts(folder),
    config: {
      publicUrl: "https://robots.example/o'hara",
      trustedProxies: [],
      heartbeatIntervalMs: 10_000,
      history: RETENTION,
    },
  })

  test('knows that one, whatever it was asked at', async () => {
    const answer = await api().get('/install.sh', at('evil.example'))
    expect(answer.text).toContain("server='https://robots.example/o'\\''hara'\n")
  })
})

describe('a server whose agent was not built', () => {
  const api = useApi({ handouts: openHandouts(join(folder, 'nowhere')) })

  test('says so', async () => {
    for (const path of ['/install.sh', '/install/beacon-agent.mjs'])
      expect(expectProblem(await api().get(path, anyone), 404, 'not_found').detail).toContain('npm run build')
  })
})

describe('downloads', () => {
  const changing = mkdtempSync(join(tmpdir(), 'beacon-handouts-'))
  writeFileSync(join(changing, LARGE), large)
  writeFileSync(join(changing, 'SHA256SUMS'), sums)
  const api = useApi({ handouts: openHandouts(changing) })
  afterAll(() => rmSync(changing, { recursive: true, force: true }))

  /** Asks for the large file and reads none of it. */
  async function idler(port: number): Promise<{ status: string; end(): void }> {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.write(`GET /install/${LARGE} HTTP/1.1\r\nHost: here\r\n\r\n`)
    const status = await new Promise<string>((resolve) => {
      socket.once('data', (part) => {
        socket.pause()
        resolve(part.toString('latin1').slice(9, 12))
      })
    })
    return { status, end: () => socket.destroy() }
  }

  test('are whole while another build takes the place of the first', async () => {
    const url = await listening(api())
    const answer = await fetch(`${url}/install/${LARGE}`)
    writeFileSync(join(changing, 'new'), 'another build')
    renameSync(join(changing, 'new'), join(changing, LARGE))
    expect(sum(Buffer.from(await answer.arrayBuffer()))).toBe(sum(large))
    const later = await fetch(`${url}/install/${LARGE}`)
    expect(sum(Buffer.from(await later.arrayBuffer()))).toBe(sum(large))
  })

  test('are bounded, and do not keep the server from stopping', async () => {
    const port = Number(new URL(await listening(api())).port)
    const slow = await Promise.all(Array.from({ length: 200 }, () => idler(port)))
    expect(new Set(slow.map(({ status }) => status))).toEqual(new Set(['200']))
    const refused = await api().get(`/install/${LARGE}`, anyone)
    expectProblem(refused, 503, 'overloaded')
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    // One that goes makes room.
    slow[0]!.end()
    await expect
      .poll(async () => (await api().call('GET', `/install/SHA256SUMS`, undefined, anyone)).status)
      .toBe(200)
    const begun = performance.now()
    await api().app.close()
    expect(performance.now() - begun).toBeLessThan(5_000)
    for (const { end } of slow) end()
  })
})

const listened = new WeakMap<Api, string>()
async function listening(api: Api): Promise<string> {
  const url = listened.get(api) ?? (await api.app.listen({ host: '127.0.0.1', port: 0 }))
  listened.set(api, url)
  return url
}
