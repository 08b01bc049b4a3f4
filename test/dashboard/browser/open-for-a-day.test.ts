import type { Browser, CDPSession, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { eventually } from '../../support/eventually.ts'
import type { ServerProcess } from '../../support/server-process.ts'
import { insertManyRobots } from './many-robots.ts'
import { becomeOwner, chromium, openBrowser, signIn, type Visitor, visit } from './visitor.ts'

const ROBOTS = 300
const VIEWS = ['Floor', 'Approvals', 'Keys', 'Places', 'Tokens', 'People', 'Audit', 'Fleet'] as const
/** Each change is told so often: what a second brings in a test is what some minutes bring in a hall. */
const TIMES = 40
const WARM_ROUNDS = 3
const ROUNDS = 6

interface Use {
  readonly heap: number
  readonly nodes: number
  readonly listeners: number
  readonly documents: number
}

describe.skipIf(chromium === undefined)('a page that is left open', { timeout: 180_000 }, () => {
  let scene: Scene
  let browser: Browser
  let server: ServerProcess
  let isOwned = false
  const visitors: Visitor[] = []

  beforeAll(async () => {
    scene = await startScene()
    server = scene.servers[0]!
    await insertManyRobots(scene.database.pool, { id: scene.fleet.id, site_id: scene.site.id }, ROBOTS)
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

  async function come(prepare?: (page: Page) => Promise<unknown>): Promise<Visitor> {
    const visitor = await visit(browser, server.url)
    visitors.push(visitor)
    visitor.page.setDefaultTimeout(30_000)
    await prepare?.(visitor.page)
    if (!isOwned) await becomeOwner(visitor, scene.adminToken)
    else {
      await visitor.page.goto('/')
      await signIn(visitor)
    }
    isOwned = true
    await visitor.page.getByText('cart-00001').waitFor()
    return visitor
  }

  /** Feeds that are open, as the server counts them. */
  async function readers(): Promise<number> {
    const answer = await fetch(`${server.url}/metrics`, {
      headers: { authorization: `Bearer ${scene.adminToken}` },
    })
    return Number(/^beacon_live_readers (\d+)/m.exec(await answer.text())?.[1])
  }

  let changes = 0
  /** Answers with the health that robots are of now. */
  async function change(): Promise<string> {
    const health = ['ok', 'warn', 'unknown'][++changes % 3]!
    await scene.database.pool.query(
      `UPDATE robot_status SET health = $1, last_seen_at = now(),
         heartbeat_received_at = now(), heartbeat = heartbeat || jsonb_build_object('pose',
           jsonb_build_object('frame', 'hall', 'x', random() * 100, 'y', random() * 100, 'theta', 0))
       WHERE robot_id IN (SELECT id FROM robots WHERE name < 'cart-00060')`,
      [health],
    )
    return health
  }

  async function restart(): Promise<void> {
    const { port } = new URL(server.url)
    await server.stop()
    server = await scene.addServer({ BEACON_PORT: port })
  }

  const setHidden = (page: Page, isHidden: boolean) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
      document.dispatchEvent(new Event('visibilitychange'))
    }, isHidden)

  async function useOf(debug: CDPSession): Promise<Use> {
    // What was freed can free more.
    for (let times = 0; times < 3; times++) await debug.send('HeapProfiler.collectGarbage')
    const { metrics } = await debug.send('Performance.getMetrics')
    const of = (name: string) => metrics.find((metric) => metric.name === name)!.value
    return {
      heap: of('JSHeapUsedSize'),
      nodes: of('Nodes'),
      listeners: of('JSEventListeners'),
      documents: of('Documents'),
    }
  }

  const goTo = async (page: Page, name: string) => {
    await page.getByRole('banner').getByRole('link', { name, exact: true }).click()
    await page.getByRole('heading', { level: 1 }).waitFor()
  }
  const isLive = (page: Page) => page.getByText('Live', { exact: true }).waitFor()

  test('takes no more memory, nodes, listeners and feeds after any number of changes and views', async () => {
    const { page, context } = await come((page) =>
      page.addInitScript((times) => {
        const real = globalThis.fetch
        globalThis.fetch = async (...asked) => {
          const answer = await real(...asked)
          if (!answer.headers.get('content-type')?.startsWith('text/event-stream')) return answer
          const repeated = new TransformStream<Uint8Array, Uint8Array>({
            transform(chunk, controller) {
              const text = new TextDecoder().decode(chunk)
              const isWhole = text.startsWith('event: delta') && text.endsWith('\n\n')
              for (let left = isWhole ? times : 1; left > 0; left--) controller.enqueue(chunk)
            },
          })
          return new Response(answer.body!.pipeThrough(repeated), answer)
        }
      }, TIMES),
    )
    const debug = await context.newCDPSession(page)
    await debug.send('Performance.enable')

    const round = async () => {
      for (const name of VIEWS) {
        await goTo(page, name)
        await change()
        if (['Floor', 'Fleet', 'Approvals', 'Places'].includes(name)) {
          await isLive(page)
          await setHidden(page, true)
          await setHidden(page, false)
          await isLive(page)
        }
      }
      const row = page.getByRole('row', { name: /cart-00001/ })
      await row.getByText(await change(), { exact: true }).waitFor()
      await page.getByRole('link', { name: 'cart-00001' }).click()
      await page.getByRole('heading', { name: 'cart-00001', level: 1 }).waitFor()
      await isLive(page)
      await goTo(page, 'Fleet')
    }
    const rounds = async (count: number) => {
      for (let done = 0; done < count; done++) await round()
      await goTo(page, 'Ada')
      await page.getByRole('heading', { name: 'Where you are signed in' }).waitFor()
      // No view that is left keeps its feed.
      await eventually(async () => (await readers()) === 0, 'the end of all feeds')
      return useOf(debug)
    }

    const before = await rounds(WARM_ROUNDS)
    await restart()
    await rounds(ROUNDS)
    const excess = (after: Use) => ({
      documents: after.documents > before.documents,
      nodes: after.nodes > before.nodes * 1.2 + 100,
      listeners: after.listeners > before.listeners * 1.2 + 20,
      heap: after.heap > before.heap + 1.5 * 1024 * 1024,
    })
    // What an answer is still waited for holds on to the view that asked; it lets go when that has come.
    await expect
      .poll(async () => excess(await useOf(debug)), { timeout: 30_000, interval: 1_000 })
      .toEqual({ documents: false, nodes: false, listeners: false, heap: false })
  })

  test('says within seconds when the server has fallen silent, as of when all is, and goes on with it', async () => {
    const visitor = await come()
    const { page } = visitor
    await isLive(page)
    const heard = page.getByRole('row', { name: /cart-00002/ }).locator('time')
    server.signal('SIGSTOP')
    try {
      const stoppedAt = Date.now()
      await page.getByText('Not live').waitFor()
      expect(Date.now() - stoppedAt).toBeLessThan(15_000)
      // As of when something was heard, and not as of when that was noticed.
      const asOf = await page.getByText(/^as of/).textContent()
      expect(Number(/(\d+) s ago/.exec(asOf!)![1])).toBeGreaterThanOrEqual(7)
      const age = await heard.textContent()
      await expect.poll(() => heard.textContent(), { timeout: 10_000 }).not.toBe(age)
      await page.getByText('The server cannot be reached').waitFor()
      await visitor.picture('fleet-not-live')
      await visitor.expectAccessible()
    } finally {
      server.signal('SIGCONT')
    }
    await isLive(page)
    await page.getByText('The server cannot be reached').waitFor({ state: 'detached' })
  })

  test('tells ages by the clock of the server, whatever the clock of the browser says', async () => {
    for (const hours of [5, -5]) {
      const { page } = await come((page) =>
        page.addInitScript((ahead) => {
          const real = Date.now
          Date.now = () => real() + ahead
        }, hours * 3_600_000),
      )
      await change()
      const row = page.getByRole('row', { name: /cart-00001/ })
      await row.getByText(/^\d+ s ago$/).waitFor()
    }
  })

  test('says that a session was ended elsewhere, and comes back to what was looked at', async () => {
    const { page } = await come()
    await page.goto('/?health=error')
    await isLive(page)
    const elsewhere = await come()
    // Of this person, but for the one that asks.
    await elsewhere.page.evaluate(async () => {
      const { items } = await (await fetch('/api/sessions')).json()
      for (const { id, current } of items)
        if (!current) await fetch(`/api/sessions/${id}`, { method: 'DELETE' })
    })
    await page.getByText(/session is over/).waitFor()
    await elsewhere.context.close()
    await eventually(async () => (await readers()) === 0, 'the end of the feed')
    await signIn({ page } as Visitor)
    await page.getByRole('heading', { name: 'Fleet' }).waitFor()
    expect(new URL(page.url()).search).toBe('?health=error')
  })
})
