import fc from 'fast-check'
import type { JsonObject } from '../../src/history/columns.ts'

/** What PostgreSQL's jsonb can hold: no NUL, no half of a surrogate pair. */
const text = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((value) => !value.includes('\u0000'))
const name = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    'metrics',
    'health',
    '__proto__',
    'constructor',
    'toString',
    '',
    'a.b',
    '\u001e"\\',
  ),
  text,
)
const number = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer({ min: -100_000, max: 100_000 }).map((value) => value / 1000),
  fc.constantFrom(0, 0.1, 1e-7, 1e21, 1.7976931348623157e308, 5e-324, 2 ** 53),
)

const { value: anyJson } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    number,
    text,
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 3 }),
    objectOf(tie('value')),
  ),
}))

/** As JSON.parse makes it, with members of any name. */
function objectOf(value: fc.Arbitrary<unknown>): fc.Arbitrary<Record<string, unknown>> {
  return fc.array(fc.tuple(name, value), { maxLength: 4 }).map((entries) => {
    const texts = new Map(entries.map(([key, one]) => [JSON.stringify(key), JSON.stringify(one)]))
    return JSON.parse(`{${[...texts].map(([key, one]) => `${key}:${one}`).join(',')}}`) as Record<
      string,
      unknown
    >
  })
}

/** Bodies of any kind, those of heartbeats among them. Minus zero is no JSON of PostgreSQL's. */
export const anyBody = fc
  .oneof(
    objectOf(anyJson),
    fc.record(
      {
        health: fc.constantFrom('ok', 'warn', 'error', 'unknown'),
        mode: text,
        battery: fc.record({ charge: fc.integer({ min: 0, max: 1000 }).map((value) => value / 1000) }),
        pose: fc.record({ x: number, y: number, theta: number, frame: fc.constant('map') }),
        metrics: fc.dictionary(fc.stringMatching(/^[a-z]{1,3}$/), number, { maxKeys: 5 }),
        network: objectOf(anyJson),
      },
      { requiredKeys: [] },
    ),
  )
  .map((body) => withoutMinusZero(body) as JsonObject)

function withoutMinusZero(value: unknown): unknown {
  if (value === 0) return 0
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(withoutMinusZero)
  const entries = Object.entries(value).map(([key, one]) => [key, withoutMinusZero(one)] as const)
  return Object.fromEntries(entries)
}
