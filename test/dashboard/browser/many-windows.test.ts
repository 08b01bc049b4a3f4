import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { insertManyRobots } from './many-robots.ts'
import { becomeOwner, chromium, openBrowser, type Visitor, visit } from './visitor.ts'

/** More than the connections that a browser opens to one server over HTTP/1.1. */
const WINDOWS = 8
const CONNECTIONS = 6

describe.skipIf(chromium === undefined)('windows side by side', { timeout: 120_000 }, () => {
  let scene: Scene
  let browser: Browser
  let visitor: Visitor

  beforeAll(async () => {
    scene = await startScene()
    await insertManyRobots(scene.database.pool, { id: scene.fleet.id, site_id: scene.site.id }, 100)
    browser = await openBrowser()
    visitor = await visit(browser, scene.servers[0]!.url)
    await becomeOwner(visitor, scene.adminToken)
  }, 60_000)
  afterAll(async () => {
    await browser?.close()
    await scene?.end()
  })

  const live = (page: Page) => page.getByText(/^Live/).waitFor({ timeout: 30_000 })

  test('are all told what changes, and can all ask, however many there are', async () => {
    const pages = [visitor.page]
    while (pages.length < WINDOWS) pages.push(await visitor.context.newPage())
    await Promise.all(pages.map((page) => page.goto('/', { timeout: 30_000 })))
    await Promise.all(pages.map(live))
    await expect
      .poll(() => pages.at(-1)!.getByText('Live, every few seconds').count(), { timeout: 30_000 })
      .toBe(1)

    const change = (name: string, health: string) =>
      scene.database.pool.query(
        'UPDATE robot_status SET health = $2 WHERE robot_id = (SELECT id FROM robots WHERE name = $1)',
        [name, health],
      )
    const row = (page: Page) => page.getByRole('row', { name: /cart-00003/ })
    await change('cart-00003', 'warn')
    await Promise.all(pages.map((page) => row(page).getByText('warn').waitFor({ timeout: 30_000 })))
    // None of them fell behind for it.
    for (const page of pages) expect(await page.getByText('Not live').count()).toBe(0)

    await Promise.all(
      pages.map(async (page, at) => {
        await page.getByRole('searchbox', { name: 'Name or id' }).fill(`cart-0001${at}`)
        await page.getByText('1 shown').waitFor({ timeout: 30_000 })
        await live(page)
      }),
    )
    const answer = await fetch(`${scene.servers[0]!.url}/metrics`, {
      headers: { authorization: `Bearer ${scene.adminToken}` },
    })
    const readers = Number(/^beacon_live_readers (\d+)/m.exec(await answer.text())![1])
    expect(readers).toBeLessThan(CONNECTIONS)

    // Whoever closes a window, by hand or by a crash, leaves its place to the others.
    for (const page of pages.splice(0, WINDOWS - 2)) await page.close()
    for (const page of pages) await page.getByText('Live', { exact: true }).waitFor({ timeout: 30_000 })
    expect(visitor.mishaps).toEqual([])
  })
})
