import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { type Scene, startScene } from '../../e2e/scene.ts'
import { fillWithHostileWords, type Hostile } from './hostile-words.ts'
import { becomeOwner, openBrowser, type Visitor, visit } from './visitor.ts'

/** Where each view is, and what is there once it has loaded. */
export const VIEWS: readonly (readonly [
  name: string,
  path: (there: Hostile) => string,
  sign: (page: Page) => Promise<void>,
])[] = [
  ['fleet', () => '/', (page) => page.locator('.lines .robot').first().waitFor()],
  ['floor', ({ siteId }) => `/floor?site=${siteId}`, (page) => page.locator('.floor-map canvas').waitFor()],
  [
    'robot',
    ({ robotId }) => `/robots/${robotId}`,
    async (page) => {
      await page.getByRole('heading', { name: 'Own metrics' }).waitFor()
      await page.getByRole('region', { name: 'Timeline' }).getByRole('listitem').first().waitFor()
    },
  ],
  [
    'approvals',
    () => '/approvals',
    (page) =>
      page
        .getByRole('button', { name: /^Approve/ })
        .first()
        .waitFor(),
  ],
  ['keys', () => '/keys', (page) => page.getByRole('table').getByRole('row').nth(1).waitFor()],
  ['new-key', () => '/keys?new=true', (page) => page.getByRole('button', { name: 'Make the key' }).waitFor()],
  [
    'key',
    ({ keyId }) => `/keys?id=${keyId}`,
    (page) => page.getByRole('heading', { level: 2 }).first().waitFor(),
  ],
  ['places', () => '/places', (page) => page.getByRole('button', { name: 'New fleet' }).first().waitFor()],
  ['tokens', () => '/tokens', (page) => page.getByRole('table').getByRole('row').nth(1).waitFor()],
  ['people', () => '/people', (page) => page.getByRole('table').getByRole('row').nth(1).waitFor()],
  ['audit', () => '/audit', (page) => page.getByRole('table').getByRole('row').nth(1).waitFor()],
  ['account', () => '/account', (page) => page.getByRole('heading', { level: 2 }).first().waitFor()],
  ['welcome', () => '/welcome', (page) => page.getByRole('button', { name: 'Make the key' }).waitFor()],
]

export interface Everywhere {
  readonly scene: Scene
  readonly owner: Visitor
  readonly there: Hostile
}

/** An owner before all views of a deployment in which everything has odd names; for the tests of one suite. */
export function beforeAllViews(): () => Everywhere {
  let all: Everywhere | undefined
  let end = async () => {}
  beforeAll(async () => {
    const scene = await startScene()
    end = () => scene.end()
    const there = await fillWithHostileWords(scene)
    const browser = await openBrowser()
    end = async () => {
      there.end()
      await browser.close()
      await scene.end()
    }
    const owner = await visit(browser, scene.servers[0]!.url)
    await becomeOwner(owner, scene.adminToken)
    all = { scene, owner, there }
  }, 120_000)
  afterEach(() => expect(all?.owner.mishaps.splice(0)).toEqual([]))
  afterAll(() => end())
  return () => all!
}
