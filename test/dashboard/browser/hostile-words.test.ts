import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { fillWithPlacesAndKeys } from './hostile-words.ts'
import { beforeAllViews, VIEWS } from './views.ts'
import { chromium } from './visitor.ts'

describe.skipIf(chromium === undefined)(
  'every view, whatever is written in it,',
  { timeout: 180_000 },
  () => {
    const all = beforeAllViews()

    /** Nothing stands out of the window, and nothing that somebody wrote was run. */
    async function expectInShape(page: Page, where: string): Promise<void> {
      const found = await page.evaluate(() => {
        const width = document.documentElement.clientWidth
        return {
          wide: document.documentElement.scrollWidth - width,
          out:
            document.documentElement.scrollWidth > width
              ? [...document.querySelectorAll('main *, header *')]
                  .filter((element) => element.getBoundingClientRect().right > width + 1)
                  .slice(0, 5)
                  .map((element) => `${element.tagName}.${element.className}`)
              : [],
          wasRun: 'wasRun' in globalThis,
          made: document.querySelectorAll('main img, main script').length,
        }
      })
      expect(found, where).toEqual({ wide: 0, out: [], wasRun: false, made: 0 })
    }

    for (const [name, path, sign] of VIEWS)
      test(`${name} holds its shape and is accessible, whatever is written in it`, async () => {
        const { owner, there } = all()
        const { page } = owner
        for (const [width, scheme] of [
          [1280, 'dark'],
          [640, 'light'],
          [375, 'light'],
        ] as const) {
          await page.setViewportSize({ width, height: 800 })
          await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' })
          await page.goto(path(there))
          await sign(page)
          await expectInShape(page, `${name} at ${width}`)
          if (width !== 640) await owner.expectAccessible()
          await owner.picture(`hostile-${name}-${width}`)
        }
      })

    test('is there soon with 500 sites and 1,000 keys, and never stands still', async () => {
      const { owner, scene, there } = all()
      await fillWithPlacesAndKeys(scene)
      const page = await owner.context.newPage()
      page.setDefaultTimeout(15_000)
      await page.addInitScript(() => {
        const told = globalThis as unknown as { longest: number }
        told.longest = 0
        new PerformanceObserver((list) => {
          for (const { duration } of list.getEntries()) told.longest = Math.max(told.longest, duration)
        }).observe({ type: 'longtask', buffered: true })
      })
      for (const [name, path, sign] of VIEWS.filter(([name]) =>
        ['fleet', 'floor', 'places', 'keys', 'new-key', 'audit'].includes(name),
      )) {
        const begun = performance.now()
        await page.goto(path(there))
        await sign(page)
        // Far above what it takes here, for pipelines are slow.
        expect(performance.now() - begun, name).toBeLessThan(10_000)
        await expectInShape(page, name)
        const longest = await page.evaluate(() => (globalThis as unknown as { longest: number }).longest)
        expect(longest, name).toBeLessThan(3_000)
      }
      await page.goto('/places')
      await page.getByText('Many 500', { exact: true }).waitFor()
      await page.goto('/keys')
      await page.getByRole('button', { name: /more/i }).click()
      await expect.poll(() => page.getByRole('table').getByRole('row').count()).toBeGreaterThan(100)
      await page.close()
    })
  },
)
