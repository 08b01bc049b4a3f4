import { expect, test } from 'vitest'
import { ConfigError, readConfig } from '../src/config.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR

test('each level of the history is kept as long as is said, or as long as does not fill a small disk', () => {
  expect(readConfig({}).history).toEqual({ rawMs: 48 * HOUR, minutesMs: 14 * DAY, hoursMs: 400 * DAY })
  const given = {
    BEACON_HISTORY_HOURS: '1.5',
    BEACON_HISTORY_MINUTES_DAYS: '30',
    BEACON_HISTORY_HOURS_DAYS: '3650',
  }
  expect(readConfig(given).history).toEqual({ rawMs: 1.5 * HOUR, minutesMs: 30 * DAY, hoursMs: 3650 * DAY })
})

test.each([
  ['BEACON_HISTORY_HOURS', '0'],
  ['BEACON_HISTORY_HOURS', 'forever'],
  ['BEACON_HISTORY_MINUTES_DAYS', '0.5'],
  ['BEACON_HISTORY_HOURS_DAYS', '-1'],
  ['BEACON_HISTORY_HOURS_DAYS', '4000'],
])('%s=%s is refused', (name, value) => {
  expect(() => readConfig({ [name]: value })).toThrow(ConfigError)
  expect(() => readConfig({ [name]: value })).toThrow(name)
})
