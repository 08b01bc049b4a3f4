import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { AgentProcess } from '../../agent/support/agent-process.ts'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { becomeOwner, chromium, EMAIL, openBrowser, signIn, type Visitor, visit } from './visitor.ts'

describe.skipIf(chromium === undefined)('the first visit', () => {
  let scene: Scene
  let browser: Browser
  let folder: string
  const agents: AgentProcess[] = []
  const visitors: Visitor[] = []
  const come = async (options?: Parameters<typeof visit>[2]) => {
    const visitor = await visit(browser, scene.servers[0]!.url, options)
    visitors.push(visitor)
    return visitor
  }

  beforeAll(async () => {
    scene = await startScene()
    browser = await openBrowser()
    folder = await mkdtemp(join(tmpdir(), 'beacon-first-visit-'))
  })
  afterEach(async () => {
    for (const { context, mishaps } of visitors.splice(0)) {
      expect(mishaps).toEqual([])
      await context.close()
    }
  })
  afterAll(async () => {
    await Promise.all(agents.map((agent) => agent.stop()))
    await browser?.close()
    await scene?.end()
    await rm(folder, { recursive: true, force: true })
  })

  test('leads from the owner token to the first robot online', async () => {
    const visitor = await come()
    const { page } = visitor
    await page.goto('/')
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
    await visitor.expectAccessible()
    await visitor.picture('sign-in')
    await becomeOwner(visitor, scene.adminToken)

    await page.getByRole('link', { name: 'Bring in the first robot' }).click()
    await page.getByRole('button', { name: 'Make the key' }).waitFor()
    await visitor.expectAccessible()
    await page.getByRole('button', { name: 'Make the key' }).click()
    const command = await page.locator('.secret pre').textContent()
    const focused = () => page.evaluate(() => document.activeElement!.textContent)
    await expect.poll(focused).toBe('Run one command on each robot')
    expect(command).toMatch(
      /^curl -fsSL http:\/\/127\.0\.0\.1:\d+\/install\.sh \| sh -s -- --enrollment-key rf_enroll_[0-9a-f]{64}$/,
    )
    await page.getByRole('button', { name: 'Copy' }).click()
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(command)
    await page.getByText('Waiting for the first robot').waitFor()

    agents.push(
      new AgentProcess(
        [
          'run',
          '--server',
          scene.servers[0]!.url,
          '--config',
          join(folder, 'agent.toml'),
          '--name',
          'warehouse-bot-01',
        ],
        { BEACON_ENROLLMENT_KEY: command!.split(' ').at(-1)! },
      ),
    )
    await page.getByRole('link', { name: 'warehouse-bot-01' }).waitFor()
    await page.getByText('1 of 1 online').waitFor()
    await expect.poll(() => page.locator('.steps > li[data-done="true"]').count()).toBe(3)
    await visitor.picture('first-robot')
    await visitor.expectAccessible()

    await page.getByRole('link', { name: 'Go to the fleet' }).click()
    const row = page.getByRole('row', { name: /warehouse-bot-01/ })
    await row.getByText('online').waitFor()
  })

  test('is over: the owner signs in with a password, and out again', async () => {
    const visitor = await come({ dark: true, phone: true })
    const { page } = visitor
    await page.goto('/?connection=online')
    await signIn(visitor, EMAIL, 'not the right password')
    await page
      .getByRole('alert')
      .getByText(/not right|not accepted/)
      .waitFor()
    await signIn(visitor)
    await page.getByRole('link', { name: 'warehouse-bot-01' }).waitFor()
    expect(new URL(page.url()).search).toBe('?connection=online')
    await visitor.expectAccessible()
    await visitor.picture('fleet-on-a-phone')
    await page.getByRole('button', { name: 'Menu' }).click()
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
    await page.goto('/')
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  })

  test('comes to its end with the robot: revoked on its page, it is gone within seconds, and its agent stops', async () => {
    const visitor = await come()
    const { page } = visitor
    await page.goto('/')
    await signIn(visitor)
    await page.getByRole('link', { name: 'warehouse-bot-01' }).click()
    await page.getByRole('heading', { name: 'warehouse-bot-01' }).waitFor()
    await page.getByRole('button', { name: 'Revoke token' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByText('The token stops working at once').waitFor()
    await dialog.getByRole('button', { name: /Revoke/ }).click()
    expect(await agents[0]!.exited).toBe(3)
    await page.getByText('offline', { exact: true }).first().waitFor()
    await page.goto('/audit')
    await page
      .getByRole('row', { name: /robot\.token_revoked/ })
      .getByText('warehouse-bot-01')
      .waitFor()
    await visitor.picture('audit-of-a-revocation')
  })
})
