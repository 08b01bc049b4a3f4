import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { insertManyRobots } from './many-robots.ts'
import { becomeOwner, chromium, openBrowser, signIn, type Visitor, visit } from './visitor.ts'

const ROBOTS = 10_000

describe.skipIf(chromium === undefined)('the fleet, of 10,000 robots', { timeout: 90_000 }, () => {
  let scene: Scene
  let browser: Browser
  let isOwned = false
  const visitors: Visitor[] = []

  beforeAll(async () => {
    // Robots written behind its back hold no sessions, and the server is not to wonder why.
    scene = await startScene()
    const { id } = scene.fleet
    await insertManyRobots(scene.database.pool, { id, site_id: scene.site.id }, ROBOTS)
    await scene.database.pool.query('ANALYZE robots, robot_status')
    browser = await openBrowser()
  }, 60_000)
  afterEach(async () => {
    for (const { context, mishaps } of visitors.splice(0)) {
      expect(mishaps).toEqual([])
      await context.close()
    }
  })
  afterAll(async () => {
    await browser?.close()
    await scene?.end()
  })

  async function come(path: string, options?: Parameters<typeof visit>[2]): Promise<Visitor> {
    const visitor = await visit(browser, scene.servers[0]!.url, options)
    visitors.push(visitor)
    if (!isOwned) await becomeOwner(visitor, scene.adminToken)
    await visitor.page.goto(path)
    if (isOwned) await signIn(visitor)
    isOwned = true
    return visitor
  }

  const status = (page: Page, name: string) => page.getByRole('button', { name: new RegExp(` ?${name}$`) })
  const names = (page: Page) => page.locator('.lines .robot').allTextContents()

  test('is told at a glance, and a click shows those that need somebody', async () => {
    const visitor = await come('/')
    const { page } = visitor
    await status(page, 'Online').getByText('9,800').waitFor()
    await status(page, 'Offline').getByText('200').waitFor()
    await status(page, 'With faults').getByText('111').waitFor()
    await page.getByText('Live', { exact: true }).waitFor()
    await visitor.expectAccessible()
    await visitor.picture('fleet')

    await status(page, 'Offline').click()
    await page.getByText('cart-00050').waitFor()
    expect(new URL(page.url()).search).toBe('?connection=offline')
    expect((await names(page)).slice(0, 3)).toEqual(['cart-00050', 'cart-00100', 'cart-00150'])
    // What one that is lost said last looks like no news.
    const health = page.locator('.lines .health').first()
    expect(await health.evaluate((cell) => getComputedStyle(cell).filter)).toBe('grayscale(1)')
    expect(await status(page, 'Offline').getAttribute('aria-pressed')).toBe('true')
    await page.getByRole('button', { name: 'Robot' }).click()
    await page.getByText('cart-10000').waitFor()
    expect((await names(page))[0]).toBe('cart-10000')

    await page.reload()
    await page.getByText('cart-10000').waitFor()
    await page.getByRole('button', { name: 'Show all' }).click()
    await status(page, 'With faults').click()
    await page.getByText('motor_hot').first().waitFor()
    await page.getByRole('searchbox', { name: 'Name or id' }).fill('cart-0009')
    await expect.poll(() => names(page)).toEqual(['cart-00090'])
    await page.getByRole('searchbox', { name: 'Name or id' }).fill('nobody of that name')
    await page.getByText('No robot passes this filter').waitFor()
  })

  test('is in a table of few rows, whatever there is to scroll through', async () => {
    const visitor = await come('/', { dark: true })
    const { page } = visitor
    await page.getByText('cart-00001').waitFor()
    const lines = page.locator('.lines')
    for (let page_ = 0; page_ < 60; page_++) {
      await lines.evaluate((element) => {
        element.scrollTop = element.scrollHeight
      })
      if (await page.getByText('10,000 shown').isVisible()) break
      await page.waitForResponse((response) => response.url().includes('/api/robots?') && response.ok())
    }
    await page.getByText('10,000 shown').waitFor()
    await lines.evaluate((element) => {
      element.scrollTop = element.scrollHeight
    })
    await page.getByText('cart-10000').waitFor()
    expect(await page.locator('.lines .line').count()).toBeLessThan(60)
    await visitor.picture('fleet-dark')
    await page.keyboard.press('Escape')
    await lines.focus()
    await page.keyboard.press('Home')
    await page.getByText('cart-00001').waitFor()
  })

  test('is where it was left when somebody comes back from a robot', async () => {
    const { page } = await come('/?q=cart-01')
    await page.getByText('cart-01000').waitFor()
    const lines = page.locator('.lines')
    const top = () => lines.evaluate(({ scrollTop }) => scrollTop)
    await lines.evaluate((element) => {
      element.scrollTop = 4_400
    })
    await page.getByRole('link', { name: 'cart-01103' }).click()
    await page.getByRole('heading', { name: 'cart-01103' }).waitFor()
    await page.goBack()
    await page.getByRole('link', { name: 'cart-01103' }).waitFor()
    expect(await top()).toBe(4_400)
    await page.getByRole('link', { name: 'cart-01103' }).click()
    await page.getByRole('heading', { name: 'cart-01103' }).waitFor()
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Fleet' }).click()
    await page.getByText('cart-00001').waitFor()
    expect(await top()).toBe(0)
  })

  test('changes under the eye without rows jumping under the pointer', async () => {
    const { page } = await come('/?q=cart-0020')
    await expect.poll(() => names(page)).toHaveLength(10)
    await page.getByText('Live', { exact: true }).waitFor()
    await page.locator('.lines .line').first().hover()
    await scene.database.pool.query(
      `UPDATE robot_status SET connection = 'offline', connection_reason = 'silent', connection_since = now()
       WHERE robot_id = (SELECT id FROM robots WHERE name = 'cart-00203')`,
    )
    const row = page.getByRole('row', { name: /cart-00203/ })
    await row.getByText('offline').waitFor()
    expect((await names(page))[3]).toBe('cart-00203')

    await page.goto('/?q=cart-0020&connection=online')
    await expect.poll(() => names(page)).toHaveLength(8)
    await page.getByText('Live', { exact: true }).waitFor()
    await page.locator('.lines .line').first().hover()
    await scene.database.pool.query(
      `UPDATE robot_status SET connection = 'stale' WHERE robot_id = (SELECT id FROM robots WHERE name = 'cart-00201')`,
    )
    await page.getByRole('button', { name: '1 changed place: sort again' }).waitFor()
    expect(await names(page)).toContain('cart-00201')
    await page.getByRole('button', { name: '1 changed place: sort again' }).click()
    await expect.poll(() => names(page)).not.toContain('cart-00201')
  })

  test('lets many robots be changed at once, and says before what will happen', async () => {
    const visitor = await come('/?q=cart-0030')
    const { page } = visitor
    await expect.poll(() => names(page)).toHaveLength(10)
    const top = async () => (await page.getByRole('table').boundingBox())!.y
    const before = await top()
    await page.getByRole('checkbox', { name: 'Choose cart-00301' }).click()
    await page.getByText('1 robot chosen').waitFor()
    expect(await top()).toBe(before)
    await page.getByRole('checkbox', { name: 'Choose cart-00303' }).click({ modifiers: ['Shift'] })
    await page.getByText('3 robots chosen').waitFor()
    await page.getByRole('button', { name: 'Maintenance' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByText('people and programs see that the state is maintenance').waitFor()
    await dialog.getByText('cart-00301, cart-00302, cart-00303').waitFor()
    await visitor.expectAccessible()
    await visitor.picture('fleet-bulk')
    await dialog.getByRole('button', { name: 'Maintenance 3 robots' }).click()
    await expect.poll(() => page.locator('.lines').getByText('maintenance', { exact: true }).count()).toBe(3)
    // Whether it is there matters in maintenance, too.
    expect(await page.locator('.lines .connection').nth(1).textContent()).toBe('online')

    await page.getByRole('checkbox', { name: 'Choose all that are loaded' }).click()
    await page.getByRole('button', { name: 'Label' }).click()
    await dialog.getByRole('textbox', { name: 'Label' }).fill('zone')
    await dialog.getByLabel('Value').fill('north')
    await dialog.getByRole('button', { name: 'Label 10 robots' }).click()
    await page.getByText('Label: 10 robots', { exact: true }).waitFor()
    await page.goto('/?label=zone%3Dnorth')
    await expect.poll(() => names(page)).toHaveLength(10)

    await page.goto('/?q=cart-004')
    await page.getByText('100 shown').waitFor()
    await scene.database.pool.query(
      `UPDATE robots SET labels = '{"checked": "by another"}' WHERE name = 'cart-00499'`,
    )
    await page.getByRole('checkbox', { name: 'Choose all that are loaded' }).click()
    await page.getByRole('button', { name: 'Label' }).click()
    await dialog.getByRole('textbox', { name: 'Label' }).fill('row')
    await dialog.getByLabel('Value').fill('4')
    await dialog.getByRole('button', { name: 'Label 100 robots' }).click()
    await page.getByText('Label: 100 robots', { exact: true }).waitFor()
    const { rows: labelled } = await scene.database.pool.query(
      "SELECT labels FROM robots WHERE name = 'cart-00499'",
    )
    expect(labelled).toEqual([{ labels: { checked: 'by another', row: '4' } }])
    await page.goto('/?q=cart-0')
    await page.getByText('200 of 9,999 loaded').waitFor()
    await page.getByRole('checkbox', { name: 'Choose all that are loaded' }).click()
    await page.getByText('200 robots chosen').waitFor()
    await page.getByRole('button', { name: 'Choose all that pass the filter' }).click()
    await page.getByText('9,999 robots chosen').waitFor({ timeout: 60_000 })
    await page.getByRole('button', { name: 'Choose none' }).click()

    await page.goto('/?label=zone%3Dnorth')
    await expect.poll(() => names(page)).toHaveLength(10)

    await page.getByRole('checkbox', { name: 'Choose cart-00309' }).click()
    await page.getByRole('button', { name: 'Retire' }).click()
    await dialog.getByText('this cannot be undone').waitFor()
    await page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'detached' })
    const { rows } = await scene.database.pool.query("SELECT lifecycle FROM robots WHERE name = 'cart-00309'")
    expect(rows).toEqual([{ lifecycle: 'active' }])
  })

  test('leaves out who was retired, as its counts do, until they are asked for', async () => {
    await scene.database.pool.query(
      `UPDATE robots SET lifecycle = 'retired', retired_at = now() WHERE name IN ('cart-09950', 'cart-09951')`,
    )
    const { page } = await come('/?q=cart-0995')
    await page.getByText('8 shown').waitFor()
    expect(await names(page)).not.toContain('cart-09950')
    await status(page, 'Online').getByText('8', { exact: true }).waitFor()
    await page.getByRole('button', { name: '2 retired' }).click()
    await expect.poll(() => names(page)).toEqual(['cart-09950', 'cart-09951'])
    expect(new URL(page.url()).search).toBe('?q=cart-0995&lifecycle=retired')
  })

  test('says when the server is gone, and goes on by itself when it is back', async () => {
    const { page, context } = await come('/')
    await page.getByText('Live', { exact: true }).waitFor()
    const robot = await context.newPage()
    await robot.goto('/')
    await robot.getByText('cart-00001').click()
    await robot.getByRole('heading', { name: 'cart-00001' }).waitFor()
    await robot.getByText('Live', { exact: true }).waitFor()
    const place = await page.getByRole('table').boundingBox()
    const server = scene.servers[0]!
    const port = new URL(server.url).port
    await server.kill9()
    await page.getByText('Not live').waitFor()
    await page.getByText(/^as of \d+ s ago/).waitFor()
    await page.getByText('The server cannot be reached').waitFor()
    expect(await page.getByRole('table').boundingBox()).toEqual(place)
    expect(await page.getByText('cart-00001').isVisible()).toBe(true)
    await robot.getByText('Not live').waitFor()
    const badge = robot.locator('.page-head .badge').first()
    expect(await badge.evaluate((element) => getComputedStyle(element).filter)).toBe('grayscale(1)')
    await scene.addServer({ BEACON_PORT: port })
    await page.getByText('Live', { exact: true }).waitFor({ timeout: 60_000 })
    await expect.poll(() => page.getByText('The server cannot be reached').count()).toBe(0)
  })
})
