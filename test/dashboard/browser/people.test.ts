import { type AddressInfo, createServer } from 'node:net'
import { Secret, TOTP } from 'otpauth'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { startProvider } from '../../support/identity-provider.ts'
import { becomeOwner, chromium, openBrowser, signIn, type Visitor, visit } from './visitor.ts'

const HARUKI = { email: 'haruki@example.com', password: 'rain over the long bridge' }

describe.skipIf(chromium === undefined)('people and their tokens', { timeout: 120_000 }, () => {
  let scene: Scene
  let browser: Browser
  let owner: Visitor
  const visitors: Visitor[] = []
  const come = async (options?: Parameters<typeof visit>[2]) => {
    const visitor = await visit(browser, scene.servers[0]!.url, options)
    visitors.push(visitor)
    return visitor
  }
  const url = () => scene.servers[0]!.url

  beforeAll(async () => {
    scene = await startScene()
    const harbour = await scene.operator.site('Harbour')
    await scene.operator.fleet(harbour.id, 'Cranes')
    browser = await openBrowser()
    owner = await visit(browser, url())
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
    await owner?.context.close()
    await browser?.close()
    await scene?.end()
  })

  test('an operator of one fleet comes in by invitation, sees that fleet alone, and is removed', async () => {
    const { page } = owner
    await page.getByRole('link', { name: 'People' }).click()
    const people = page.getByRole('table', { name: 'People' })
    await people
      .getByRole('row', { name: /Ada \(you\)/ })
      .getByText('owner of the whole deployment')
      .waitFor()

    await page.getByRole('button', { name: 'Invite somebody' }).click()
    await page.getByLabel('Name', { exact: true }).fill('Haruki')
    await page.getByLabel('Email').fill(HARUKI.email)
    await page.getByLabel('Role 1', { exact: true }).selectOption('operator')
    await page.getByLabel('Place of role 1').selectOption({ label: 'Carts, Plant' })
    await owner.expectAccessible()
    await owner.picture('people-invite')
    await page.getByRole('button', { name: 'Invite', exact: true }).click()
    const link = (await page.locator('.secret pre').textContent())!
    expect(link).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/accept-invitation#rf_invite_[0-9a-f]{64}$/)
    await page.getByRole('button', { name: 'Copy' }).click()
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(link)
    // The link is there this once: Escape does not take it away.
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Done' }).click()
    const row = people.getByRole('row', { name: /Haruki/ })
    await row.getByText('operator of Carts, Plant').waitFor()
    await row.getByText('invited', { exact: true }).waitFor()
    expect(await page.content()).not.toContain('rf_invite_')

    const guest = await come()
    await guest.page.goto(link)
    await guest.page.getByLabel('Password').fill(HARUKI.password)
    await guest.expectAccessible()
    await guest.page.getByRole('button', { name: 'Accept', exact: true }).click()
    await guest.page.getByRole('heading', { name: 'Fleet' }).waitFor()
    const pages = guest.page.getByRole('navigation', { name: 'Pages' })
    await pages.getByRole('link', { name: 'Tokens' }).waitFor()
    expect(await pages.getByRole('link', { name: 'People' }).count()).toBe(0)
    expect(await pages.getByRole('link', { name: 'Audit' }).count()).toBe(0)
    const fleets = guest.page.getByLabel('Fleet', { exact: true }).locator('option')
    await expect.poll(() => fleets.allTextContents()).toEqual(['Fleet: any', 'Carts'])
    await guest.page.goto('/people')
    await guest.page.getByRole('heading', { name: 'This is not yours to see' }).waitFor()
    await guest.page.goto('/tokens?of=others')
    await guest.page.getByRole('heading', { name: 'No token yet' }).waitFor()
    expect(
      await guest.page.getByRole('navigation', { name: 'Whose tokens' }).getByRole('link').allTextContents(),
    ).toEqual(['Mine'])
    await guest.page.goto('/account')
    await guest.page.getByText('operator of Carts, Plant').waitFor()

    // More rights show by themselves, and so does their end.
    await row.getByRole('button', { name: 'Manage Haruki' }).click()
    await owner.expectAccessible()
    await owner.picture('people-person')
    await page.getByRole('button', { name: 'Change roles' }).click()
    await page.getByLabel('Role 1', { exact: true }).selectOption('admin')
    await page.getByRole('button', { name: 'Change the roles' }).click()
    await row.getByText('admin of Carts, Plant').waitFor()
    await pages.getByRole('link', { name: 'People' }).click()
    await guest.page.getByRole('row', { name: /Haruki \(you\)/ }).waitFor()
    expect(await guest.page.getByRole('row').count()).toBe(2)
    expect(await guest.page.getByRole('heading', { name: 'What holds for everybody' }).count()).toBe(0)
    await guest.page.getByRole('button', { name: 'Invite somebody' }).click()
    expect(await guest.page.getByLabel('Place of role 1').locator('option').allTextContents()).toEqual([
      'Carts, Plant',
    ])
    expect(
      await guest.page.getByLabel('Role 1', { exact: true }).locator('option').allTextContents(),
    ).toEqual(['admin', 'operator', 'viewer'])
    await guest.page.keyboard.press('Escape')
    await pages.getByRole('link', { name: 'Audit' }).click()
    await guest.page
      .getByRole('table', { name: 'Audit log, newest first' })
      .getByText('Carts, Plant')
      .first()
      .waitFor()
    expect(await guest.page.getByText('Harbour', { exact: true }).count()).toBe(0)
    expect(await guest.page.getByRole('button', { name: 'Verify' }).count()).toBe(0)

    await row.getByRole('button', { name: 'Manage Haruki' }).click()
    await page.getByRole('button', { name: 'Remove' }).click()
    await page.getByRole('dialog', { name: 'Remove Haruki' }).getByRole('button', { name: 'Remove' }).click()
    await row.waitFor({ state: 'detached' })
    await guest.page.getByText('Your session is over').waitFor()
    await guest.page.getByRole('heading', { name: 'Sign in' }).waitFor()
    expect(await guest.page.evaluate('document.activeElement.name')).toBe('email')
    await guest.expectAccessible()
    await guest.picture('people-removed')
    await signIn(guest, HARUKI.email, HARUKI.password)
    await guest.page
      .getByRole('alert')
      .getByText(/not right|not accepted/)
      .waitFor()
    await owner.expectAccessible()
    await owner.picture('people')
  })

  test('a token works as it was made, is replaced without a gap, and ends when it is revoked', async () => {
    const { page } = owner
    const status = async (token: string) =>
      (await fetch(`${url()}/api/robots`, { headers: { authorization: `Bearer ${token}` } })).status
    await page.getByRole('link', { name: 'Tokens' }).click()
    await page.getByRole('button', { name: 'New token' }).click()
    await page.getByLabel('Name', { exact: true }).fill('Night report')
    await page.getByLabel(/audit:read/).check()
    await page.getByLabel('Ends after').selectOption({ label: '1 year' })
    await owner.expectAccessible()
    await owner.picture('tokens-new')
    await page.getByRole('button', { name: 'Make the token' }).click()
    const first = await secretOf(page)
    expect(await status(first)).toBe(200)
    await owner.picture('tokens-made')
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'I have stored it' }).click()
    const tokens = page.getByRole('table', { name: 'Tokens' })
    const row = tokens.getByRole('row', { name: /Night report/ })
    await row.getByText(`rf_pat_…${first.slice(-4)}`).waitFor()
    await row.getByText('robots:read, audit:read').waitFor()
    await row.getByText(/in 364 d/).waitFor()
    expect(await page.content()).not.toContain(first)
    // When it was used is written some seconds later.
    await expect
      .poll(
        async () => {
          await page.reload()
          await row.waitFor()
          return row.getByText('from 127.0.0.1').isVisible()
        },
        { timeout: 20_000, interval: 500 },
      )
      .toBe(true)

    await row.getByRole('button', { name: 'Replace Night report' }).click()
    await page.getByLabel('The old one works for').selectOption({ label: 'One more hour' })
    await owner.expectAccessible()
    await page.getByRole('button', { name: 'Make the new token' }).click()
    const second = await secretOf(page)
    expect(second).not.toBe(first)
    await page.getByRole('button', { name: 'I have stored it' }).click()
    expect([await status(first), await status(second)]).toEqual([200, 200])
    await row
      .filter({ hasText: first.slice(-4) })
      .getByText('replaced')
      .waitFor()

    await row
      .filter({ hasText: second.slice(-4) })
      .getByRole('button', { name: 'Revoke Night report' })
      .click()
    await page.getByRole('button', { name: 'Revoke it' }).click()
    await row.filter({ hasText: second.slice(-4) }).waitFor({ state: 'detached' })
    expect([await status(first), await status(second)]).toEqual([200, 401])

    await page.getByRole('columnheader', { name: 'Ends' }).getByRole('button').click()
    expect(new URL(page.url()).search).toBe('?sort=-expires_at')
    await page.getByLabel('State').selectOption('any state')
    await row
      .filter({ hasText: second.slice(-4) })
      .locator('.badge', { hasText: 'revoked' })
      .waitFor()
    await owner.expectAccessible()
    await owner.picture('tokens')
    await owner.page.setViewportSize({ width: 360, height: 740 })
    await owner.picture('tokens-on-a-phone')
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360)
    await owner.page.setViewportSize({ width: 1280, height: 800 })

    await page.getByRole('link', { name: 'Of fleets' }).click()
    await page.getByLabel('Fleet', { exact: true }).selectOption({ label: 'Cranes, Harbour' })
    await page.getByRole('button', { name: 'New token' }).click()
    await page.getByLabel('Name', { exact: true }).fill('Crane watch')
    expect(await page.getByLabel(/users:manage/).count()).toBe(0)
    await page.getByLabel('Ends after').selectOption('Never')
    await page.getByRole('button', { name: 'Make the token' }).click()
    const ofFleet = await secretOf(page)
    expect(ofFleet).toMatch(/^rf_fleet_/)
    expect(await status(ofFleet)).toBe(200)
    await page.getByRole('button', { name: 'I have stored it' }).click()
    await tokens.getByRole('row', { name: /Crane watch/ }).waitFor()

    await page.getByRole('button', { name: 'Revoke all of Cranes' }).click()
    await page.getByText('1 credential will go:').waitFor()
    await page.getByText('1 fleet token', { exact: true }).click()
    await page
      .getByRole('dialog')
      .getByText(`…${ofFleet.slice(-4)}`)
      .waitFor()
    await owner.expectAccessible()
    await owner.picture('tokens-revoke-all')
    expect(await status(ofFleet)).toBe(200)
    await page.getByRole('button', { name: 'Revoke all of it' }).click()
    await page.getByText('1 credential revoked.').waitFor()
    expect(await status(ofFleet)).toBe(401)

    await page.getByRole('link', { name: 'Everybody’s' }).click()
    await page.getByRole('button', { name: 'Revoke everything' }).click()
    await page.getByText(/credentials? will go:/).waitFor()
    expect(await page.getByRole('button', { name: 'Revoke all of it' }).isDisabled()).toBe(true)
    await page.getByRole('button', { name: 'Cancel' }).click()
  })

  test('an admin manages everybody but owners, and does not decide for the deployment', async () => {
    const invited = await scene.operator.must('POST', '/api/users', {
      name: 'Sol',
      email: 'sol@example.com',
      roles: [{ role: 'admin' }],
    })
    const sol = await come({ phone: true })
    const { page } = sol
    await page.goto(String(invited.accept_url))
    await page.getByLabel('Password').fill('seven gulls on a wire')
    await page.getByRole('button', { name: 'Accept', exact: true }).click()
    await page.getByRole('heading', { name: 'Fleet' }).waitFor()
    await page.goto('/people')
    const people = page.getByRole('table', { name: 'People' })
    await people.getByRole('row', { name: /Sol \(you\)/ }).waitFor()
    await page.getByText('A second factor is everybody’s own choice').waitFor()
    for (const name of ['Ask it of everybody', 'Change…'])
      expect(await page.getByRole('button', { name }).count()).toBe(0)
    expect(await page.getByRole('link', { name: 'set up your own first' }).count()).toBe(0)
    await sol.expectAccessible()
    await sol.picture('people-on-a-phone')
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(375)

    await page.getByRole('button', { name: 'Manage Ada' }).click()
    const dialog = page.getByRole('dialog', { name: 'Ada' })
    await dialog.getByText('They hold more than you could give').waitFor()
    expect(await dialog.getByRole('button').allTextContents()).toEqual(['Change roles…', 'Close'])
    await dialog.getByRole('button', { name: 'Change roles' }).click()
    await page.getByLabel('Role 1', { exact: true }).selectOption('viewer')
    await page.getByRole('button', { name: 'Change the roles' }).click()
    // What the page cannot know the server says, and the dialog stays.
    await page.getByRole('alert').getByText('exceeds_own_rights').waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByRole('button', { name: 'Invite somebody' }).click()
    expect(await page.getByLabel('Role 1', { exact: true }).locator('option').allTextContents()).toEqual([
      'admin',
      'operator',
      'viewer',
    ])
    await page.keyboard.press('Escape')

    await page.goto('/tokens?of=others')
    await page.getByRole('row', { name: /Night report/ }).waitFor()
    expect(await page.getByRole('button', { name: /Revoke/ }).count()).toBe(0)
    await page.goto('/tokens')
    await page.getByRole('heading', { name: 'No token yet' }).waitFor()
    await page.getByRole('button', { name: 'New token' }).click()
    await page.getByLabel('Name', { exact: true }).fill('Of Sol')
    await page.getByLabel('All that I may do').check()
    await page.getByText('Only from some addresses').click()
    await page.getByLabel('Addresses').fill('10.0.0.0/40')
    await page.getByRole('button', { name: 'Make the token' }).click()
    await page.getByText('must be an address or a CIDR range').first().waitFor()
    await page.getByLabel('Addresses').fill('10.0.0.0/8')
    await sol.expectAccessible()
    await page.getByRole('button', { name: 'Make the token' }).click()
    const token = await secretOf(page)
    const answer = await fetch(`${url()}/api/robots`, { headers: { authorization: `Bearer ${token}` } })
    expect(answer.status).toBe(403)
    await page.getByRole('button', { name: 'I have stored it' }).click()
    await page
      .getByRole('row', { name: /Of Sol/ })
      .getByText('from 10.0.0.0/8')
      .waitFor()

    // Whoever is left alone with a page is signed out of it by whoever revokes everything of theirs.
    await owner.page.goto('/people')
    await owner.page.getByRole('button', { name: 'Manage Sol' }).click()
    await owner.page.getByRole('button', { name: 'Revoke everything' }).click()
    await owner.page.getByText('2 credentials will go:').waitFor()
    await owner.page.getByRole('button', { name: 'Revoke all of it' }).click()
    await page.getByText('Your session is over').waitFor()
    await signIn(sol, 'sol@example.com', 'seven gulls on a wire')
    await page.getByRole('heading', { name: 'No token yet' }).waitFor()
    await owner.page.getByRole('button', { name: 'Manage Sol' }).click()
    await owner.page.getByRole('button', { name: 'Remove' }).click()
    await owner.page
      .getByRole('dialog', { name: 'Remove Sol' })
      .getByRole('button', { name: 'Remove' })
      .click()
    await page.getByText('Your session is over').waitFor()
  })

  test('a second factor is set up with an authenticator, and asked for from then on', async () => {
    const { page } = owner
    await page.goto('/account')
    await page.getByText('owner of the whole deployment').waitFor()
    await owner.expectAccessible()
    await owner.picture('account')
    await page.getByRole('button', { name: 'Set up' }).click()
    await page.getByRole('img', { name: /for an authenticator app/ }).waitFor()
    await owner.expectAccessible()
    await owner.picture('second-factor')
    const { totp, used, codes } = await setUp(page)
    await page.getByText('10 backup codes left').waitFor()

    const other = await come({ dark: true })
    await other.page.goto('/audit')
    await signIn(other)
    await other.page.getByRole('heading', { name: 'Second factor' }).waitFor()
    // As after an identity provider, and after a reload: the server knows that a code is still to come.
    await other.page.goto('/#second-factor')
    await other.page.reload()
    await other.page.getByRole('heading', { name: 'Second factor' }).waitFor()
    await other.expectAccessible()
    await other.picture('sign-in-second-factor')
    await other.page.getByLabel('Code').fill(used)
    await other.page.getByRole('button', { name: 'Continue' }).click()
    // A code that was used to set it up is not taken again.
    await other.page.getByRole('alert').getByText('was used already').waitFor()
    await other.page.getByLabel('Code').fill(codeAfter(totp))
    await other.page.getByRole('button', { name: 'Continue' }).click()
    await other.page.getByRole('heading', { name: 'Fleet' }).waitFor()
    expect(new URL(other.page.url()).hash).toBe('')

    const third = await come({ phone: true })
    await third.page.goto('/account')
    await signIn(third)
    await third.page.getByRole('button', { name: 'Use a backup code instead' }).click()
    await third.page.getByLabel('Backup code').fill(codes[0]!)
    await third.page.getByRole('button', { name: 'Continue' }).click()
    await third.page.getByText('9 backup codes left').waitFor()
    await third.expectAccessible()
    await third.picture('account-on-a-phone')
    expect(await third.page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(375)

    // One ends another's session, and that page says so.
    await page.getByRole('button', { name: 'Refresh' }).click()
    const sessions = page.getByRole('table', { name: 'Your sessions' })
    await expect.poll(() => sessions.getByRole('row').count()).toBe(4)
    await sessions
      .getByRole('button', { name: /End the session/ })
      .first()
      .click()
    await third.page.getByText('Your session is over').waitFor()

    await page.getByLabel('Dark').check()
    expect(await page.locator('html').getAttribute('data-theme')).toBe('dark')
    await page.reload()
    await page.getByRole('heading', { name: 'Your account' }).waitFor()
    expect(await page.locator('html').getAttribute('data-theme')).toBe('dark')
    await page.getByText('owner of the whole deployment').waitFor()
    await owner.expectAccessible()
    await owner.picture('account-dark')
    await page.getByLabel('As the system has it').check()
    expect(await page.locator('html').getAttribute('data-theme')).toBeNull()
  })

  test('where everybody has to have a second factor, it comes before anything else', async () => {
    const { page } = owner
    const invited = await scene.operator.must('POST', '/api/users', {
      name: 'Noor',
      email: 'noor@example.com',
      roles: [{ role: 'viewer' }],
    })
    await page.goto('/people')
    await page.getByRole('button', { name: 'Ask it of everybody' }).click()
    await page.getByText('1 person here has none.').waitFor()
    await owner.picture('people-everybody')
    await page.getByRole('dialog').getByRole('button', { name: 'Ask it of everybody' }).click()
    await page.getByText('A second factor is asked of everybody').waitFor()

    const noor = await come()
    await noor.page.goto(String(invited.accept_url))
    await noor.page.getByLabel('Password').fill('a lantern on the pier')
    await noor.page.getByRole('button', { name: 'Accept', exact: true }).click()
    await noor.page.getByRole('heading', { name: 'Set up a second factor' }).waitFor()
    await noor.page.getByRole('img', { name: /for an authenticator app/ }).waitFor()
    await noor.expectAccessible()
    await noor.picture('second-factor-must')
    await setUp(noor.page)
    await noor.page.getByRole('heading', { name: 'Fleet' }).waitFor()

    // A viewer may neither invite nor read the log, and has no tokens of others before them.
    const pages = noor.page.getByRole('navigation', { name: 'Pages' })
    for (const name of ['People', 'Audit']) expect(await pages.getByRole('link', { name }).count()).toBe(0)
    await noor.page.goto('/audit')
    await noor.page.getByRole('heading', { name: 'This is not yours to see' }).waitFor()

    await page.getByRole('button', { name: 'Leave it to everybody' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Leave it to everybody' }).click()
    await page.getByText('A second factor is everybody’s own choice').waitFor()
    await page.getByRole('button', { name: 'Refresh' }).click()
    await page.getByRole('button', { name: 'Manage Noor' }).click()
    await page.getByRole('button', { name: 'Reset second factor' }).click()
    await page.getByRole('button', { name: 'Reset it' }).click()
    await noor.page.getByText('Your session is over').waitFor()
  })

  test('the audit log tells all of it, is searched, verified and exported', async () => {
    const { page } = owner
    await page.goto('/audit')
    const log = page.getByRole('table', { name: 'Audit log, newest first' })
    const told = async (action: string, text: string) => {
      await page.goto(`/audit?action=${action}`)
      await log.getByRole('row').filter({ hasText: action }).filter({ hasText: text }).first().waitFor()
    }
    await told('user.invited', 'Haruki')
    await told('user.invitation_accepted', 'Haruki')
    await told('user.changed', 'Haruki')
    await told('user.removed', 'Ada')
    await told('access_token.created', 'Night report')
    await told('access_token.rotated', 'Night report')
    await told('access_token.revoked', 'Night report')
    await told('credentials.revoked_all', 'Cranes')
    await told('second_factor.enabled', 'Ada')
    await told('second_factor.reset', 'Noor')
    await told('security.changed', 'Ada')
    await told('sign_in.failed', 'refused')

    await page.goto('/audit')
    await log
      .getByRole('row')
      .filter({ hasText: 'second_factor.reset' })
      .getByRole('button', { name: /More about line/ })
      .click()
    await log.getByText(/"sessions_ended": \d/).waitFor()
    await owner.expectAccessible()
    await owner.picture('audit')
    await page.getByLabel('What').selectOption({ label: 'tokens' })
    await page.getByLabel('Outcome').selectOption('ok')
    await page.getByLabel('Name of actor or target').fill('crane watch')
    await expect.poll(() => new URL(page.url()).search).toBe('?action=access_token.&outcome=ok&q=crane+watch')
    // How it was made; and how it was used, once a minute has passed since then.
    const lines = log.getByRole('row').filter({ hasText: 'Crane watch' })
    await expect.poll(async () => (await log.getByRole('row').count()) - (await lines.count())).toBe(1)
    await lines.filter({ hasText: 'access_token.created' }).waitFor()

    const download = page.waitForEvent('download')
    await page.getByRole('link', { name: 'Export CSV' }).click()
    const file = await download
    expect(file.suggestedFilename()).toBe('beacon-audit.csv')
    const text = await textOf(await file.createReadStream())
    const [, ...exported] = text.trim().split(/\r?\n/)
    expect(exported.filter((line) => line.includes('access_token.created'))).toHaveLength(1)
    for (const line of exported) expect(line).toContain('Crane watch')

    await page.getByRole('button', { name: 'Show all' }).click()
    await page.getByRole('button', { name: 'Verify' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Verify', exact: true }).click()
    await page.getByText(/All \d+ lines are as they were written/).waitFor()
    await owner.expectAccessible()
    await owner.picture('audit-verified')
    await scene.database.pool.query('ALTER TABLE audit_log DISABLE TRIGGER USER')
    await scene.database.pool.query(`UPDATE audit_log SET actor_name = 'Eve' WHERE seq = 3`)
    await page.getByRole('button', { name: 'Verify again' }).click()
    await page.getByText('Line 3 is wrong').waitFor()
    await owner.picture('audit-forged')
    await page.getByRole('button', { name: 'Close' }).click()

    await owner.page.setViewportSize({ width: 360, height: 740 })
    await owner.picture('audit-on-a-phone')
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360)
    await owner.page.setViewportSize({ width: 1280, height: 800 })
  })

  test('a server that is away is said to be, and what was shown stays', async () => {
    const { page, context } = owner
    await page.goto('/people')
    await page.getByRole('row', { name: /Ada \(you\)/ }).waitFor()
    await context.setOffline(true)
    await page.getByRole('button', { name: 'Refresh' }).click()
    await page.getByText('What is shown may be old').waitFor()
    await page.getByRole('row', { name: /Ada \(you\)/ }).waitFor()
    await owner.expectAccessible()
    await owner.picture('people-disconnected')
    await context.setOffline(false)
    await page.getByText('What is shown may be old').waitFor({ state: 'detached' })
  })
})

describe.skipIf(chromium === undefined)('somebody of the organisation', { timeout: 120_000 }, () => {
  test('comes in over its identity provider, is asked for a code after it, and can do without it', async () => {
    const port = await freePort()
    const base = `http://127.0.0.1:${port}`
    const provider = await startProvider({ callback: `${base}/api/sign-in/oidc/callback` })
    const browser = await openBrowser()
    const { clientId, clientSecret } = provider.settings
    const scene = await startScene({
      env: {
        BEACON_PORT: String(port),
        BEACON_PUBLIC_URL: base,
        BEACON_OIDC_ISSUER: provider.issuer,
        BEACON_OIDC_CLIENT_ID: clientId,
        BEACON_OIDC_CLIENT_SECRET: clientSecret!,
      },
    })
    try {
      provider.accounts.set('mina', { email: 'mina@example.com', email_verified: true })
      const invited = await scene.operator.must('POST', '/api/users', {
        name: 'Mina',
        email: 'mina@example.com',
        roles: [{ role: 'viewer' }],
      })
      const mina = await visit(browser, base)
      const { page } = mina
      await page.goto(String(invited.accept_url))
      await page.getByRole('button', { name: 'Accept and sign in with your organisation' }).click()
      await page.getByRole('heading', { name: 'Welcome, Mina' }).waitFor()
      await page.getByRole('link', { name: 'Sign in' }).click()
      await page.getByRole('link', { name: 'Sign in with your organisation' }).click()
      await page.locator('[name=login]').fill('mina')
      await page.locator('[name=password]').fill('whatever')
      await page.getByRole('button', { name: 'Sign-in' }).click()
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('heading', { name: 'Fleet' }).waitFor()

      await page.goto('/account')
      await page.getByText('You have none: you sign in with your organisation.').waitFor()
      await page.getByText('with your organisation', { exact: true }).waitFor()
      await page.getByRole('button', { name: 'Set up' }).click()
      const { totp, codes } = await setUp(page)
      await page.getByText('10 backup codes left').waitFor()
      await page.getByRole('button', { name: 'Sign out', exact: true }).click()
      await page.getByRole('link', { name: 'Sign in with your organisation' }).click()
      await page.getByRole('heading', { name: 'Second factor' }).waitFor()
      expect(page.url()).toBe(`${base}/#second-factor`)
      await page.getByLabel('Code').fill(codeAfter(totp))
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('heading', { name: 'Fleet' }).waitFor()
      expect(page.url()).toBe(`${base}/`)

      // From then on without the organisation: new backup codes, a password of their own, and no second factor.
      await page.goto('/account')
      await page.getByRole('button', { name: 'New backup codes' }).click()
      await page.getByLabel('Code', { exact: true }).fill(codes[0]!)
      await page.getByRole('button', { name: 'Make new ones' }).click()
      const renewed = (await page.locator('.secret pre').textContent())!.split('\n')
      expect(renewed.filter((code) => codes.includes(code))).toEqual([])
      await page.getByRole('button', { name: 'I have put them away' }).click()
      await page.getByText('10 backup codes left').waitFor()
      await page.getByRole('button', { name: 'Choose one' }).click()
      await page.getByLabel('New password', { exact: true }).fill('nine quiet herons')
      await page.getByLabel('New password again').fill('nine quiet herring')
      await page.getByRole('button', { name: 'Choose it' }).click()
      await page.getByRole('alert').getByText('not the same both times').waitFor()
      await page.getByLabel('New password again').fill('nine quiet herons')
      await mina.expectAccessible()
      await page.getByRole('button', { name: 'Choose it' }).click()
      await page.getByText('You have one.').waitFor()
      await page.getByRole('button', { name: 'Remove…' }).click()
      await page.getByLabel('Code', { exact: true }).fill(codes[1]!)
      await page.getByRole('button', { name: 'Remove it' }).click()
      await page.getByRole('alert').getByText('proof_refused').waitFor()
      await page.getByLabel('Code', { exact: true }).fill(renewed[0]!)
      await page.getByRole('button', { name: 'Remove it' }).click()
      await page.getByText('off', { exact: true }).waitFor()
      await page.getByRole('button', { name: 'Sign out everywhere' }).click()
      await page.getByRole('dialog').getByRole('button', { name: 'Sign out everywhere' }).click()
      await signIn(mina, 'mina@example.com', 'nine quiet herons')
      await page.getByRole('heading', { name: 'Your account' }).waitFor()

      // The provider's own pages are not ours to judge, and ask for a typeface.
      const theirs = ['https://fonts.googleapis.com', provider.issuer].map(
        (at) => `asked another origin: ${at}/`,
      )
      expect(mina.mishaps.filter((what) => !theirs.some((start) => what.startsWith(start)))).toEqual([])
    } finally {
      await browser.close()
      await scene.end()
      await provider.close()
    }
  })
})

/** One that nobody listens at: the identity provider has to know the address beforehand. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function secretOf(page: Page): Promise<string> {
  const text = await page.locator('.secret pre').first().textContent()
  expect(text).toMatch(/^rf_(pat|fleet)_[0-9a-f]{72}$/)
  return text!
}

/** Sets a second factor up as a person does with an authenticator, whose secret is typed by hand. */
async function setUp(page: Page): Promise<{ totp: TOTP; used: string; codes: string[] }> {
  await page.getByText('Type the secret by hand instead').click()
  const secret = (await page.locator('.typed-secret code').textContent())!.replaceAll(' ', '')
  const totp = new TOTP({ secret: Secret.fromBase32(secret) })
  const used = totp.generate()
  await page.getByLabel('Code').fill(used)
  await page.getByRole('button', { name: 'Turn it on' }).click()
  const codes = (await page.locator('.secret pre').textContent())!.split('\n')
  expect(new Set(codes).size).toBe(10)
  await page.getByRole('button', { name: 'I have put them away' }).click()
  return { totp, used, codes }
}

/** The code that comes next: the server takes it a little early. */
function codeAfter(totp: TOTP): string {
  return totp.generate({ timestamp: Date.now() + totp.period * 1000 })
}

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  return text
}
