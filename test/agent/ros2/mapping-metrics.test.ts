import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readDiagnostics } from '../../../agent/ros2/mapping-diagnostics.ts'
import { metricsOf, numberOf, parseMetricRule } from '../../../agent/ros2/mapping-metrics.ts'
import { diagnosticArray, status } from './fake-ros.ts'

test('a rule names a metric, a status and a key; the last # counts', () => {
  expect(parseMetricRule('cpu_temp=CPU: Temperature#Core 0')).toEqual({
    metric: 'cpu_temp',
    status: 'CPU: Temperature',
    key: 'Core 0',
  })
  expect(parseMetricRule('a=motor #3#load=x')).toEqual({ metric: 'a', status: 'motor #3', key: 'load=x' })
  for (const wrong of [
    '',
    'a',
    'a=b',
    '=b#c',
    'a=#c',
    'a=b#',
    'A=b#c',
    '1=b#c',
    'beacon_x=b#c',
    'ros2_x=b#c',
  ])
    expect(parseMetricRule(wrong), wrong).toMatch(/^must/)
})

test.each([
  ['12.5', 12.5],
  [' -3 ', -3],
  ['85 %', 85],
  ['41.2 C', 41.2],
  ['41.2°C', 41.2],
  ['1e-3', 0.001],
  ['0.3 m/s', 0.3],
  ['.5', 0.5],
  ['True', 1],
  ['false', 0],
])('the value %j is %d', (text, number) => {
  expect(numberOf(text)).toBe(number)
})

test.each(['', 'nan', 'inf', 'Infinity', '1e999', 'ok', '12:30', '1.2.3', '3 of 4', '0x10', '5 (low)'])(
  'the value %j is no number',
  (text) => {
    expect(numberOf(text)).toBeUndefined()
  },
)

test('no text makes it throw, or give what is no number', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.double().map(String)), (text) => {
      const number = numberOf(text)
      expect(number === undefined || Number.isFinite(number)).toBe(true)
    }),
  )
})

test('only what is asked for becomes a metric', () => {
  const { statuses } = readDiagnostics(
    diagnosticArray(
      status(0, 'cpu', '', {
        values: [
          { key: 'load', value: '55 %' },
          { key: 'cores', value: '4' },
        ],
      }),
      status(0, 'arm', '', { hardware_id: 'left', values: [{ key: 'load', value: '7' }] }),
      status(0, 'arm', '', {
        hardware_id: 'right',
        values: [{ key: 'load', value: 'n/a' }, null, { key: 1 }],
      }),
    ),
  )!
  const rules = ['cpu_load=cpu#load', 'left_load=arm@left#load', 'right_load=arm@right#load'].map(
    (rule) => parseMetricRule(rule) as Exclude<ReturnType<typeof parseMetricRule>, string>,
  )
  expect(Object.fromEntries(metricsOf(statuses, rules))).toEqual({ cpu_load: 55, left_load: 7 })
  expect(metricsOf(statuses, []).size).toBe(0)
})
