/** The limits of a real server as it comes, and as its settings make it. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { mintToken } from './independent/operator.ts'
import { type Scene, startScene } from './scene.ts'

let scene: Scene
beforeAll(async () => {
  scene = await startScene()
}, 60_000)
afterAll(() => scene?.end())

const ask = (base: string, token: string) =>
  fetch(`${base}/api/sites`, { headers: { authorization: `Bearer ${token}` } })

/** How many of so many were answered with each status. */
async function statuses(count: number, one: () => Promise<Response>): Promise<Record<number, number>> {
  const seen: Record<number, number> = {}
  for (let asked = 0; asked < count; asked++) {
    const response = await one()
    await response.arrayBuffer()
    seen[response.status] = (seen[response.status] ?? 0) + 1
  }
  return seen
}

test('an address that guesses is held off, and whoever was there before goes on', async () => {
  const base = scene.servers[0]!.url
  expect((await ask(base, scene.adminToken)).status).toBe(200)
  const guesses = await statuses(400, () => ask(base, mintToken('rf_pat_')))
  // 300 at once, and five more each second that this takes.
  expect(guesses[401]).toBeGreaterThanOrEqual(300)
  expect(guesses[429]).toBeGreaterThan(0)
  const refused = await eventually(async () => {
    const response = await ask(base, mintToken('rf_pat_'))
    return response.status === 429 ? response : undefined
  })
  expect(refused.headers.get('retry-after')).toBe('1')
  expect((await ask(base, scene.adminToken)).status).toBe(200)
  const metrics = await fetch(`${base}/metrics`, { headers: { authorization: `Bearer ${scene.adminToken}` } })
  expect(await metrics.text()).toMatch(/^beacon_rate_limited_total\{limit="refused_credentials"\} [1-9]/m)
})

test('a token that asks without end is held off as the settings say', async () => {
  const { url } = await scene.addServer({ BEACON_REQUESTS_PER_SECOND: '1' })
  const asked = await statuses(30, () => ask(url, scene.adminToken))
  expect(asked[200]).toBeGreaterThanOrEqual(10)
  expect(asked[429]).toBeGreaterThan(0)
  const free = await scene.addServer({ BEACON_REQUESTS_PER_SECOND: '0' })
  expect(await statuses(30, () => ask(free.url, scene.adminToken))).toEqual({ 200: 30 })
}, 60_000)
