import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readBattery } from '../../../agent/ros2/mapping-battery.ts'
import { heartbeatBodySchema } from '../../../src/protocol/frames.ts'
import { batteryState } from './fake-ros.ts'

function battery(more: object, perHundred = false) {
  return readBattery(batteryState(more), perHundred)?.battery
}

test('charge, charging and voltage, without the noise of 32 bits', () => {
  expect(battery({})).toEqual({ charge: 0.81, charging: false, voltage: 25.2 })
})

test.each([
  [0, undefined],
  [1, true],
  [2, false],
  [3, false],
  [4, false],
  [77, undefined],
])('a power_supply_status of %d is charging: %s', (power_supply_status, charging) => {
  expect(battery({ power_supply_status })?.charging).toBe(charging)
})

test('a percentage that is not measured is charge by capacity, where these are', () => {
  expect(battery({ percentage: Number.NaN, charge: 2, capacity: 8 })?.charge).toBe(0.25)
  expect(battery({ percentage: -1, charge: 2, capacity: 8 })?.charge).toBe(0.25)
  for (const more of [{}, { charge: 2 }, { charge: 2, capacity: 0 }, { charge: 20, capacity: 8 }])
    expect(battery({ percentage: Number.NaN, ...more })).toBeUndefined()
  expect(readBattery(batteryState({ percentage: Number.NaN }), false)?.voltage).toBe(25.2)
})

test('a driver that tells 0 to 100 is found out, and believed only when it is asked for', () => {
  expect(readBattery(batteryState({ percentage: 81 }), false)).toMatchObject({
    battery: undefined,
    isOutOfScale: true,
  })
  expect(readBattery(batteryState({ percentage: 81 }), true)).toMatchObject({
    battery: { charge: 0.81 },
    isOutOfScale: false,
  })
  expect(battery({ percentage: 1.004 })?.charge).toBe(1)
  expect(battery({ percentage: -0.004 })?.charge).toBe(0)
})

test('which battery it is: by its place, else its frame, else its number', () => {
  const idOf = (more: object) => readBattery(batteryState(more), false)?.id
  expect(idOf({ location: 'left', serial_number: '7' })).toBe('left')
  expect(idOf({ header: { frame_id: 'base' }, serial_number: '7' })).toBe('base')
  expect(idOf({ serial_number: '7' })).toBe('7')
  expect(idOf({})).toBe('')
})

test('one that is not there is none; nor is another message', () => {
  expect(readBattery(batteryState({ present: false }), false)).toBeUndefined()
  for (const wrong of [undefined, null, 5, {}, [], { voltage: 3 }])
    expect(readBattery(wrong, false)).toBeUndefined()
})

test('whatever the fields hold, what comes of it is a battery that a heartbeat takes', () => {
  const anything = fc.oneof(fc.double(), fc.bigInt(), fc.anything())
  const message = fc.record({
    percentage: anything,
    charge: anything,
    capacity: anything,
    voltage: anything,
    power_supply_status: anything,
    location: fc.anything(),
    header: fc.anything(),
  })
  fc.assert(
    fc.property(message, fc.boolean(), (fields, perHundred) => {
      const read = readBattery(fields, perHundred)
      expect(heartbeatBodySchema.shape.battery.safeParse(read?.battery).success).toBe(true)
    }),
  )
})
