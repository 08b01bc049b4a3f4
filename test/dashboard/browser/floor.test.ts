import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { insertManyRobots } from './many-robots.ts'
import { becomeOwner, chromium, openBrowser, type Visitor, visit } from './visitor.ts'

describe.skipIf(chromium === undefined)('the floor', { timeout: 60_000 }, () => {
  let scene: Scene
  let browser: Browser
  let visitor: Visitor

  beforeAll(async () => {
    scene = await startScene()
    await insertManyRobots(scene.database.pool, { id: scene.fleet.id, site_id: scene.site.id }, 400)
    browser = await openBrowser()
    visitor = await visit(browser, scene.servers[0]!.url)
    await becomeOwner(visitor, scene.adminToken)
  })
  afterAll(async () => {
    await browser?.close()
    await scene?.end()
  })

  /** Moves a robot as its heartbeat would. */
  const say = (name: string, pose: Record<string, unknown>) =>
    scene.database.pool.query(
      `UPDATE robot_status SET heartbeat = heartbeat || jsonb_build_object('pose', $2::jsonb),
         heartbeat_at = now(), heartbeat_received_at = now(), heartbeat_seq = heartbeat_seq + 1
       WHERE robot_id = (SELECT id FROM robots WHERE name = $1)`,
      [name, JSON.stringify(pose)],
    )

  /** A robot went about in a frame over the last minutes. */
  const sayBefore = (name: string, frame: string) =>
    scene.database.pool.query(
      `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
       SELECT id, now() - make_interval(secs => n * 10), now() - make_interval(secs => n * 10), 1, 100 - n,
         jsonb_build_object('pose',
           jsonb_build_object('frame', $2::text, 'x', 4 * sin(n), 'y', 4 * cos(n), 'theta', 0))
       FROM robots, generate_series(1, 25) AS n WHERE name = $1`,
      [name, frame],
    )
  const isGreen = 'green > red + 20 && green > blue + 10'

  /** How many points of the picture are so: `red`, `green` and `blue` up to 255. */
  const pixelsWhere = (condition: string) =>
    visitor.page.evaluate<number>(`(() => {
      const canvas = document.querySelector('.floor-map canvas')
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
      let count = 0
      for (let at = 0; at < data.length; at += 4) {
        const [red, green, blue] = data.subarray(at, at + 3)
        if (${condition}) count++
      }
      return count
    })()`)
  const pixelsLike = (colour: readonly [number, number, number]) =>
    pixelsWhere(
      ['red', 'green', 'blue'].map((name, index) => `Math.abs(${name} - ${colour[index]}) < 24`).join(' && '),
    )

  test('shows robots where they are, those that need somebody in another colour and form', async () => {
    const { page } = visitor
    await page.getByRole('link', { name: 'Floor' }).click()
    await page.getByLabel('Frame').getByText('hall (400)').waitFor({ state: 'attached' })
    // --ok and --error of the light page.
    await expect.poll(() => pixelsLike([15, 122, 67])).toBeGreaterThan(5_000)
    expect(await pixelsLike([179, 38, 30])).toBeGreaterThan(100)
    await visitor.expectAccessible()
    await visitor.picture('floor')
  })

  test('tells more of the one that is pointed at, and leads to it', async () => {
    const { page } = visitor
    const canvas = page.locator('.floor-map canvas')
    const { width, height } = (await canvas.boundingBox())!
    await canvas.click({ position: { x: width / 2, y: height / 2 } })
    const heading = page.locator('.chosen h2')
    await heading.waitFor()
    const name = (await heading.textContent())!
    expect(name).toMatch(/^cart-00/)
    await page.locator('.chosen').getByText('carrying').waitFor()
    const first = page.locator('.on-floor button').first()
    await first.click()
    expect(await first.getAttribute('aria-pressed')).toBe('true')
    expect(await first.textContent()).toContain('offline')
    await heading.getByRole('link').click()
    await page.waitForURL(/\/robots\/[0-9a-f-]{36}$/)
    await page.goBack()
  })

  test('follows robots, and is moved by keys', async () => {
    const { page } = visitor
    const map = page.getByRole('application')
    await page.getByRole('button', { name: /cart-00050/ }).click()
    const place = page.locator('.chosen dd').first()
    await place.getByText('50.00, 0.00 m').waitFor()
    await say('cart-00050', { frame: 'hall', x: 61.5, y: 2.25, theta: 1 })
    await place.getByText('61.50, 2.25 m').waitFor()

    const before = await map.screenshot()
    await map.focus()
    await page.keyboard.press('+')
    await page.keyboard.press('ArrowLeft')
    await expect.poll(async () => (await map.screenshot()).equals(before)).toBe(false)
    await page.getByRole('button', { name: 'Show all' }).click()
    await page.getByRole('button', { name: 'Show all' }).isDisabled()
  })

  test('shows where a robot came from before anybody looked', async () => {
    const { page } = visitor
    await sayBefore('cart-00003', 'yard')
    await page.goto(`${scene.servers[0]!.url}/floor?frame=yard`)
    await say('cart-00003', { frame: 'yard', x: 0, y: 0, theta: 0 })
    await page.getByRole('button', { name: /cart-00003/ }).waitFor()
    // One that nobody knows to have moved is a dot.
    await expect.poll(() => pixelsWhere(isGreen)).toBeGreaterThan(50)
    expect(await pixelsWhere(isGreen)).toBeLessThan(1_000)
    await page.reload()
    await expect.poll(() => pixelsWhere(isGreen)).toBeGreaterThan(2_000)
    await visitor.picture('floor-trail')
  })

  test('keeps frames apart, and degrees on the earth from metres', async () => {
    const { page } = visitor
    await say('cart-00001', { lat: 53.55, lon: 9.99 })
    await say('cart-00002', { lat: 53.5504, lon: 9.9906 })
    const frames = page.getByLabel('Frame')
    await frames.getByText('GPS (2)').waitFor({ state: 'attached' })
    await frames.selectOption('GPS')
    await expect.poll(() => page.locator('.on-floor button').count()).toBe(2)
    expect(new URL(page.url()).searchParams.get('frame')).toBe('GPS')
    await page.reload()
    await expect.poll(() => page.locator('.on-floor button').count()).toBe(2)
    expect(visitor.mishaps).toEqual([])
  })

  test('draws no way into another frame, though it was changed while nobody could tell', async () => {
    const { page } = visitor
    await sayBefore('cart-00004', 'dock')
    await say('cart-00004', { frame: 'dock', x: 0, y: 0, theta: 0 })
    await page.goto(`${scene.servers[0]!.url}/floor?frame=dock`)
    await expect.poll(() => pixelsWhere(isGreen)).toBeGreaterThan(2_000)
    const port = new URL(scene.servers[0]!.url).port
    await scene.servers[0]!.kill9()
    await page.getByText('Not live').waitFor()
    await say('cart-00004', { frame: 'ramp', x: 1, y: 1, theta: 0 })
    await scene.addServer({ BEACON_PORT: port })
    await page.getByText('Live', { exact: true }).waitFor({ timeout: 60_000 })
    await page.getByLabel('Frame').selectOption('ramp')
    await page.getByRole('button', { name: /cart-00004/ }).waitFor()
    await expect.poll(() => pixelsWhere(isGreen)).toBeGreaterThan(50)
    expect(await pixelsWhere(isGreen)).toBeLessThan(1_000)
  })
})
