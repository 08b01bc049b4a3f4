import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fastify from 'fastify'
import { describe, expect, test } from 'vitest'
import { dashboard, PAGE_PATHS } from '../../src/http/dashboard.ts'
import { packageRoot } from '../../src/package.ts'

const built = join(packageRoot, 'dist/dashboard')
const assets = readdirSync(join(built, 'assets')).filter((file) => /\.(js|css)$/.test(file))

async function serving(folder?: string) {
  const app = fastify()
  dashboard(app, folder)
  await app.ready()
  return app
}

describe('the page', () => {
  test('is the same document at each of its addresses, with a policy that lets nothing but its own files run', async () => {
    const app = await serving()
    for (const path of PAGE_PATHS) {
      const answer = await app.inject({ url: path.replace(':id', 'some-robot') })
      expect(answer.statusCode, path).toBe(200)
      expect(answer.headers['content-type']).toBe('text/html; charset=utf-8')
      expect(answer.headers['cache-control']).toBe('no-cache')
      const policy = String(answer.headers['content-security-policy'])
      expect(policy).toContain("default-src 'none'")
      expect(policy).toContain("script-src 'self';")
      expect(policy).not.toContain('unsafe')
      expect(answer.body).toBe(readFileSync(join(built, 'index.html'), 'utf8'))
    }
    await app.close()
  })

  test('holds no script or style of its own, and nothing from elsewhere', () => {
    const document = readFileSync(join(built, 'index.html'), 'utf8')
    expect(document).not.toMatch(/<script(?![^>]*\bsrc=)/)
    expect(document).not.toMatch(/<style|style=|https?:/)
  })

  test('has its files kept for good, compressed for whoever takes it', async () => {
    const app = await serving()
    expect(assets.length).toBeGreaterThan(1)
    for (const file of assets) {
      const plain = await app.inject({ url: `/assets/${file}` })
      expect(plain.statusCode, file).toBe(200)
      expect(plain.headers['cache-control']).toBe('public, max-age=31536000, immutable')
      expect(plain.headers['content-encoding']).toBeUndefined()
      const packed = await app.inject({ url: `/assets/${file}`, headers: { 'accept-encoding': 'gzip, br' } })
      expect(packed.headers['content-encoding']).toBe('br')
      expect(packed.headers.vary).toBe('accept-encoding')
      expect(packed.rawPayload.length).toBeLessThan(plain.rawPayload.length)
    }
    await app.close()
  })

  test('hands out nothing that is not part of it', async () => {
    const app = await serving()
    for (const url of [
      '/index.html',
      '/assets/',
      '/assets/../index.html',
      '/assets/%2e%2e/index.html',
      '/assets/..%2f..%2f..%2fpackage.json',
      '/assets/nothing.js',
      `/assets/${assets[0]}.br`,
      '/robots',
      '/favicon.ico',
    ])
      expect((await app.inject({ url })).statusCode, url).toBe(404)
    expect((await app.inject({ url: '/', method: 'POST' })).statusCode).toBe(404)
    await app.close()
  })

  test('says so where it was not built, and the server starts all the same', async () => {
    const app = await serving(mkdtempSync(join(tmpdir(), 'no-page-')))
    expect((await app.inject({ url: '/' })).json().message).toMatch('the page was not built: npm run build')
    await app.close()
  })
})
