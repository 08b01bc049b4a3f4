import type { Page, Route } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { beforeAllViews, VIEWS } from './views.ts'
import { chromium } from './visitor.ts'

describe.skipIf(chromium === undefined)(
  'a view that does not get what it asks for',
  { timeout: 180_000 },
  () => {
    const all = beforeAllViews()

    const problem = (status: number, code: string) => ({
      status,
      contentType: 'application/problem+json',
      headers: { 'retry-after': '1' },
      body: JSON.stringify({ status, code, title: 'No', detail: `It is ${code}`, request_id: 'abc' }),
    })
    const HTML = { contentType: 'text/html', body: '<h1>Please sign in to the network</h1>' }
    /** What may come instead of what is asked for, and what a view then says. */
    const INSTEAD: readonly (readonly [what: string, answer: (route: Route) => Promise<void>])[] = [
      ['a refusal', (route) => route.fulfill(problem(403, 'insufficient_scope'))],
      ['nothing there', (route) => route.fulfill(problem(404, 'not_found'))],
      ['too many requests', (route) => route.fulfill(problem(429, 'rate_limited'))],
      ['a failure', (route) => route.fulfill(problem(500, 'internal'))],
      ['the page of a proxy', (route) => route.fulfill({ status: 502, ...HTML })],
      ['the page of a network', (route) => route.fulfill({ status: 200, ...HTML })],
      ['no connection', (route) => route.abort()],
    ]
    /** Everything but who is signed in. */
    const ASKED = /\/api\/(?!session$)/

    /** Those that ask in ways of their own; each waits for as long as the page waits for any answer. */
    const WAITING = ['fleet', 'floor', 'robot', 'approvals', 'audit', 'account']

    async function expectToldAndRecovers(
      page: Page,
      [name, , sign]: (typeof VIEWS)[number],
      end: () => Promise<void>,
      withinMs?: number,
    ): Promise<void> {
      const told = page
        .locator('#content')
        .getByText(/It is |is not there at the moment|was not Beacon|cannot be reached|no such|may not see/)
      await told.first().waitFor(withinMs ? { timeout: withinMs } : {})
      await end()
      // What passes by itself is tried again by itself: the button may be gone before it is pressed.
      const again = page.getByRole('button', { name: 'Try again' })
      for (let left = await again.count(); left > 0; left--)
        await again
          .nth(left - 1)
          .click({ timeout: 1_000 })
          .catch(() => {})
      if (name === 'robot') await page.reload()
      await sign(page)
    }

    for (const [at, view] of VIEWS.entries())
      test(`${view[0]} says what is wrong, and goes on once it is not`, async () => {
        const { owner, there } = all()
        const page = await owner.context.newPage()
        page.setDefaultTimeout(15_000)
        for (const [, instead] of INSTEAD.filter((_, which) => (which + at) % 2 === 0)) {
          await page.route(ASKED, instead)
          await page.goto(view[1](there))
          await expectToldAndRecovers(page, view, () => page.unroute(ASKED))
        }
        await page.close()
      })

    test('says at a form why nothing was done, and keeps what was typed', async () => {
      const { page } = all().owner
      const asked = /\/api\/enrollment-keys$/
      await page.goto('/keys?new=true')
      await page.getByLabel('Name of the key').fill('Dock 9')
      const make = page.getByRole('button', { name: 'Make the key' })
      const wrong = { pointer: '/name', detail: 'is taken by a dragon' }
      for (const [answer, says] of [
        [problem(409, 'conflict'), 'It is conflict'],
        [{ ...problem(422, 'odd'), body: JSON.stringify({ code: 'odd', errors: [wrong] }) }, wrong.detail],
        [problem(429, 'rate_limited'), 'It is rate_limited'],
        [problem(500, 'internal'), 'It is internal'],
        [{ status: 502, ...HTML }, 'is not there at the moment'],
        [{ status: 200, ...HTML }, 'was not Beacon'],
      ] as const) {
        await page.route(asked, (route) =>
          route.request().method() === 'POST' ? route.fulfill(answer) : route.continue(),
        )
        await make.click()
        await page.locator('form').getByText(says).first().waitFor()
        expect(await page.getByLabel('Name of the key').inputValue()).toBe('Dock 9')
        await page.unroute(asked)
      }
      await make.click()
      await page.getByRole('heading', { name: 'Dock 9' }).waitFor()
    })

    test('comes by itself once the server is there, when it was opened before', async () => {
      const page = await all().owner.context.newPage()
      await page.route('**/api/session', (route) => route.abort())
      await page.goto('/')
      await page.getByText('The server cannot be reached').waitFor()
      await page.unroute('**/api/session')
      await page.getByRole('heading', { name: 'Fleet' }).waitFor()
      await page.close()
    })

    test('stays of use when the server was updated since it was opened', async () => {
      const page = await all().owner.context.newPage()
      await page.goto('/')
      await page.locator('.lines .robot').first().waitFor()
      await page.route('**/assets/people-*.js', (route) => route.fulfill({ status: 404 }), { times: 1 })
      await page.getByRole('link', { name: 'People' }).click()
      await page.getByRole('heading', { name: 'People', level: 1 }).waitFor()
      expect(new URL(page.url()).pathname).toBe('/people')

      const files = '**/assets/tokens-*.js'
      await page.route(files, (route) => route.abort())
      await page.getByRole('link', { name: 'Tokens' }).click()
      await page.getByRole('heading', { name: 'This view did not load' }).waitFor()
      expect(await page.getByRole('heading', { name: 'People' }).count()).toBe(0)
      await page.unroute(files)
      await page.getByRole('button', { name: 'Load the page again' }).click()
      await page.getByRole('heading', { name: 'Tokens', level: 1 }).waitFor()
      await page.close()
    })

    test('makes something of addresses that make no sense', async () => {
      const { page } = all().owner
      for (const address of [
        '/?health=splendid&connection=perhaps',
        '/?site=nowhere&fleet=01a203d2-e704-74a2-8bff-a71cfae271bc',
        '/?sort=-password&q=%F0%9F%A4%96&label==',
        '/?label=%00',
        '/floor?site=nowhere',
        '/floor?site=01a203d2-e704-74a2-8bff-a71cfae271bc&frame=%3Cimg%3E',
        '/robots/nobody',
        '/robots/a%20b%2F..',
        '/robots/01a203d2-e704-74a2-8bff-a71cfae271bc?range=999y&fields=__proto__,constructor',
        '/approvals?waited=long&site=nowhere',
        '/keys?id=nothing',
        '/keys?kind=golden&status=shiny&sort=x',
        '/tokens?of=mine&user=nobody&status=x',
        '/audit?action=drop.table&from=yesterday&outcome=maybe',
        '/audit?site=nowhere',
      ]) {
        await page.goto(address)
        await page.locator('#content').getByRole('heading').first().waitFor()
        await expect.poll(() => page.locator('.loading').count(), { message: address }).toBe(0)
        expect((await page.locator('#content').textContent())!.length, address).toBeGreaterThan(20)
      }
    })

    test('waits for no answer without end', async () => {
      const { owner, there } = all()
      const pages = await Promise.all(
        VIEWS.filter(([name]) => WAITING.includes(name)).map(async (view) => {
          const page = await owner.context.newPage()
          await page.route(ASKED, () => {})
          await page.goto(view[1](there))
          await page.getByRole('status', { name: 'Loading' }).first().waitFor()
          return [page, view] as const
        }),
      )
      for (const [page, view] of pages) {
        await expectToldAndRecovers(page, view, () => page.unroute(ASKED), 60_000)
        await page.close()
      }
    })
  },
)
