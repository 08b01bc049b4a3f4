import { expect, it } from 'vitest'
import { readConfig } from '../src/config.ts'

const read = (text: string) => readConfig({ BEACON_RECONNECT_SPREAD_SECONDS: text }).reconnectSpreadMs

it('is worked out unless told, or told so', () => {
  expect(readConfig({}).reconnectSpreadMs).toBeUndefined()
  expect(read('auto')).toBeUndefined()
})

it('is a number of seconds up to two minutes', () => {
  expect(read('0')).toBe(0)
  expect(read('2.5')).toBe(2_500)
  expect(read('120')).toBe(120_000)
  for (const text of ['121', '-1', 'soon', '1e2'])
    expect(() => read(text), text).toThrow(/BEACON_RECONNECT_SPREAD_SECONDS/)
})
