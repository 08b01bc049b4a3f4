import { randomUUID } from 'node:crypto'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { enrol, type Machine, newMachine, Session } from '../../e2e/independent/robot.ts'
import { type Scene, startScene } from '../../e2e/scene.ts'
import {
  becomeOwner,
  chromium,
  EMAIL,
  openBrowser,
  PASSWORD,
  signIn,
  type Visitor,
  visit,
} from './visitor.ts'

const VIEWER = 'vera@example.com'
const MINUTE = 60_000

/** A robot that beats for as long as the test wants it to. */
class Beating {
  readonly id: string
  session!: Session
  says: Record<string, unknown> = {}
  readonly #token: string
  readonly #url: string
  readonly #machine: Machine
  #seq = Date.now()
  #timer: NodeJS.Timeout | undefined

  constructor(url: string, id: string, token: string, machine: Machine) {
    this.#url = url
    this.id = id
    this.#token = token
    this.#machine = machine
  }

  static async enrol(url: string, key: string, name: string): Promise<Beating> {
    const machine = newMachine()
    const { body } = await enrol(url, key, { name, machine, claim_id: randomUUID() })
    return new Beating(url, body.robot_id, body.robot_token!, machine)
  }

  async start(): Promise<void> {
    this.session = await Session.open(this.#url, this.#token)
    this.session.hello(this.#machine)
    await this.session.welcome()
    this.#timer = setInterval(() => this.beat(), 500)
    this.beat()
  }

  beat(at = new Date()): void {
    if (this.session.ended) this.rest()
    else this.session.heartbeat(this.#seq++, { ...this.says, at: at.toISOString() })
  }

  rest(): void {
    clearInterval(this.#timer)
  }

  /** Gone without a word. */
  vanish(): void {
    this.rest()
    this.session.socket.terminate()
  }
}

describe.skipIf(chromium === undefined)('the page of a robot', { timeout: 60_000 }, () => {
  let scene: Scene
  let browser: Browser
  let robot: Beating
  let others: Record<'new' | 'pending' | 'hidden', string>
  let isOwned = false
  const visitors: Visitor[] = []

  beforeAll(async () => {
    scene = await startScene()
    browser = await openBrowser()
    const { operator, site, fleet } = scene
    const { url } = scene.servers[0]!
    const key = await operator.key(site, fleet, { name: 'First batch', max_uses: 10 })
    robot = await Beating.enrol(url, key.key_value, 'cart-7')
    await operator.must('PATCH', `/api/robots/${robot.id}`, { labels: { zone: 'B', role: 'mover' } })
    const careful = await operator.key(site, fleet, { max_uses: 10, require_approval: true })
    const elsewhere = await operator.fleet(site.id, 'Lifts')
    const hidden = await operator.must<{ id: string }>('POST', '/api/robots', {
      fleet_id: elsewhere.id,
      name: 'lift-1',
    })
    others = {
      new: (await enrol(url, key.key_value, { name: 'cart-8' })).body.robot_id,
      pending: (await enrol(url, careful.key_value, { name: 'cart-9' })).body.robot_id,
      hidden: hidden.id,
    }
    robot.says = {
      health: 'ok',
      mode: 'auto',
      activity: 'Carrying <b>pallets</b>',
      estop: false,
      battery: { charge: 0.71, charging: false, voltage: 24.6 },
      pose: { frame: 'map', x: 12.5, y: 3.25, theta: Math.PI / 2 },
      system: { cpu: 0.25, memory: 0.4, disk: 0.3, temperature_c: 51.5, load_1m: 0.8, uptime_s: 90_000 },
      network: { interface: 'wlan0', signal_dbm: -58 },
      faults: [],
      metrics: { jobs_done: 12 },
    }
    await robot.start()
    // The last hour, with ten minutes in which nothing came.
    for (let at = Date.now() - 55 * MINUTE; at < Date.now(); at += MINUTE)
      if (Date.now() - at < 20 * MINUTE || Date.now() - at > 30 * MINUTE) robot.beat(new Date(at))
  }, 60_000)
  afterEach(async () => {
    for (const { context, mishaps } of visitors.splice(0)) {
      expect(mishaps).toEqual([])
      await context.close()
    }
  })
  afterAll(async () => {
    robot?.rest()
    await browser?.close()
    await scene?.end()
  })

  async function come(
    path: string,
    { email, ...options }: { email?: string; dark?: boolean; phone?: boolean } = {},
  ): Promise<Visitor> {
    const visitor = await visit(browser, scene.servers[0]!.url, options)
    visitors.push(visitor)
    if (!isOwned) await becomeOwner(visitor, scene.adminToken)
    await visitor.page.goto(path)
    if (isOwned) await signIn(visitor, email ?? EMAIL)
    isOwned = true
    return visitor
  }
  const own = () => `/robots/${robot.id}`
  const part = (page: Page, name: string) =>
    page.locator('.said').filter({ has: page.getByRole('heading', { name, exact: true }) })
  const panel = (page: Page, name: string) => page.getByRole('region', { name, exact: true })

  test('says what the robot says, as it says it', async () => {
    const visitor = await come(own())
    const { page } = visitor
    await page.getByRole('heading', { name: 'cart-7', level: 1 }).waitFor()
    await page.getByText('Live', { exact: true }).waitFor()
    await part(page, 'Battery').getByText('71 %').waitFor()
    // Told as text, whatever it is.
    await part(page, 'State').getByText('Carrying <b>pallets</b>').waitFor()
    await part(page, 'Own metrics').getByText('jobs_done').waitFor()
    await part(page, 'Network').getByText('-58').waitFor()
    await panel(page, 'Access').getByText('First batch').waitFor()
    await page.getByRole('link', { name: 'zone=B' }).waitFor()
    await panel(page, 'Timeline').getByText('Connected', { exact: true }).waitFor()
    await page.getByRole('img', { name: /^Battery: between 71 % and 71 %/ }).waitFor()
    await visitor.expectAccessible()
    await visitor.picture('robot')

    robot.says = {
      ...robot.says,
      battery: { charge: 0.35, charging: true },
      health: 'error',
      faults: [{ code: 'motor_hot', level: 'error', message: 'Motor 2', since: new Date().toISOString() }],
    }
    await part(page, 'Battery').getByText('35 %').waitFor()
    await part(page, 'Faults').getByText('motor_hot').waitFor()
    await panel(page, 'Timeline').getByText('Fault: motor_hot').waitFor()
    await page.getByRole('img', { name: /^Battery: between 35 % and 71 %/ }).waitFor()

    // What it leaves out stays, and is marked as old.
    const { battery: _, ...rest } = robot.says
    robot.says = rest
    await part(page, 'Battery')
      .getByText(/^old: \d+ s/)
      .waitFor()
    await part(page, 'Battery').getByText('35 %').waitFor()
    expect(await part(page, 'State').getByText(/^old/).count()).toBe(0)
  })

  test('shows any number over any time, and keeps the choice in the address', async () => {
    const visitor = await come(`${own()}?fields=system.cpu`)
    const { page } = visitor
    const history = panel(page, 'History')
    await history.getByRole('img', { name: /^CPU: between 25 % and 25 %/ }).waitFor()
    await history.getByRole('img', { name: /^Health: error .* ok .* of its heartbeats$/ }).waitFor()
    expect(await history.getByRole('img').count()).toBe(2)

    await history.getByText('Choose numbers').click()
    await history.getByRole('checkbox', { name: /^jobs_done/ }).check()
    await history.getByRole('img', { name: /^jobs_done: between 12 and 12/ }).waitFor()
    await visitor.expectAccessible()
    await page.keyboard.press('Escape')
    expect(await history.getByRole('checkbox').count()).toBe(0)
    await history.getByRole('button', { name: '6 hours' }).click()
    await page.waitForURL(/range=6h/)
    expect(new URL(page.url()).searchParams.get('fields')).toBe('system.cpu,metrics.jobs_done')
    const askedForKey = page.waitForRequest(/\/api\/enrollment-keys\//)
    await page.reload()
    await history.getByRole('img', { name: /^jobs_done/ }).waitFor()
    // Whoever looks at a robot has not read the key that let it in, and the audit log does not say so.
    expect(new URL((await askedForKey).url()).search).toBe('?reveal=false')
    expect(await history.getByRole('button', { name: '6 hours' }).getAttribute('aria-pressed')).toBe('true')

    // The last hour is at the right: closer to it, in finer steps.
    await history.getByText('one step is 1 min').waitFor()
    await history.locator('.u-over').first().scrollIntoViewIfNeeded()
    const box = (await history.locator('.u-over').first().boundingBox())!
    await page.mouse.move(box.x + box.width * 0.7, box.y + 40)
    await page.mouse.down()
    await page.mouse.move(box.x + box.width * 0.8, box.y + 40, { steps: 4 })
    await page.mouse.up()
    await page.waitForURL(/from=.*&to=/)
    const zoomed = new URL(page.url()).searchParams
    const length = Date.parse(zoomed.get('to')!) - Date.parse(zoomed.get('from')!)
    expect(Math.abs(length - 36 * MINUTE)).toBeLessThan(2 * MINUTE)
    await history.getByText('one step is 10 s').waitFor()

    await history.getByRole('button', { name: 'Back to now' }).click()
    await history.getByText('Values as a table').click()
    const rows = history.getByRole('rowheader')
    // A row for each minute in which it said something, and those of the test itself.
    await expect.poll(() => rows.count()).toBeGreaterThan(40)
    await visitor.expectAccessible()
    await visitor.picture('robot-values')
  })

  test('leaves nothing behind while ranges and numbers come and go', async () => {
    const { page, context } = await come(own())
    const devtools = await context.newCDPSession(page)
    await devtools.send('Performance.enable')
    const counts = async () => {
      await devtools.send('HeapProfiler.collectGarbage')
      const { metrics } = await devtools.send('Performance.getMetrics')
      const of = (wanted: string) => metrics.find(({ name }) => name === wanted)!.value
      return { listeners: of('JSEventListeners'), nodes: of('Nodes') }
    }
    const history = panel(page, 'History')
    const cycle = async () => {
      await history.getByRole('button', { name: '24 hours' }).click()
      await history.getByText('one step is 5 min').waitFor()
      await history.getByText('Choose numbers').click()
      const box = history.getByRole('checkbox', { name: /^Disk/ })
      await box.check()
      await history.getByRole('img', { name: /^Disk/ }).waitFor()
      await box.uncheck()
      await history.getByRole('img', { name: /^Disk/ }).waitFor({ state: 'detached' })
      await page.keyboard.press('Escape')
      await history.getByRole('button', { name: '1 hour' }).click()
      await history.getByText('one step is 10 s').waitFor()
    }
    await history.getByRole('img').first().waitFor()
    await cycle()
    const before = await counts()
    for (let round = 0; round < 8; round++) await cycle()
    const after = await counts()
    expect(after.listeners - before.listeners).toBeLessThan(16)
    expect(after.nodes - before.nodes).toBeLessThan(400)
  })

  test('says that it fell silent and why, and that it came back', async () => {
    const visitor = await come(own(), { phone: true, dark: true })
    const { page } = visitor
    await page.getByText('Live', { exact: true }).waitFor()
    robot.vanish()
    await page.getByText(/^Offline for .*: the connection broke without a goodbye/).waitFor()
    await part(page, 'State')
      .getByText(/^old: \d+ s/)
      .waitFor()
    await panel(page, 'Timeline').getByText('Connection lost').waitFor()
    await visitor.expectAccessible()
    await visitor.picture('robot-offline-on-a-phone')
    await robot.start()
    await page.getByText(/^Offline for \d/).waitFor({ state: 'detached' })
    await panel(page, 'Timeline').getByText('session 2').waitFor()

    const timeline = panel(page, 'Timeline')
    await timeline.getByLabel('Kind').selectOption('Faults')
    await timeline.getByText('Fault: motor_hot').waitFor()
    expect(await timeline.getByText('Connected').count()).toBe(0)
    await timeline.getByLabel('Level').selectOption('Errors alone')
    await page.waitForURL(/level=error/)
    await page.reload()
    await timeline.getByText('Fault: motor_hot').waitFor()
  })

  test('says of a robot that never came, of one that waits, and of none at all', async () => {
    const visitor = await come(`/robots/${others.new}`)
    const { page } = visitor
    await page.getByText('It never connected.').waitFor()
    await panel(page, 'Timeline').getByText('Enrolled', { exact: true }).waitFor()
    await visitor.expectAccessible()

    await page.goto(`/robots/${others.pending}`)
    await page.getByText(/^Has waited for approval for/).waitFor()
    await visitor.picture('robot-pending')
    await page.getByRole('button', { name: 'Approve' }).click()
    await page.getByRole('dialog').getByText('From now on heartbeats count').waitFor()
    await page.getByRole('dialog').getByRole('button', { name: 'Approve' }).click()
    await page.getByText(/^Has waited for approval for/).waitFor({ state: 'detached' })
    await panel(page, 'Timeline').getByText('Approved', { exact: true }).waitFor()

    for (const id of [randomUUID(), 'nonsense']) {
      await page.goto(`/robots/${id}`)
      await page.getByText('There is no such robot').waitFor()
    }
    await visitor.expectAccessible()
  })

  test('offers nothing to those who may only look, and shows them nothing out of their reach', async () => {
    const { operator, fleet } = scene
    const { invitation_token: token } = await operator.must<{ invitation_token: string }>(
      'POST',
      '/api/users',
      { name: 'Vera', email: VIEWER, roles: [{ role: 'viewer', fleet_id: fleet.id }] },
    )
    await operator.must('POST', '/api/invitations/accept', { token, password: PASSWORD })
    const visitor = await come(own(), { email: VIEWER })
    const { page } = visitor
    await part(page, 'State').waitFor()
    await panel(page, 'Access').getByText('valid').waitFor()
    for (const name of ['Rename', 'Change labels', 'Retire', 'Revoke token', 'New setup token'])
      expect(await page.getByRole('button', { name }).count()).toBe(0)
    await page.goto(`/robots/${others.hidden}`)
    await page.getByText(/There is no such robot|You may not see this robot/).waitFor()
    expect(await page.getByText('lift-1').count()).toBe(0)
  })

  test('lets whoever may change it, says what will happen, and takes it out of service for good', async () => {
    const visitor = await come(own())
    const { page } = visitor
    const dialog = page.getByRole('dialog')
    const yes = async (name: string) => {
      await dialog.getByRole('button', { name, exact: true }).click()
      await dialog.waitFor({ state: 'detached' })
    }
    await page.getByRole('button', { name: 'Rename' }).click()
    await dialog.getByLabel('Name').fill('cart-8')
    await dialog.getByRole('button', { name: 'Rename' }).click()
    await dialog.getByText('another robot of the fleet has this name').first().waitFor()
    await dialog.getByLabel('Name').fill('cart-seven')
    await yes('Rename')
    await page.getByRole('heading', { name: 'cart-seven', level: 1 }).waitFor()
    await panel(page, 'Timeline').getByText('cart-7 → cart-seven').waitFor()

    await page.getByRole('button', { name: 'Change labels' }).click()
    await dialog.getByLabel('Value of label 1').fill('C')
    await dialog.getByRole('button', { name: 'Add a label' }).click()
    await dialog.getByLabel('Name of label 3').fill('spare')
    await visitor.expectAccessible()
    const { labels } = await scene.operator.must<{ labels: object }>('GET', `/api/robots/${robot.id}`)
    const meanwhile = { ...labels, checked: 'by another' }
    await scene.operator.must('PATCH', `/api/robots/${robot.id}`, { labels: meanwhile })
    await yes('Save labels')
    await page.getByRole('link', { name: 'spare' }).waitFor()
    await page.getByRole('link', { name: 'checked=by another' }).waitFor()

    await page.getByRole('button', { name: 'Move to another fleet' }).click()
    await dialog.getByLabel('To the fleet').selectOption('Plant · Lifts')
    await yes('Move')
    await panel(page, 'About').getByRole('link', { name: 'Lifts' }).waitFor()

    await page.getByRole('button', { name: 'Put in maintenance' }).click()
    await yes('Put in maintenance')
    await page.getByRole('button', { name: 'Back to work' }).click()
    await yes('Back to work')

    await page.getByRole('button', { name: 'Rotate token' }).click()
    await dialog.getByText('The old token is good until then').waitFor()
    await yes('Rotate token')
    await robot.session.frame(({ type }) => type === 'rotate_token')

    await page.getByRole('button', { name: 'New setup token' }).click()
    await dialog.getByText('whichever machine uses it first becomes this robot').waitFor()
    await dialog.getByRole('button', { name: 'Make setup token' }).click()
    await dialog.getByText(/^curl -fsSL .*--setup-token rf_setup_/).waitFor()
    await visitor.picture('robot-setup-token')
    await yes('Done')

    await page.getByRole('button', { name: 'Revoke token' }).click()
    await dialog.getByText('The token stops working at once').waitFor()
    await visitor.picture('robot-revoke')
    await yes('Revoke token')
    expect((await robot.session.closed).code).toBe(4501)
    await panel(page, 'Access').getByText('revoked').waitFor()
    await panel(page, 'Timeline').getByText('its token was revoked').first().waitFor()

    await page.getByRole('button', { name: 'Retire' }).click()
    await dialog.getByText('this cannot be undone').waitFor()
    await yes('Retire')
    await page.getByText(/^Out of service for \d+ s/).waitFor()
    expect(await page.getByRole('button', { name: 'Rename' }).count()).toBe(0)
    await page.getByRole('button', { name: 'Delete record' }).click()
    await yes('Delete record')
    await page.getByRole('heading', { name: 'Fleet', level: 1 }).waitFor()
    expect((await scene.operator.call('GET', `/api/robots/${robot.id}`)).status).toBe(404)
  })
})
