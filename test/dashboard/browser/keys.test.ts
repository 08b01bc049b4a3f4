import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { AgentProcess } from '../../agent/support/agent-process.ts'
import type { Fleet, Site } from '../../e2e/independent/operator.ts'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { eventually } from '../../support/eventually.ts'
import { becomeOwner, chromium, openBrowser, signIn, type Visitor, visit } from './visitor.ts'

const PASSWORD = 'rain over the long bridge'

describe.skipIf(chromium === undefined)('keys, approvals and places', () => {
  let scene: Scene
  let browser: Browser
  let owner: Visitor
  let folder: string
  let other: { site: Site; fleet: Fleet }
  const agents: AgentProcess[] = []
  const visitors: Visitor[] = []

  const come = async (options?: Parameters<typeof visit>[2]) => {
    const visitor = await visit(browser, scene.servers[0]!.url, options)
    visitors.push(visitor)
    return visitor
  }

  /** Claims as a machine does that has nothing but an HTTP client. */
  const enrol = async (secret: string, name: string, more: Record<string, string> = {}) => {
    const response = await fetch(`${scene.servers[0]!.url}/agent/enroll`, {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
      body: JSON.stringify({ name, fingerprint: { hostname: name, machine_id: name, ...more } }),
    })
    return {
      status: response.status,
      body: (await response.json()) as { code?: string; robot_id: string; robot_token: string },
    }
  }

  /** Somebody with roles, signed in before a browser of their own. */
  const comeAs = async (name: string, roles: readonly object[]) => {
    const email = `${name}@example.com`
    const { invitation_token } = await scene.operator.must<{ invitation_token: string }>(
      'POST',
      '/api/users',
      {
        name,
        email,
        roles,
      },
    )
    const accepted = await fetch(`${scene.servers[0]!.url}/api/invitations/accept`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token: invitation_token, password: PASSWORD }),
    })
    expect(accepted.status).toBe(200)
    const visitor = await come()
    await visitor.page.goto('/')
    await signIn(visitor, email, PASSWORD)
    await visitor.page.getByRole('heading', { name: 'Fleet' }).waitFor()
    return visitor
  }

  beforeAll(async () => {
    scene = await startScene()
    const site = await scene.operator.site('Harbour')
    other = { site, fleet: await scene.operator.fleet(site.id, 'Cranes') }
    browser = await openBrowser()
    folder = await mkdtemp(join(tmpdir(), 'beacon-keys-'))
    owner = await visit(browser, scene.servers[0]!.url)
    await becomeOwner(owner, scene.adminToken)
  })
  afterEach(async () => {
    expect(owner.mishaps).toEqual([])
    for (const { context, mishaps } of visitors.splice(0)) {
      expect(mishaps).toEqual([])
      await context.close()
    }
  })
  afterAll(async () => {
    await Promise.all(agents.map((agent) => agent.stop()))
    await owner?.context.close()
    await browser?.close()
    await scene?.end()
    await rm(folder, { recursive: true, force: true })
  })

  test('a key is made, copied, used, read, and revoked with its robots', async () => {
    const { page } = owner
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Keys' }).click()
    await page.getByRole('heading', { name: 'No enrollment keys yet' }).waitFor()
    await owner.expectAccessible()
    await page.getByRole('link', { name: 'New key' }).first().click()

    await page.getByLabel('Fleet', { exact: true }).selectOption({ label: 'Plant · Carts' })
    await page.getByLabel('Name of the key').fill('Dock 4')
    await page.getByLabel('Robots').fill('7')
    await page.getByText('More', { exact: true }).click()
    await page.getByLabel('Labels').fill('role=cart\ndock = 4\nspare')
    await page.getByLabel('From these addresses').fill('127.0.0.1, 10.0.0.0/33')
    await page.getByRole('button', { name: 'Make the key' }).click()
    // What is wrong is said beside the field.
    const addresses = page.getByLabel('From these addresses')
    await eventually(async () => (await addresses.getAttribute('aria-invalid')) === 'true', 'the refusal')
    await owner.expectAccessible()
    await owner.picture('key-new')
    await addresses.fill('127.0.0.1, ::1')
    await page.getByRole('button', { name: 'Make the key' }).click()

    await page.getByRole('heading', { name: 'Dock 4' }).waitFor()
    const made = page.getByRole('region', { name: 'What was just made' })
    expect(await made.evaluate((panel) => panel === panel.ownerDocument.activeElement)).toBe(true)
    const [command, secret] = await made.locator('pre').allTextContents()
    expect(secret).toMatch(/^rf_enroll_[0-9a-f]{64}$/)
    expect(command).toBe(
      `curl -fsSL ${scene.servers[0]!.url}/install.sh | sh -s -- --enrollment-key ${secret}`,
    )
    await made.getByRole('button', { name: 'Copy' }).first().click()
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(command)
    await page.getByText('Waiting for the first robot').waitFor()
    await owner.expectAccessible()
    await owner.picture('key-made')

    agents.push(
      new AgentProcess(
        [
          'run',
          '--server',
          scene.servers[0]!.url,
          '--config',
          join(folder, 'agent.toml'),
          '--name',
          'cart-01',
        ],
        { BEACON_ENROLLMENT_KEY: secret! },
      ),
    )
    const robots = page.getByRole('table', { name: 'Robots that came with it' })
    await robots
      .getByRole('row', { name: /cart-01/ })
      .getByText('online')
      .waitFor()
    await page.getByText('1 of 7').waitFor()
    await page.getByText('role=cart').waitFor()
    await page.getByText('dock=4').waitFor()
    await page.getByText('127.0.0.1/32, ::1/128').waitFor()

    // From here on everything that the server would count as reading a key.
    const reads: string[] = []
    page.on('request', (request) => {
      const { pathname, searchParams } = new URL(request.url())
      const isKey = /^\/api\/enrollment-keys(\/[^/]+)?$/.test(pathname) && request.method() === 'GET'
      if (isKey && searchParams.get('reveal') !== 'false') reads.push(pathname)
    })
    await page.getByRole('button', { name: 'I have it: hide it' }).click()
    expect(await page.content()).not.toContain(secret)
    await page.getByRole('link', { name: 'All enrollment keys' }).click()
    await page.getByRole('row', { name: /Dock 4/ }).waitFor()
    expect(await page.content()).not.toContain(secret)
    await owner.expectAccessible()
    await owner.picture('keys')
    await page.reload()
    await page.getByRole('link', { name: 'Dock 4' }).click()
    await page.getByRole('link', { name: 'cart-01' }).waitFor()
    expect(reads).toEqual([])
    await page.getByRole('button', { name: 'Show key and command' }).click()
    await page.locator('pre', { hasText: secret! }).first().waitFor()
    expect(reads).toEqual([expect.stringMatching(/^\/api\/enrollment-keys\/[0-9a-f-]{36}$/)])
    await page.getByRole('button', { name: 'Hide', exact: true }).click()
    expect(await page.content()).not.toContain(secret)

    const second = await enrol(secret!, 'cart-02')
    expect(second.status).toBe(201)
    await robots.getByRole('row', { name: /cart-02/ }).waitFor()

    await page.getByRole('button', { name: 'Revoke' }).click()
    const dialog = page.getByRole('dialog', { name: 'Revoke “Dock 4”?' })
    await dialog.getByText('Robots that came with it: 2 robots').waitFor()
    await dialog.getByRole('radio', { name: /They are revoked, too/ }).check()
    await owner.expectAccessible()
    await owner.picture('key-revoke')
    await dialog.getByRole('button', { name: 'Revoke the key and 2 robots' }).click()
    await page.getByText('“Dock 4” is revoked. 2 robots revoked.').waitFor()
    await dialog.waitFor({ state: 'detached' })
    await page.getByText('Somebody revoked it.').first().waitFor()
    await robots.getByText('revoked').nth(1).waitFor()
    expect(await robots.getByText('valid').count()).toBe(0)
    expect(await page.getByRole('button', { name: /Revoke|Show key/ }).count()).toBe(0)
    expect(await enrol(secret!, 'cart-03')).toMatchObject({ status: 403, body: { code: 'key_revoked' } })
    expect(await agents[0]!.exited).toBe(3)
    await owner.picture('key-revoked')
  })

  test('a provisioning token is shown this once', async () => {
    const { page } = owner
    await page.goto('/keys?kind=provisioning')
    await page.getByRole('link', { name: 'New token' }).first().click()
    await page.getByLabel('Fleet', { exact: true }).selectOption({ label: 'Harbour · Cranes' })
    await page.getByLabel('Name of the token').fill('Golden image')
    await page.getByLabel('Good for').selectOption('Until it is revoked')
    await page.getByLabel('For one robot').check()
    await page.getByRole('button', { name: 'Make the token' }).click()
    await page.getByText('Copy it now: it is shown this once').waitFor()
    const secret = await page.locator('.secret pre').nth(1).textContent()
    expect(secret).toMatch(/^apt_[0-9a-f]{64}$/)
    await owner.picture('provisioning-token-made')
    await page.reload()
    await page.getByText('0 of 1').waitFor()
    expect(await page.content()).not.toContain(secret)
    expect(await page.getByRole('button', { name: 'Show key and command' }).count()).toBe(0)

    expect((await enrol(secret!, 'crane-01')).status).toBe(201)
    await page.getByRole('link', { name: 'crane-01' }).waitFor()
    // It was for one robot.
    await page.getByText('It was for one robot, and that came.').waitFor()
  })

  test('the list keeps its filter and its order in the address', async () => {
    await scene.operator.key(scene.site, scene.fleet, { name: 'Standing', expires_in_hours: null })
    const { page } = owner
    await page.goto('/keys')
    await page.getByRole('row', { name: /Standing/ }).waitFor()
    await page.getByLabel('Status').selectOption('revoked')
    await page.getByRole('row', { name: /Standing/ }).waitFor({ state: 'detached' })
    await page.getByRole('row', { name: /Dock 4/ }).waitFor()
    await page.getByRole('button', { name: 'Name' }).click()
    await page.reload()
    await page.getByRole('row', { name: /Dock 4/ }).waitFor()
    const { searchParams } = new URL(page.url())
    expect(Object.fromEntries(searchParams)).toEqual({ status: 'revoked', sort: '-name' })
    expect(await page.getByRole('columnheader', { name: 'Name' }).getAttribute('aria-sort')).toBe(
      'descending',
    )
    await page.getByLabel('Fleet').selectOption({ label: 'Cranes' })
    await page.getByRole('heading', { name: 'No enrollment key passes this filter' }).waitFor()
    await page.getByRole('button', { name: 'Show all' }).first().click()
    await page.getByRole('row', { name: /Standing/ }).waitFor()
  })

  test('robots that wait come by themselves, and are let in or sent away', async () => {
    const key = await scene.operator.key(scene.site, scene.fleet, {
      name: 'Contractor',
      require_approval: true,
      labels: { crew: 'night' },
    })
    const { page } = owner
    await page.getByRole('link', { name: 'Approvals' }).click()
    await page.getByRole('heading', { name: 'No robot waits' }).waitFor()
    await page.getByText('Live', { exact: true }).waitFor()

    const evil = '<img src=x onerror=alert(1)>'
    await enrol(key.key_value, 'guest-1', { os: 'Debian 13', arch: 'arm64', mac: '02:42:ac:11:00:02' })
    await enrol(key.key_value, 'guest-2', { os: evil })
    await enrol(key.key_value, 'guest-3')
    const cards = page.getByRole('listitem').filter({ has: page.getByRole('button', { name: /^Approve / }) })
    const card = (name: string) => page.getByRole('listitem').filter({ hasText: name })
    await card('guest-3').waitFor()
    expect(await cards.count()).toBe(3)
    for (const said of ['Debian 13, arm64', '127.0.0.1', 'Contractor', 'crew=night', 'in 2 d 23 h'])
      await card('guest-1').getByText(said, { exact: true }).waitFor()
    await card('guest-2').getByText(evil).waitFor()
    await owner.expectAccessible()
    await owner.picture('approvals')

    await card('guest-1').getByRole('button', { name: 'Approve guest-1' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByText('It takes part from now on').waitFor()
    await owner.expectAccessible()
    await dialog.getByRole('button', { name: 'Approve it' }).click()
    await page.getByText('1 robot approved.').waitFor()
    await card('guest-1').getByRole('button', { name: 'Approve guest-1' }).waitFor({ state: 'detached' })
    await expect.poll(() => page.evaluate(() => document.activeElement !== document.body)).toBe(true)

    // Nothing moves under the pointer: who waits no longer is said so, and goes when the pointer does.
    await card('guest-2').hover()
    const [, third] = await scene.operator
      .must<{ items: { id: string }[] }>('GET', '/api/approvals')
      .then(({ items }) => items)
    await scene.operator.must('POST', '/api/approvals/approve', { ids: [third!.id] })
    await card('guest-3').getByText('waits no longer').waitFor()
    await enrol(key.key_value, 'guest-4')
    await card('guest-4').waitFor()
    expect(await card('guest-3').count()).toBe(1)
    await page.mouse.move(5, 5)
    await card('guest-3').waitFor({ state: 'detached' })

    await page.getByLabel('Name or id').fill('guest')
    await page.getByRole('button', { name: 'Deny all that pass the filter' }).click()
    await dialog.getByText('2 robots are new').waitFor()
    await owner.picture('approvals-deny')
    // Whoever comes now was not shown to anybody, and is not decided about.
    await enrol(key.key_value, 'guest-5')
    await dialog.getByRole('button', { name: 'Deny 2 robots' }).click()
    await page.getByText('2 robots denied.').waitFor()
    await card('guest-4').waitFor({ state: 'detached' })
    await card('guest-5').waitFor()
    expect(new URL(page.url()).search).toBe('?q=guest')

    await page.getByLabel('Waits').selectOption('for over an hour')
    await page.getByRole('heading', { name: 'No robot that waits passes this filter' }).waitFor()
    await page.goto(`/approvals?credential=${scene.fleet.id}`)
    await page.getByRole('heading', { name: 'No robot that waits passes this filter' }).waitFor()
    await page.getByRole('button', { name: 'Show those of any key' }).click()
    await card('guest-5').getByRole('link', { name: 'Contractor' }).click()
    await page.getByRole('heading', { name: 'Contractor' }).waitFor()
    await page.getByRole('row', { name: /guest-1/ }).waitFor()
    expect((await scene.operator.keyById(key.id)).uses).toBe(3)
  })

  test('sites and fleets are made, changed, counted, and go when they are empty', async () => {
    const { page } = owner
    await page.getByRole('link', { name: 'Places' }).click()
    const plant = page.getByRole('region', { name: 'Plant' })
    // Three of the contractor's, of which one waits, and the two whose tokens were revoked.
    await plant.getByRole('row', { name: /Carts/ }).getByText('5 robots').waitFor()
    await owner.expectAccessible()
    await owner.picture('places')

    const dialog = page.getByRole('dialog')
    await page.getByRole('button', { name: 'New site' }).click()
    await dialog.getByLabel('Name').fill('Plant')
    await dialog.getByRole('button', { name: 'Make the site' }).click()
    await dialog.getByText('another site has this name').waitFor()
    await dialog.getByLabel('Name').fill('Annex')
    await dialog.getByRole('button', { name: 'Make the site' }).click()
    const annex = page.getByRole('region', { name: 'Annex' })
    await annex.getByText('No fleets yet.').waitFor()

    await page.getByRole('button', { name: 'New fleet in Annex' }).click()
    await dialog.getByLabel('Name').fill('Sweepers')
    await dialog.getByLabel('Seconds between heartbeats').fill('2.5')
    await owner.expectAccessible()
    await dialog.getByRole('button', { name: 'Make the fleet' }).click()
    await annex
      .getByRole('row', { name: /Sweepers/ })
      .getByText('every 2.5 s')
      .waitFor()
    await page.getByRole('button', { name: 'Change Sweepers' }).click()
    await dialog.getByLabel('Name').fill('Scrubbers')
    await dialog.getByLabel('Seconds between heartbeats').fill('')
    await dialog.getByRole('button', { name: 'Save' }).click()
    await annex
      .getByRole('row', { name: /Scrubbers/ })
      .getByText('every 0.5 s, as usual')
      .waitFor()

    await page.getByRole('button', { name: 'Delete Annex' }).click()
    await dialog.getByRole('button', { name: 'Delete the site' }).click()
    await dialog.getByText('fleets are in this site').waitFor()
    await dialog.getByRole('button', { name: 'Cancel' }).click()
    await page.getByRole('button', { name: 'Delete Carts' }).click()
    await dialog.getByRole('button', { name: 'Delete the fleet' }).click()
    await dialog.getByText('robots are in this fleet').waitFor()
    await dialog.getByRole('button', { name: 'Cancel' }).click()
    for (const [name, what] of [
      ['Scrubbers', 'fleet'],
      ['Annex', 'site'],
    ]) {
      await page.getByRole('button', { name: `Delete ${name}` }).click()
      await dialog.getByRole('button', { name: `Delete the ${what}` }).click()
      await page.getByText(`“${name}” is gone.`).waitFor()
    }
    await annex.waitFor({ state: 'detached' })

    const { robot_id } = (
      await enrol((await scene.operator.key(other.site, other.fleet)).key_value, 'crane-02')
    ).body
    await page
      .getByRole('row', { name: /Cranes/ })
      .getByText('2 robots')
      .waitFor()
    await scene.operator.must('POST', `/api/robots/${robot_id}/retire`)
    await page
      .getByRole('row', { name: /Cranes/ })
      .getByText('1 retired')
      .waitFor()
    await page.getByRole('link', { name: '1 robot of Cranes' }).click()
    await page.getByRole('row', { name: /crane-01/ }).waitFor()
    expect(new URL(page.url()).search).toBe(`?fleet=${other.fleet.id}`)
  })

  test('everybody is shown what they may do, and no more', async () => {
    const waiting = await scene.operator.key(other.site, other.fleet, {
      name: 'Night shift',
      require_approval: true,
    })
    await enrol(waiting.key_value, 'crane-night')
    const buttons = /New|Revoke|Show key|Approve|Deny|Change|Rename|Delete|Choose/
    const offers = async ({ page }: Visitor, path: string, ready: string | RegExp) => {
      await page.goto(path)
      await page.getByText(ready).first().waitFor()
      const named = page.locator('#content').getByRole('button', { name: buttons })
      const links = page.locator('#content').getByRole('link', { name: /^New / })
      return [...(await named.allTextContents()), ...(await links.allTextContents())].sort()
    }

    const viewer = await comeAs('vera', [{ role: 'viewer' }])
    expect(await offers(viewer, '/keys', 'Night shift')).toEqual([])
    expect(await offers(viewer, `/keys?id=${waiting.id}`, 'crane-night')).toEqual([])
    expect(await offers(viewer, '/approvals', 'crane-night')).toEqual([])
    expect(await offers(viewer, '/places', 'Cranes')).toEqual([])
    await viewer.expectAccessible()

    const operator = await comeAs('otto', [{ role: 'operator', fleet_id: other.fleet.id }])
    expect(await offers(operator, '/keys', 'Night shift')).toEqual(['New key', 'Revoke', 'Revoke'])
    expect(await operator.page.getByText('Standing').count()).toBe(0)
    expect(await offers(operator, `/keys?id=${waiting.id}`, 'crane-night')).toEqual([
      'Revoke',
      'Show key and command',
    ])
    await operator.page.goto('/keys?new=true')
    const fleets = operator.page.getByLabel('Fleet', { exact: true }).getByRole('option')
    await operator.page.getByLabel('Name of the key').waitFor()
    expect(await fleets.allTextContents()).toEqual(['Harbour · Cranes'])
    expect(await offers(operator, '/places', 'Cranes')).toEqual(['Change'])
    await operator.page.getByRole('button', { name: 'Change Cranes' }).click()
    await operator.page.getByLabel('Seconds between heartbeats').fill('3')
    expect(await operator.page.getByRole('dialog').getByLabel('Name').count()).toBe(0)
    await operator.page.getByRole('button', { name: 'Save' }).click()
    await operator.page.getByText('every 3 s').waitFor()
    expect(await operator.page.getByText('Carts').count()).toBe(0)
    expect(await offers(operator, '/approvals', 'crane-night')).toEqual([
      'Approve',
      'Approve all',
      'Deny',
      'Deny all',
    ])
    expect(await operator.page.getByText('guest-5').count()).toBe(0)
    await operator.page.getByRole('button', { name: 'Approve all' }).click()
    await operator.page.getByRole('button', { name: 'Approve it' }).click()
    await operator.page.getByRole('heading', { name: 'No robot waits' }).waitFor()

    const admin = await comeAs('ada-min', [{ role: 'admin', site_id: scene.site.id }])
    expect(await offers(admin, '/places', 'Carts')).toEqual(['Change', 'Delete', 'New fleet'])
    expect(await admin.page.getByText('Cranes').count()).toBe(0)
  })

  test('says what is wrong, and keeps what it knows while nothing can be reached', async () => {
    const visitor = await come({ phone: true, dark: true })
    const { page, context } = visitor
    await page.goto('/keys')
    await signIn(visitor)
    await page.getByRole('link', { name: 'Standing' }).waitFor()
    await visitor.expectAccessible()
    await visitor.picture('keys-on-a-phone')
    const fits = () => page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    expect(await fits()).toBe(true)

    await context.setOffline(true)
    await page.getByRole('link', { name: 'Standing' }).click()
    await page.getByText('The server cannot be reached').first().waitFor()
    await context.setOffline(false)
    await page.getByRole('button', { name: 'Try again' }).first().click()
    await page.getByRole('heading', { name: 'Standing' }).waitFor()
    await page.getByText('The server cannot be reached').waitFor({ state: 'detached' })
    expect(await fits()).toBe(true)

    await page.goto('/approvals')
    await page.getByRole('link', { name: 'guest-5' }).waitFor()
    await page.getByText('Live', { exact: true }).waitFor()
    expect(await fits()).toBe(true)
    await visitor.expectAccessible()
    await visitor.picture('approvals-on-a-phone')
    await context.setOffline(true)
    await page.getByRole('button', { name: 'Approve guest-5' }).click()
    await page.getByRole('dialog').getByText('The server cannot be reached').waitFor()
    expect(await page.getByRole('dialog').getByRole('button', { name: 'Approve' }).isDisabled()).toBe(true)
    await page.keyboard.press('Escape')
    await page.getByRole('link', { name: 'guest-5' }).waitFor()
    await context.setOffline(false)

    await page.route('**/api/fleets?*', (route) =>
      route.fulfill({
        status: 500,
        contentType: 'application/problem+json',
        body: JSON.stringify({ code: 'internal', detail: 'Something broke here', request_id: 'r-1' }),
      }),
    )
    await page.goto('/places')
    await page.getByText('Something broke here').waitFor()
    await page.unroute('**/api/fleets?*')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByText('Carts').first().waitFor()
    expect(await fits()).toBe(true)
    await visitor.expectAccessible()
    await visitor.picture('places-on-a-phone')
  })
})
