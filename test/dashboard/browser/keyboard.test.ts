import { describe, expect, test } from 'vitest'
import { beforeAllViews, VIEWS } from './views.ts'
import { chromium } from './visitor.ts'

describe.skipIf(chromium === undefined)('every view by keyboard', { timeout: 180_000 }, () => {
  const all = beforeAllViews()

  /** Everything that can be reached by a keyboard: of radio buttons with one name, one. */
  const REACHABLE = `a[href], button:not(:disabled), input:not(:disabled, [type=radio]), select:not(:disabled),
    textarea:not(:disabled), summary, [tabindex="0"]`

  for (const [name, path, sign] of VIEWS)
    test(`${name} is worked by keyboard alone`, async () => {
      const { owner, there } = all()
      const { page } = owner
      await page.setViewportSize({ width: 1280, height: 800 })
      await page.goto(path(there))
      await sign(page)
      const left = () =>
        page.evaluate(
          (reachable) =>
            [...document.querySelectorAll<HTMLElement>(reachable)]
              .filter((element) => element.checkVisibility({ visibilityProperty: true }))
              .filter((element) => !element.closest('.lines') && !element.hasAttribute('data-was-reached'))
              .map((element) => element.outerHTML.slice(0, 120)),
          REACHABLE,
        )
      const reachable = await left()
      for (let pressed = 0; pressed < 4 * reachable.length + 100; pressed++) {
        await page.keyboard.press('Tab')
        const isSeen = await page.evaluate(() => {
          const element = document.activeElement
          if (!element || element === document.body) return true
          element.setAttribute('data-was-reached', '')
          // A box inside of a control, as of a date, has its own mark.
          return getComputedStyle(element).outlineStyle !== 'none' || element.matches('input[type^=date]')
        })
        expect(isSeen, 'a visible focus').toBe(true)
        if (pressed % 20 === 19 && (await left()).length === 0) break
      }
      expect(await left()).toEqual([])
    })

  test('windows over the page keep the focus, close by Escape, and give it back', async () => {
    const { owner, there } = all()
    const { page } = owner
    let opened = 0
    for (const [name, path, sign] of VIEWS) {
      await page.goto(path(there))
      await sign(page)
      const openers = page.locator('#content button:not(:disabled)')
      const count = Math.min(await openers.count(), 40)
      const tried = new Set<string>()
      for (let at = 0; at < count; at++) {
        const opener = openers.nth(at)
        const words = ((await opener.getAttribute('aria-label')) ?? (await opener.textContent()) ?? '').trim()
        // What asks before it does something ends with dots, or does harm.
        if (
          tried.has(words) ||
          !/…$|^(Revoke|Delete|Deny|Retire|Rename|Change|New |Move|Replace|Invite)/.test(words)
        )
          continue
        tried.add(words)
        await opener.focus()
        await page.keyboard.press('Enter')
        const dialog = page.locator('dialog[open]')
        await dialog.waitFor({ timeout: 5_000 })
        opened += 1
        for (let pressed = 0; pressed < 12; pressed++) {
          await page.keyboard.press(pressed % 4 === 3 ? 'Shift+Tab' : 'Tab')
          // The browser's own bar may come in between; the page behind never does.
          expect(
            await page.evaluate(
              () =>
                document.activeElement === document.body || !!document.activeElement?.closest('dialog[open]'),
            ),
            `${name}: ${words}`,
          ).toBe(true)
        }
        await owner.expectAccessible()
        await page.keyboard.press('Escape')
        await dialog.waitFor({ state: 'detached' })
        await expect
          .poll(() => opener.evaluate((element) => element === document.activeElement), {
            message: `${name}: ${words}`,
          })
          .toBe(true)
      }
    }
    expect(opened).toBeGreaterThan(20)
  })

  test('going from one to another moves the focus and names the page', async () => {
    const { owner } = all()
    const { page } = owner
    await page.goto('/')
    for (const name of ['Floor', 'Keys', 'Audit', 'Fleet']) {
      const link = page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name, exact: true })
      await link.focus()
      await page.keyboard.press('Enter')
      await expect.poll(() => page.title()).toMatch(new RegExp(`^${name}.* · Beacon$`))
      await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('content')
    }
  })

  test('rows beyond the window are reached by keyboard', async () => {
    const { owner } = all()
    const { page } = owner
    await page.setViewportSize({ width: 1280, height: 500 })
    await page.goto('/')
    await page.locator('.lines .robot').first().waitFor()
    await page.locator('.lines').focus()
    const rows = async () =>
      Number(await page.getByRole('table', { name: 'Robots' }).getAttribute('aria-rowcount'))
    let last = 0
    for (let pressed = 0; pressed < 3 * (await rows()); pressed++) {
      await page.keyboard.press('Tab')
      const at = await page.evaluate(() =>
        Number(document.activeElement?.closest('[role=row]')?.getAttribute('aria-rowindex') ?? 0),
      )
      last = Math.max(last, at)
    }
    expect(last).toBe(await rows())
  })
})
