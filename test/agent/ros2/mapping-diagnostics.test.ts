import fc from 'fast-check'
import { expect, test } from 'vitest'
import { codeOf, readDiagnostics } from '../../../agent/ros2/mapping-diagnostics.ts'
import { faultSchema } from '../../../src/protocol/frames.ts'
import { diagnosticArray, status } from './fake-ros.ts'

function codes(...statuses: unknown[]): string[] {
  return readDiagnostics(diagnosticArray(...statuses))!.statuses.map(({ code }) => code)
}

test('each level of a status is read, as number, as byte and as big integer', () => {
  const levels = [0, 1, 2, 3].flatMap((level) => [level, new Uint8Array([level]), BigInt(level)])
  const read = levels.map(
    (level) => readDiagnostics(diagnosticArray({ ...status(0, 'a'), level }))!.statuses[0]!.level,
  )
  expect(read).toEqual(['ok', 'warn', 'error', 'stale'].flatMap((level) => [level, level, level]))
})

test('a code says name and hardware as they are', () => {
  expect(
    codes(
      status(1, 'lidar: Scan frequency', '', { hardware_id: 'SN-12' }),
      status(1, '/Sensors/IMU'),
      status(1, 'motor', '', { hardware_id: 'none' }),
      status(1, '', '', { hardware_id: 'gps' }),
    ),
  ).toEqual([
    'ros2:lidar: Scan frequency@SN-12',
    'ros2:/Sensors/IMU',
    'ros2:motor',
    expect.stringMatching(/^ros2:gps~/),
  ])
})

test('codes stay the same over versions of the agent: rules of operators name them', () => {
  expect(codeOf('a@b', '')).toBe('ros2:a@b~bf2eefd325')
  expect(codeOf('battery '.repeat(20), 'SN-1')).toBe(
    'ros2:battery battery battery battery battery battery~f0111373b9',
  )
  expect(codeOf('a\nb', '')).toMatch(/^ros2:a b~[0-9a-f]{10}$/)
})

test('a code is never cut in the middle of a character', () => {
  for (const name of ['😀'.repeat(60), `a${'😀'.repeat(60)}`])
    expect(faultSchema.shape.code.safeParse(codeOf(name, '')).success).toBe(true)
})

test('different statuses have different codes, and all of them are fit for a heartbeat', () => {
  const broken = fc
    .array(fc.integer({ min: 0xd7f0, max: 0xe010 }))
    .map((units) => String.fromCharCode(...units))
  const part = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 120 }),
    broken,
    fc.constantFrom('a', 'a@b', 'b', '@'),
  )
  fc.assert(
    fc.property(part, part, part, part, (name, hardware, otherName, otherHardware) => {
      const code = codeOf(name, hardware)
      expect(faultSchema.shape.code.safeParse(code).success).toBe(true)
      if (name !== otherName || hardware !== otherHardware)
        expect(codeOf(otherName, otherHardware)).not.toBe(code)
    }),
  )
})

test('of two reports of one status in a message the graver one counts', () => {
  const read = readDiagnostics(diagnosticArray(status(2, 'a', 'first'), status(1, 'a', 'second')))!
  expect(read.statuses).toMatchObject([{ level: 'error', message: 'first' }])
})

test('what is no status is counted, and costs the others nothing', () => {
  const read = readDiagnostics(
    diagnosticArray(null, 7, {}, status(9, 'level'), status(-1, 'b'), status(1, ''), status(1, 'fine'), {
      ...status(1, 'x'),
      level: '1',
    }),
  )!
  expect(read.statuses.map(({ name }) => name)).toEqual(['fine'])
  expect(read.malformed).toBe(7)
  for (const wrong of [undefined, null, 5, 'x', {}, { status: 'x' }, { status: new Uint8Array(3) }])
    expect(readDiagnostics(wrong)).toBeUndefined()
})

test('a message with more statuses than a robot can have is read up to a bound', () => {
  const read = readDiagnostics({
    status: Array.from({ length: 5_000 }, (_, number) => status(1, `s${number}`)),
  })!
  expect(read.statuses).toHaveLength(1_000)
  expect(read.malformed).toBe(4_000)
})
