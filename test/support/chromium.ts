import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const PLACES = [
  process.env.BEACON_TEST_CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/** Nothing of its own goes over the network, and root may start it. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-quic',
]

/**
 * The Chromium that tests of the page drive, or undefined after one line that says that they are left out. In a pipeline
 * (`CI`) they are not: it throws.
 */
export function chromiumOrLeaveOut(what: string): string | undefined {
  const found = PLACES.find((path) => path && existsSync(path))
  if (found !== undefined) return found
  const how = `${what}: no Chromium; get it with: apt-get install chromium, or name one in BEACON_TEST_CHROMIUM`
  if (process.env.CI) throw new Error(how)
  process.stderr.write(`LEFT OUT: ${how}\n`)
  return undefined
}

/** Starts it without a window; whoever starts it closes it. */
export function startChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, args: ARGUMENTS })
}
