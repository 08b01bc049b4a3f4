import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseRequest } from '../../../agent/local/requests.ts'
import { POSE_TYPES } from '../../../agent/ros2/mapping-pose.ts'
import { Reports, SILENT_FAULT } from '../../../agent/ros2/reports.ts'
import { type Ros2Flags, readRos2Settings } from '../../../agent/ros2/settings.ts'
import { Teller } from '../../../agent/ros2/teller.ts'
import { ManualClock } from '../../support/clock.ts'
import { batteryState, diagnosticArray, navSatFix, poseStamped, status, turned } from './fake-ros.ts'

function heard(flags: Ros2Flags = {}) {
  const clock = new ManualClock()
  const reports = new Reports(clock, readRos2Settings(flags, {}))
  const line = (id: string) => reports.items.find((item) => item.id === id)?.line
  return { clock, reports, line }
}

describe('batteries', () => {
  test('of several the first by its place counts, whichever was heard last', () => {
    const { reports, line } = heard()
    for (const [location, percentage] of [
      ['rear', 0.2],
      ['front', 0.9],
      ['rear', 0.1],
    ])
      reports.heardBattery(batteryState({ location, percentage }))
    expect(line('battery')).toMatchObject({ battery: { charge: 0.9 } })
  })

  test('the named one alone counts', () => {
    const { reports, line } = heard({ battery: 'rear' })
    reports.heardBattery(batteryState({ location: 'front' }))
    expect(line('battery')).toBeUndefined()
    reports.heardBattery(batteryState({ location: 'rear', percentage: 0.2 }))
    expect(line('battery')).toMatchObject({ battery: { charge: 0.2 } })
  })

  test('one that knows how full it is counts before one that does not', () => {
    const { reports, line } = heard()
    reports.heardBattery(batteryState({ location: 'a', percentage: Number.NaN }))
    expect(line('battery')).toBeUndefined()
    expect(line('metric ros2_battery_voltage')).toMatchObject({ metric: { ros2_battery_voltage: 25.2 } })
    reports.heardBattery(batteryState({ location: 'b', percentage: 0.5 }))
    expect(line('battery')).toMatchObject({ battery: { charge: 0.5 } })
    expect(line('metric ros2_battery_voltage')).toBeUndefined()
  })

  test('one that fell silent is not the robot’s any more', () => {
    const { clock, reports, line } = heard()
    reports.heardBattery(batteryState())
    clock.advance(119_999)
    expect(line('battery')).toBeDefined()
    clock.advance(1)
    expect(line('battery')).toBeUndefined()
  })
})

describe('the pose', () => {
  const hear = (reports: Reports) =>
    reports.heardPose('geometry_msgs/msg/PoseStamped', poseStamped(1, 2, turned(1)))

  test('ends when it is not told again, unless the robot is known to stand still', () => {
    const { clock, reports, line } = heard()
    hear(reports)
    for (let second = 0; second < 100; second += 20) {
      clock.advance(20_000)
      reports.standsStill()
    }
    expect(line('pose')).toEqual({ pose: { frame: 'map', x: 1, y: 2, theta: 1 }, ttl_s: 120 })
    clock.advance(30_000)
    expect(line('pose')).toBeUndefined()
  })

  test('is taken back when a receiver says that it has no fix', () => {
    const { reports, line } = heard()
    reports.heardPose('sensor_msgs/msg/NavSatFix', navSatFix(52.5, 13.4))
    expect(line('pose')).toMatchObject({ pose: { lat: 52.5, lon: 13.4 } })
    reports.heardPose('sensor_msgs/msg/NavSatFix', navSatFix(0, 0, -1))
    expect(line('pose')).toBeUndefined()
    expect(reports.malformed).toBe(0)
  })
})

test('words of a fault that change all the time are told at long intervals, a graver level at once', () => {
  const { clock, reports } = heard({ silenceSeconds: 'off' })
  const teller = new Teller(clock, () => reports.items.filter(({ id }) => id.startsWith('fault')))
  const told: unknown[] = []
  const hear = (level: number, message: string) => {
    reports.heardDiagnostics(diagnosticArray(status(level, 'arm', message)))
    const line = teller.next()
    if (line) told.push((line as { fault: { raise: object } }).fault.raise)
    teller.answered(true)
  }
  for (let second = 0; second <= 600; second++) {
    hear(1, `${second} °C`)
    clock.advance(1_000)
  }
  expect(new Set(told.map((raise) => JSON.stringify(raise)))).toEqual(
    new Set(
      ['0 °C', '600 °C'].map((message) =>
        JSON.stringify({ code: 'ros2:arm', level: 'warn', message, ttl_s: 120 }),
      ),
    ),
  )
  // In between it was told again in the same words, before it could end.
  expect(told.length).toBeGreaterThan(10)
  hear(2, 'on fire')
  expect(told.at(-1)).toMatchObject({ level: 'error', message: 'on fire' })
})

describe('the bridge itself', () => {
  test('silence of diagnostics is a fault, from the start on, and ends with the first message', () => {
    const { clock, reports, line } = heard({ silenceSeconds: '60' })
    clock.advance(59_999)
    expect(line(`fault ${SILENT_FAULT}`)).toBeUndefined()
    clock.advance(1)
    expect(line(`fault ${SILENT_FAULT}`)).toMatchObject({ fault: { raise: { level: 'warn' } } })
    reports.heardDiagnostics(diagnosticArray(status(0, 'a')))
    expect(line(`fault ${SILENT_FAULT}`)).toBeUndefined()
    clock.advance(60_000)
    expect(line(`fault ${SILENT_FAULT}`)).toBeDefined()
  })

  test.each([{ silenceSeconds: 'off' }, { diagnosticsTopic: 'off' }])('with %j silence is none', (flags) => {
    const { clock, line } = heard(flags)
    clock.advance(1e9)
    expect(line(`fault ${SILENT_FAULT}`)).toBeUndefined()
  })

  test('counts what it could not read, and what the agent did not take', () => {
    const { clock, reports, line } = heard()
    reports.heardDiagnostics(diagnosticArray(status(0, 'a'), null))
    reports.heardBattery('x')
    reports.heardPose('nav_msgs/msg/Odometry', {})
    reports.refused()
    clock.advance(2_500)
    expect(line('metric ros2_malformed')).toMatchObject({ metric: { ros2_malformed: 3 } })
    expect(line('metric ros2_refused')).toMatchObject({ metric: { ros2_refused: 1 } })
    expect(line('metric ros2_diagnostics')).toMatchObject({ metric: { ros2_diagnostics: 1 } })
    expect(line('metric ros2_diagnostics_age_s')).toMatchObject({ metric: { ros2_diagnostics_age_s: 2.5 } })
  })
})

test('whatever is heard, every line is one that the agent takes', () => {
  // Halves of characters, too.
  const broken = fc
    .array(fc.integer({ min: 0xd7f0, max: 0xe010 }), { maxLength: 700 })
    .map((units) => String.fromCharCode(...units))
  const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 700 }), broken)
  const scalar = fc.oneof(fc.double(), fc.bigInt(), text, fc.constant(null), fc.boolean())
  const values = fc.array(
    fc.record({ key: fc.oneof(text, fc.constant('k')), value: fc.oneof(text, fc.double().map(String)) }),
  )
  const statuses = fc.array(
    fc.record({
      level: fc.oneof(fc.integer({ min: 0, max: 4 }), scalar),
      name: fc.oneof(text, fc.constant('a'), scalar),
      hardware_id: fc.oneof(text, scalar),
      message: fc.oneof(text, scalar),
      values: fc.oneof(values, fc.anything()),
    }),
    { maxLength: 40 },
  )
  const number = fc.oneof(fc.double(), scalar)
  const orientation = fc.record({ x: number, y: number, z: number, w: number })
  const pose = fc.record({ position: fc.record({ x: number, y: number }), orientation })
  const message = fc.oneof(
    fc.record({ status: statuses }),
    fc.record({ percentage: number, voltage: number, location: text }),
    fc.record({ pose, header: fc.record({ frame_id: text }) }),
    fc.record({ pose: fc.record({ pose }), header: fc.anything() }),
    fc.record({ latitude: number, longitude: number }),
    fc.anything(),
  )
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 12 }),
      fc.integer({ min: 0, max: 200_000 }),
      (messages, ms) => {
        const { clock, reports } = heard({ metric: ['a_k=a#k'] })
        for (const one of messages) {
          reports.heardDiagnostics(one)
          reports.heardBattery(one)
          for (const type of POSE_TYPES) reports.heardPose(type, one)
        }
        for (const later of [0, ms]) {
          clock.advance(later)
          for (const { line, undo } of reports.items)
            for (const request of [line, undo])
              expect(parseRequest(JSON.stringify(request))).toMatchObject({ ok: true })
        }
      },
    ),
  )
})
