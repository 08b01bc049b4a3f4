import { existsSync } from 'node:fs'
import { chromium, type Page } from 'playwright-core'
import { startBeaconServer } from './support/beacon-server.ts'
import { withChildren } from './support/child.ts'
import { enrolRobots, reportFor } from './support/fleet.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { withPostgres } from './support/postgres.ts'
import { saveReport } from './support/report.ts'

// How many frames a second does the browser draw while somebody scrolls through a table of 10,000 robots, against as many
// lines that were drawn before and hold nothing?

const ROBOTS = 10_000
const ROUNDS = 5
const SECONDS = 4
/** At sixty frames a second some 135 rows. */
const PIXELS_PER_FRAME = 100
/** A frame that took longer than this was missed by somebody's eye: half a frame late at 60 a second. */
const LATE_MS = 25
const CHROMIUM = '/usr/bin/chromium'
const OWNER = { name: 'Bench', email: 'bench@example.com', password: 'only for an hour 4711' }

interface Scrolled {
  readonly framesPerSecond: number
  readonly lateShare: number
  readonly slowestMs: number
}

/** Scrolls the element down and up again, a step with each frame, and tells how long frames took. */
async function scrolled(page: Page, selector: string): Promise<Scrolled> {
  const script = `new Promise((resolve) => {
    const element = document.querySelector(${JSON.stringify(selector)})
    const took = []
    let down = ${PIXELS_PER_FRAME}
    let before = performance.now()
    const end = before + ${SECONDS * 1_000}
    element.scrollTop = 0
    requestAnimationFrame(function frame(now) {
      took.push(now - before)
      before = now
      if (element.scrollTop + element.clientHeight >= element.scrollHeight - 1) down = -${PIXELS_PER_FRAME}
      if (element.scrollTop <= 0) down = ${PIXELS_PER_FRAME}
      element.scrollTop += down
      if (now < end) requestAnimationFrame(frame)
      else resolve(took.slice(5))
    })
  })`
  const took = await page.evaluate<number[]>(script)
  const total = took.reduce((sum, ms) => sum + ms, 0)
  return {
    framesPerSecond: (took.length / total) * 1_000,
    lateShare: took.filter((ms) => ms > LATE_MS).length / took.length,
    slowestMs: Math.max(...took),
  }
}

if (!existsSync(CHROMIUM)) throw new Error(`this bench needs ${CHROMIUM}: apt-get install chromium`)

await withPostgres((databaseUrl) =>
  withChildren(async (start) => {
    const server = await startBeaconServer(start, { databaseUrl })
    const robots = await enrolRobots(databaseUrl, ROBOTS)
    await reportFor(databaseUrl, robots)
    const browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
    })
    try {
      const viewport = { width: 1280, height: 800 }
      const page = await browser.newPage({ viewport })
      await page.goto(`http://127.0.0.1:${server.port}/`)
      await page.getByRole('button', { name: 'First time here?' }).click()
      await page.getByLabel('Owner token').fill(server.ownerToken)
      await page.getByLabel('Your name').fill(OWNER.name)
      await page.getByLabel('Email').fill(OWNER.email)
      await page.getByLabel('Password').fill(OWNER.password)
      await page.getByRole('button', { name: 'Set up and sign in' }).click()
      await page.getByRole('checkbox', { name: 'Choose all that are loaded' }).click()
      await page.getByRole('button', { name: 'Choose all that pass the filter' }).click()
      await page.getByText(`${ROBOTS.toLocaleString('en')} robots chosen`).waitFor()
      await page.getByRole('button', { name: 'Choose none' }).click()

      const plain = await browser.newPage({ viewport })
      await plain.setContent(
        `<div id="lines" style="height: 600px; overflow-y: auto"><div style="height: ${ROBOTS * 44}px"></div></div>`,
      )
      const rounds = await alternate(ROUNDS, {
        table: async () => {
          await page.bringToFront()
          return scrolled(page, '.lines')
        },
        plain: async () => {
          await plain.bringToFront()
          return scrolled(plain, '#lines')
        },
      })
      const rates = (which: 'table' | 'plain') => rounds[which].map(({ framesPerSecond }) => framesPerSecond)
      await saveReport({
        name: 'fleet-table',
        question: 'Frames while scrolling through 10,000 robots, against an empty element of the same height',
        figures: [
          { what: 'frames/s in the table', spread: spreadOf(rates('table')), digits: 1, headline: true },
          { what: 'frames/s of the empty element', spread: spreadOf(rates('plain')), digits: 1 },
          {
            what: 'ratio',
            spread: spreadOf(ratiosOf(rates('table'), rates('plain'))),
            digits: 2,
            headline: true,
          },
          {
            what: `share of frames that took more than ${LATE_MS} ms`,
            spread: spreadOf(rounds.table.map(({ lateShare }) => lateShare)),
            digits: 3,
          },
          {
            what: 'slowest frame, ms',
            spread: spreadOf(rounds.table.map(({ slowestMs }) => slowestMs)),
            digits: 1,
          },
        ],
        settings: { robots: ROBOTS, rounds: ROUNDS, seconds: SECONDS, pixels_per_frame: PIXELS_PER_FRAME },
        rounds,
      })
    } finally {
      await browser.close()
    }
  }),
)
