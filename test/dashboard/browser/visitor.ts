import { copyFileSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import axe from 'axe-core'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { expect } from 'vitest'
import { chromiumOrLeaveOut, startChromium } from '../../support/chromium.ts'

/** Kept when a pipeline ends; git does not. */
const SCREENSHOTS = join(import.meta.dirname, '../../../.screenshots')

export const chromium = chromiumOrLeaveOut('the page in a real browser')

/** What README shows: made anew with UPDATE_PICTURES=1. */
const PICTURES = join(import.meta.dirname, '../../../docs/pictures')

/** Somebody before a browser, who notices what goes wrong behind the page. */
export interface Visitor {
  readonly page: Page
  readonly context: BrowserContext
  /** Errors in the console and exceptions nobody caught, but for the refusals that a test asks for. */
  readonly mishaps: string[]
  /** Takes a picture of the whole window, as `<name>.png`. */
  picture(name: string): Promise<void>
  /** Fails when axe-core finds a serious fault in what is shown now. */
  expectAccessible(): Promise<void>
}

export const EMAIL = 'ada@example.com'
export const PASSWORD = 'an even longer password 7'

export function openBrowser(): Promise<Browser> {
  return startChromium(chromium!)
}

export async function visit(
  browser: Browser,
  baseURL: string,
  options: { readonly dark?: boolean; readonly phone?: boolean } = {},
): Promise<Visitor> {
  const context = await browser.newContext({
    baseURL,
    colorScheme: options.dark ? 'dark' : 'light',
    viewport: options.phone ? { width: 375, height: 740 } : { width: 1280, height: 800 },
    reducedMotion: 'reduce',
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
  })
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: baseURL })
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  const mishaps: string[] = []
  page.on('pageerror', (error) => mishaps.push(String(error)))
  page.on('console', (message) => {
    // The browser writes a line for each answer that is no success; the page shows those itself.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
      mishaps.push(message.text())
  })
  // Everything that the page needs comes from its own server.
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url())
    if (/^(http|ws)/.test(protocol) && origin !== new URL(baseURL).origin)
      mishaps.push(`asked another origin: ${request.url()}`)
  })
  await page.exposeBinding(
    'tellViolation',
    (_, what: string) => void mishaps.push(`refused by the policy: ${what}`),
  )
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sample }) =>
      (globalThis as unknown as { tellViolation: (what: string) => void }).tellViolation(
        `${violatedDirective} ${blockedURI} ${sample}`,
      ),
    )
  })
  mkdirSync(SCREENSHOTS, { recursive: true })
  return {
    page,
    context,
    mishaps,
    async picture(name) {
      const path = join(SCREENSHOTS, `${name}.png`)
      await page.screenshot({ path })
      const kept = join(PICTURES, `${name}.png`)
      if (process.env.UPDATE_PICTURES && existsSync(kept)) copyFileSync(path, kept)
    },
    async expectAccessible() {
      // Through the debugger, for the page's own policy lets no other script run.
      await page.evaluate(axe.source)
      const found = await page.evaluate(async () => {
        const { violations } = await (globalThis as unknown as { axe: typeof import('axe-core') }).axe.run()
        return violations
          .filter(({ impact }) => impact === 'serious' || impact === 'critical')
          .map(({ id, nodes }) => ({
            id,
            where: nodes.map((node) => `${node.target}: ${node.failureSummary}`),
          }))
      })
      expect(found).toEqual([])
    },
  }
}

/** Gives the owner of a fresh deployment a password, as its first visit does. */
export async function becomeOwner({ page }: Visitor, token: string): Promise<void> {
  await page.goto('/')
  await page.getByRole('button', { name: 'First time here?' }).click()
  await page.getByLabel('Owner token').fill(token)
  await page.getByLabel('Your name').fill('Ada')
  await page.getByLabel('Email').fill(EMAIL)
  await page.getByLabel('Password').fill(PASSWORD)
  await page.getByRole('button', { name: 'Set up and sign in' }).click()
  await page.getByRole('heading', { name: 'Fleet' }).waitFor()
}

export async function signIn({ page }: Visitor, email = EMAIL, password = PASSWORD): Promise<void> {
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
}
