// Preloaded (`--import`) into a process whose wall clock a test sets: it is off by the milliseconds in BEACON_TEST_CLOCK, a
// file, read again at every look. Nothing else of the process is changed; the monotonic clock is the system's.
import { readFileSync } from 'node:fs'

const SystemDate = Date
const path = process.env.BEACON_TEST_CLOCK
const now = () => SystemDate.now() + Number(readFileSync(path, 'utf8'))

globalThis.Date = class extends SystemDate {
  constructor(...given) {
    super(...(given.length === 0 ? [now()] : given))
  }
  static now() {
    return now()
  }
}
