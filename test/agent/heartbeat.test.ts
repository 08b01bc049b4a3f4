import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type HeartbeatSources, heartbeatText, mergeSources, readingToJudge } from '../../agent/heartbeat.ts'
import { decodeRobotFrame } from '../../src/protocol/codec.ts'
import { type HeartbeatBody, heartbeatBodySchema, heartbeatSchema } from '../../src/protocol/frames.ts'
import { MAX_FRAME_BYTES } from '../../src/protocol/limits.ts'

const AT = '2026-01-01T00:00:00Z'
type Fault = NonNullable<HeartbeatBody['faults']>[number]

function fault(code: string, level: Fault['level'] = 'warn', more: Partial<Fault> = {}): Fault {
  return { code, level, message: '', since: AT, ...more }
}

function sources(given: Partial<HeartbeatSources>): HeartbeatSources {
  return {
    reading: {},
    judgement: { health: 'ok', faults: [] },
    software: {},
    agentFaults: [],
    agentMetrics: {},
    roundTripMs: undefined,
    ...given,
  }
}

describe('of all sources one body is made', () => {
  test('the robot’s software knows the robot better than its computer does', () => {
    const reading = {
      battery: { charge: 0.05 },
      system: { cpu: 0.2 },
      network: { interface: 'wlan0' },
      metrics: { gpu_load: 0.3, arm: 1 },
    }
    const software = { battery: { charge: 0.9 }, mode: 'auto', metrics: { arm: 2 } }
    expect(
      mergeSources(sources({ reading, software, agentMetrics: { beacon_refused: 4 }, roundTripMs: 12 })),
    ).toEqual({
      health: 'ok',
      battery: { charge: 0.9 },
      mode: 'auto',
      system: { cpu: 0.2 },
      network: { interface: 'wlan0', rtt_ms: 12 },
      metrics: { arm: 2, beacon_refused: 4, gpu_load: 0.3 },
    })
    expect(readingToJudge(reading, software).battery).toEqual({ charge: 0.9 })
  })

  test('the gravest fault is the robot’s health', () => {
    const healthWith = (...faults: Fault[]) => mergeSources(sources({ software: { faults } })).health
    expect(healthWith()).toBe('ok')
    expect(healthWith(fault('a', 'debug'), fault('b', 'info'))).toBe('ok')
    expect(healthWith(fault('a', 'info'), fault('b', 'warn'))).toBe('warn')
    expect(healthWith(fault('a', 'error'), fault('b', 'warn'))).toBe('error')
    expect(healthWith(fault('a', 'fatal'))).toBe('error')
    expect(mergeSources(sources({ judgement: { health: 'warn', faults: [fault('hot')] } })).health).toBe(
      'warn',
    )
    expect(mergeSources(sources({ agentFaults: [fault('exec:x')] })).health).toBe('warn')
  })

  test('each fault is told once, and where there are too many the gravest and oldest stay', () => {
    const many = Array.from({ length: 31 }, (_, index) => fault(`s${index}`, 'info'))
    const judged = [fault('hot', 'warn'), fault('s0', 'fatal')]
    const { faults } = mergeSources(
      sources({
        software: { faults: many },
        judgement: { health: 'warn', faults: judged },
        agentFaults: [fault('exec:x', 'warn')],
      }),
    )
    expect(faults).toHaveLength(32)
    const codes = faults!.map(({ code }) => code)
    expect(codes).toContain('hot')
    expect(codes).toContain('exec:x')
    expect(codes).not.toContain('s30')
    expect(faults!.find(({ code }) => code === 's0')!.level).toBe('info')
  })

  test('where there is no room for all metrics, the software’s stay', () => {
    const metrics = Object.fromEntries(Array.from({ length: 63 }, (_, index) => [`m${index}`, index]))
    const merged = mergeSources(
      sources({
        software: { metrics },
        agentMetrics: { beacon_refused: 1 },
        reading: { metrics: { gpu_load: 1 } },
      }),
    )
    expect(merged.metrics).toEqual({ ...metrics, beacon_refused: 1 })
  })
})

describe('a heartbeat that is too long', () => {
  const body: HeartbeatBody = { health: 'error', mode: 'auto', metrics: { a: 1 } }
  const faults = (count: number, message: string) =>
    Array.from({ length: count }, (_, index) =>
      fault(`fault_${index}`, index === 20 ? 'fatal' : 'warn', { message }),
    )
  const written = (given: HeartbeatBody) => {
    const { text, isCut } = heartbeatText(1, AT, given)
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MAX_FRAME_BYTES)
    return { isCut, frame: heartbeatSchema.parse(JSON.parse(text)) }
  }

  test('is sent as it is when it fits', () => {
    const fitting = { ...body, faults: faults(24, 'x'.repeat(500)) }
    expect(written(fitting)).toEqual({
      isCut: false,
      frame: { type: 'heartbeat', seq: 1, at: AT, ...fitting },
    })
  })

  test('first loses the ends of its messages, then the messages, then the less grave faults', () => {
    const shortened = written({ ...body, faults: faults(32, 'x'.repeat(512)) })
    expect(shortened.isCut).toBe(true)
    expect(shortened.frame.faults!.map(({ message }) => message)).toEqual(
      Array(32).fill(`${'x'.repeat(100)}…`),
    )
    expect(shortened.frame).toMatchObject(body)

    const silent = written({ ...body, faults: faults(32, '\u0001'.repeat(512)) })
    expect(silent.frame.faults).toHaveLength(32)
    expect(new Set(silent.frame.faults!.map(({ message }) => message))).toEqual(new Set(['']))
    expect(silent.frame).toMatchObject(body)

    const codes = Array.from({ length: 32 }, (_, index) =>
      fault(`${'\u0001'.repeat(62)}${String(index).padStart(2, '0')}`, index === 20 ? 'fatal' : 'warn'),
    )
    const metrics = Object.fromEntries(
      Array.from({ length: 40 }, (_, index) => [`${'m'.repeat(60)}${index}`, index]),
    )
    const few = written({ ...body, activity: '\u0001'.repeat(256), faults: codes, metrics })
    expect(few.frame.metrics).toEqual(metrics)
    expect(few.frame.faults).toHaveLength(8)
    expect(few.frame.faults!.some(({ level }) => level === 'fatal')).toBe(true)
    expect(few.frame.activity).toHaveLength(256)
  })

  test('of a source that says something impossible only that is lost', () => {
    const broken = { ...body, system: { cpu: Number.NaN }, battery: { charge: 5 } }
    expect(written(broken)).toEqual({ isCut: false, frame: { type: 'heartbeat', seq: 1, at: AT, ...body } })
  })
})

test('whatever is told, the server takes the heartbeat, and health is never lost', () => {
  const wild = (max: number) =>
    fc.string({ unit: fc.constantFrom('a', '\u0001', '\\', '€', '𝄞', '"'), maxLength: max })
  const level = fc.constantFrom('debug', 'info', 'warn', 'error', 'fatal')
  const anyFault = fc.record({
    code: wild(32).map((text) => `c${text}`),
    level,
    message: wild(256),
    since: fc.constant(AT),
  }) as fc.Arbitrary<Fault>
  const metrics = fc.dictionary(
    fc.stringMatching(/^[a-z][a-z0-9_]{40,62}$/),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    { maxKeys: 64, size: 'max' },
  )
  const body = fc.record({
    health: fc.constant('error' as const),
    mode: wild(32),
    activity: wild(128),
    network: fc.dictionary(wild(20), wild(3_000), { maxKeys: 4 }),
    faults: fc.array(anyFault, { maxLength: 32, size: 'max' }),
    metrics,
  })
  fc.assert(
    fc.property(body, (given) => {
      fc.pre(heartbeatBodySchema.safeParse(given).success)
      const { text, isCut } = heartbeatText(7, AT, given)
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MAX_FRAME_BYTES)
      const decoded = decodeRobotFrame(text)
      expect(decoded.kind).toBe('heartbeat')
      const frame = JSON.parse(text)
      expect(frame.health).toBe('error')
      if (!isCut)
        expect(frame).toEqual(JSON.parse(JSON.stringify({ type: 'heartbeat', seq: 7, at: AT, ...given })))
    }),
    { numRuns: 150 },
  )
})
