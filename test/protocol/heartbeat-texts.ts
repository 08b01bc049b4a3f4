import fc from 'fast-check'
import { EVENT_LEVELS, HEALTH } from '../../src/protocol/frames.ts'

/** Texts of heartbeats: valid ones in every form that JSON allows, and others. */

const space = fc.constantFrom('', '', '', '', ' ', '\n', '\t ', '\r\n')

/** A number as JSON may write it, in a range that most members take. */
const numberText = fc.oneof(
  { weight: 40, arbitrary: fc.integer({ min: -1e6, max: 1e9 }).map((value) => JSON.stringify(value / 1000)) },
  {
    weight: 4,
    arbitrary: fc.double({ min: -1000, max: 1000, noNaN: true }).map((value) => JSON.stringify(value)),
  },
  { weight: 30, arbitrary: fc.integer({ min: 0, max: 200 }).map(String) },
  {
    weight: 1,
    arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...['-0', '0.0', '-0.0', '1.50', '1e400', '-1e400', '1e5', '1E-5', '0.1e+2', '1e-400'],
      ...[
        '12345678901234567',
        '123456789012345678',
        '0.12345678901234567',
        '9007199254740993',
        '1.0000000000000001',
      ],
      ...['01', '+1', '1.', '.5', '-', 'NaN', 'Infinity', '0x10', '1_0', '90.000000000000001', '180.5'],
    ),
  },
)
const ratioText = fc.oneof(
  { weight: 60, arbitrary: fc.nat(1000).map((value) => JSON.stringify(value / 1000)) },
  { weight: 4, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }).map((value) => JSON.stringify(value)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('0', '1', '1.0', '0.99999999999999999', '1.0000000000000001', '-0', '1.1'),
  },
  { weight: 1, arbitrary: numberText },
)
const booleanText = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom('true', 'false') },
  { weight: 1, arbitrary: fc.constantFrom('null', '1') },
)

/** Quoted: plain, with escapes, with whatever may go wrong. */
const stringText = (max: number) =>
  fc.oneof(
    { weight: 30, arbitrary: fc.string({ maxLength: 8 }).map((text) => JSON.stringify(text)) },
    {
      weight: 1,
      arbitrary: fc.string({ unit: 'grapheme', maxLength: 4 }).map((text) => JSON.stringify(text)),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(max - 1, max, max + 1).map((length) => `"${'é'.repeat(length)}"`),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '"\ud800"',
        '"\udc00x"',
        '"\ud83e\udd16"',
        '"\\u0000"',
        '"\\ud800"',
        '"\u007f\u2028"',
        '"\u0001"',
        '"\\x"',
        '""',
        'null',
        '5',
      ),
    },
  )

const instantText = fc.oneof(
  {
    weight: 20,
    arbitrary: fc
      .date({ min: new Date(0), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true })
      .map((date) => `"${date.toISOString()}"`),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(
        ...['2026-02-29T00:00:00Z', '2024-02-29T00:00:00Z', '2000-02-29T00:00:00Z', '2100-02-29T00:00:00Z'],
        ...['2026-02-30T00:00:00Z', '2026-04-31T00:00:00Z', '2026-12-31T23:59:60Z', '2026-12-31T24:00:00Z'],
        ...['2026-01-01t00:00:00Z', '2026-01-01T00:00:00z', '2026-01-01 00:00:00Z', '2026-01-01T00:00:00'],
        ...[
          '2026-01-01T00:00Z',
          '2026-01-01T00:00:00.Z',
          '2026-01-01T00:00:00,5Z',
          '2026-01-01T00:00:00+0900',
        ],
        ...[
          '2026-01-01T00:00:00+09',
          '2026-01-01T00:00:00+24:00',
          '2026-01-01T00:00:00+09:60',
          '2026-1-01T00:00:00Z',
        ],
        ...[
          '1970-01-01T00:00:00+00:01',
          '1969-12-31T23:59:00-00:01',
          '1970-01-01T00:00:00-00:00',
          '1969-12-31T23:59:59Z',
        ],
        ...[
          '9999-12-31T23:59:59.999999Z',
          '9999-12-31T23:59:59-00:01',
          '9999-12-31T23:59:59+00:01',
          '0000-01-01T00:00:00Z',
        ],
        ...[
          '10000-01-01T00:00:00Z',
          '+002026-01-01T00:00:00Z',
          '-2026-01-01T00:00:00Z',
          '2026-00-01T00:00:00Z',
        ],
        ...[
          '2026-01-00T00:00:00Z',
          '2026-13-01T00:00:00Z',
          '2026-01-01T00:60:00Z',
          '2026-01-01T00:00:00.1234567890123Z',
        ],
        ...[
          '2026-01-01T00:00:00.999999999+14:00',
          '2026-01-01T00:00:00+15:59',
          '2026-01-01T00:00:00-15:59',
          '2026-01-01T00:00:00+16:00',
          '2026-01-01T00:00:00-23:59',
          `2026-01-01T00:00:00.${'1'.repeat(30)}Z`,
          `2026-01-01T00:00:00.${'1'.repeat(31)}Z`,
          '2026-01-01',
          '',
          ' 2026-01-01T00:00:00Z',
          '２026-01-01T00:00:00Z',
        ],
      )
      .map((text) => `"${text}"`),
  },
  { weight: 1, arbitrary: fc.constantFrom('null', '0', '"\\u0032026-01-01T00:00:00Z"') },
)
const seqText = fc.oneof(
  { weight: 20, arbitrary: fc.nat().map(String) },
  { weight: 4, arbitrary: fc.maxSafeNat().map(String) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...[
        '0',
        '-0',
        '-1',
        '1.0',
        '1e3',
        '1.5',
        '01',
        '9007199254740991',
        '9007199254740992',
        '999999999999999',
      ],
      ...['1000000000000000', '"1"', 'null', '1e400', '0.0'],
    ),
  },
)

const clockOffsetText = fc.oneof(
  { weight: 20, arbitrary: fc.integer().map(String) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...['0', '-0', '1.0', '1.5', '1e3', '01', '-01', '-', '+1', '""', 'null', '999999999999999'],
      ...['253402300799999', '-253402300799999', '253402300800000', '-253402300800000', '1000000000000000'],
    ),
  },
)

type Member = readonly [name: string, value: string]

/** An object of some of these members, in any order, now and then with one twice, with spaces wherever they may be. */
function objectText(members: readonly fc.Arbitrary<Member>[], needed = 0, rare = 0): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.tuple(...members),
      fc.array(fc.nat(members.length - rare - 1), { maxLength: members.length }),
      fc.nat(60),
      fc.infiniteStream(space),
    )
    .map(([all, order, oddity, spaces]) => {
      const places = [...new Set([...Array.from({ length: needed }, (_, index) => index), ...order])]
      if (oddity === 0) places.push(...places.slice(0, 1))
      if (oddity === 1) places.shift()
      if (oddity >= 2 && oddity <= 8) places.reverse()
      if (oddity === 9) places.push(...places.splice(0, 2))
      for (let last = 1; oddity === 10 && last <= rare; last++) places.push(members.length - last)
      const next = () => spaces.next().value
      const inner = places
        .map((place) => all[place]!)
        .map(([name, value]) => `${next()}${name}${next()}:${next()}${value}${next()}`)
      return `{${inner.join(',') || next()}}`
    })
}

const member = (name: string, value: fc.Arbitrary<string>): fc.Arbitrary<Member> =>
  value.map((text) => [`"${name}"`, text] as const)

const freeText: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: fc.json({ maxDepth: 3 }) },
  { weight: 1, arbitrary: numberText },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '[[[[[1]]]]]',
      '[[[[[[1]]]]]]',
      '{"a":{"b":{"c":{"d":{}}}}}',
      '[]',
      '{ }',
      '[1,]',
    ),
  },
)
const networkName = fc.oneof(
  fc.string({ maxLength: 6 }).map((name) => JSON.stringify(name)),
  fc.constantFrom(
    '"__proto__"',
    '"constructor"',
    '"a"',
    '"a"',
    '"\\u0061"',
    '"toString"',
    '"\ud800"',
    '""',
    '"é"',
  ),
)
const networkText = fc
  .array(fc.tuple(networkName, freeText), { maxLength: 4 })
  .map((members) => `{${members.map(([name, value]) => `${name}:${value}`).join(',')}}`)

const metricName = fc.oneof(
  { weight: 60, arbitrary: fc.stringMatching(/^[a-z][a-z0-9_]{0,10}$/).map((name) => `"${name}"`) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...['"A"', '"1a"', '"_a"', '"a-b"', '""', '"__proto__"', '"constructor"', '"\\u0061"', '"é"'],
      ...[`"${'a'.repeat(63)}"`, `"${'a'.repeat(64)}"`],
    ),
  },
)
const metricsText = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .array(fc.tuple(metricName, numberText), { maxLength: 6 })
      .map((metrics) => `{${metrics.map(([name, value]) => `${name}:${value}`).join(',')}}`),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(63, 64, 65)
      .map((count) => `{${Array.from({ length: count }, (_, index) => `"m${index}":${index}`).join(', ')}}`),
  },
)
const faultText = fc
  .record({
    code: fc.string({ maxLength: 10 }),
    level: fc.constantFrom(...EVENT_LEVELS, 'bad'),
    message: fc.string({ maxLength: 10 }),
    since: fc.constantFrom('2026-01-01T00:00:00Z', 'yesterday'),
  })
  .map((fault) => JSON.stringify(fault))

const numbers = (...names: string[]) => names.map((name) => member(name, numberText))
const ratios = (...names: string[]) => names.map((name) => member(name, ratioText))

/** Mostly valid. */
export const heartbeatTexts: fc.Arbitrary<string> = fc
  .tuple(
    space,
    objectText(
      [
        member(
          'type',
          fc.oneof(
            { weight: 30, arbitrary: fc.constant('"heartbeat"') },
            {
              weight: 1,
              arbitrary: fc.constantFrom('"Heartbeat"', '"heart\\u0062eat"', '"bye"', '"x"', '5'),
            },
          ),
        ),
        member('seq', seqText),
        member('at', instantText),
        member(
          'health',
          fc.constantFrom(
            ...HEALTH.flatMap((health) => Array<string>(8).fill(`"${health}"`)),
            '"OK"',
            'null',
          ),
        ),
        member('mode', stringText(64)),
        member('activity', stringText(256)),
        member(
          'battery',
          objectText([...ratios('charge'), member('charging', booleanText), ...numbers('voltage')], 1),
        ),
        member(
          'pose',
          fc.oneof(
            objectText([member('frame', stringText(64)), ...numbers('x', 'y', 'theta')], 4),
            objectText(numbers('lat', 'lon'), 2),
            objectText([...numbers('lat', 'lon', 'x'), member('frame', stringText(64))], 2),
          ),
        ),
        member(
          'system',
          objectText([
            ...ratios('cpu', 'memory', 'disk'),
            ...numbers('temperature_c'),
            ...ratios('load_1m', 'uptime_s'),
          ]),
        ),
        member(
          'network',
          fc.oneof(
            {
              weight: 20,
              arbitrary: fc.constantFrom('{"ssid":"hall 3","rssi":-61}', '{ }', '{"a":[1,{"b":null}],"":[]}'),
            },
            { weight: 9, arbitrary: networkText },
            { weight: 1, arbitrary: freeText },
          ),
        ),
        member('estop', booleanText),
        member(
          'faults',
          fc.oneof(
            fc.constantFrom('[]', '[ ]', '[ \n]'),
            fc.constant('[]'),
            fc.constant('[]'),
            fc.constant('[]'),
            fc.array(faultText, { maxLength: 2 }).map((faults) => `[${faults.join(',')}]`),
          ),
        ),
        member('metrics', metricsText),
        member('clock_offset_ms', clockOffsetText),
        member('clock_unsure', fc.constantFrom('true', 'true', 'false', 'null', '1', 'tru', '"true"')),
        member('colour', freeText),
      ],
      3,
      1,
    ),
    space,
  )
  .map((parts) => parts.join(''))

const CHARACTERS = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  ' ',
  '0',
  '1',
  '9',
  '-',
  '.',
  'e',
  'E',
  '+',
  'n',
  't',
  'Z',
  '_',
  'é',
  '\ud800',
  '\u0000',
  '\n',
  '\ufeff',
  '/',
]

/** One to three characters left out, put in, changed or doubled, or two texts cut and joined. */
export function mutated(texts: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const change = fc.tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.nat(4),
    fc.constantFrom(...CHARACTERS),
  )
  return fc.tuple(texts, fc.array(change, { minLength: 1, maxLength: 3 })).map(([text, changes]) =>
    changes.reduce((current, [where, how, character]) => {
      const at = Math.floor(where * current.length)
      const [before, after] = [current.slice(0, at), current.slice(at)]
      switch (how) {
        case 0:
          return before + after.slice(1)
        case 1:
          return before + character + after
        case 2:
          return before + character + after.slice(1)
        case 3:
          return before + after.slice(0, 7) + after
        default:
          return before
      }
    }, text),
  )
}

const START = '{"type":"heartbeat","seq":1,"at":"2026-01-01T00:00:00Z"'

/** Each has been, or might have been, read in two ways. */
export const nastyHeartbeats: readonly string[] = [
  '',
  ' ',
  '{}',
  '{',
  START,
  `${START}}`,
  ` ${START}} `,
  `${START}}}`,
  `${START}} x`,
  `${START},}`,
  `${START},"health":"ok"}`,
  `${START},"health":"ok",}`,
  `${START},"health":"ok"]`,
  `\ufeff${START}}`,
  `\u00a0${START}}`,
  `${START}}\u0000`,
  `${START},"seq":2}`,
  `${START},"health":"ok","seq":2}`,
  `${START},"health":"ok","health":"bad"}`,
  `${START},"health":"bad","health":"ok"}`,
  `${START},"__proto__":{"health":"error"}}`,
  `${START},"constructor":1}`,
  `${START},"network":{"__proto__":{"a":1},"a":2}}`,
  `${START},"network":{"a":{"__proto__":5}}}`,
  `${START},"network":{"a":1,"a":2}}`,
  `${START},"network":{"a":"\\ud800"}}`,
  `${START},"network":{"\\u0000":1}}`,
  `${START},"network":{"a":1e400}}`,
  `${START},"network":{"a":1e400,"a":1}}`,
  `${START},"network":[]}`,
  `${START},"network":null}`,
  `${START},"network":{"a":[[[[1]]]]}}`,
  `${START},"network":{"a":[[[[[1]]]]]}}`,
  `${START},"network":{"a":[[[[]]]]}}`,
  `${START},"network":{"a":[[[[{}]]]]}}`,
  `${START},"network":${'{"a":'.repeat(3000)}1${'}'.repeat(3000)}}`,
  `${START},"network":${'['.repeat(8000)}}`,
  `${START},"metrics":{"a":-0}}`,
  `${START},"metrics":{"a":-0.0,"b":0.10}}`,
  `${START},"metrics":{"a":1e400}}`,
  `${START},"metrics":{"a":${'9'.repeat(400)}}}`,
  `${START},"metrics":{"a":0.${'3'.repeat(400)}}}`,
  `${START},"metrics":{"a":1,"a":2}}`,
  `${START},"metrics":{"__proto__":1}}`,
  `${START},"metrics":{"a":1 2}}`,
  `${START},"metrics":{${Array.from({ length: 65 }, () => '"a":1').join(',')}}}`,
  `${START},"metrics":{"a":1,}}`,
  `${START},"metrics":[]}`,
  `${START},"battery":{}}`,
  `${START},"battery":{"charge":1.00000000000000000001}}`,
  `${START},"battery":{"charge":0.99999999999999999999}}`,
  `${START},"battery":{"charge":-0}}`,
  `${START},"battery":{"charge":2,"charge":1}}`,
  `${START},"system":{}}`,
  `${START},"system":{"cpu":null}}`,
  `${START},"system":{"load_1m":-0}}`,
  `${START},"pose":{"lat":90,"lon":-180}}`,
  `${START},"pose":{"lat":90.0000000000000001,"lon":180.0000000000000001}}`,
  `${START},"pose":{"lat":90.1,"lon":0}}`,
  `${START},"pose":{"lat":1,"lon":2,"x":3}}`,
  `${START},"pose":{"frame":"m","x":1,"y":2,"theta":3,"lat":1,"lon":2}}`,
  `${START},"pose":{"frame":"m","x":1,"y":2}}`,
  `${START},"mode":"${'x'.repeat(64)}"}`,
  `${START},"mode":"${'x'.repeat(65)}"}`,
  `${START},"mode":"\ud83e\udd16"}`,
  `${START},"mode":"\udd16\ud83e"}`,
  `${START},"mode":"a\tb"}`,
  `${START},"mode":"a\u007fb"}`,
  `${START},"mode":"\u2028"}`,
  `${START},"mode":"a`,
  `${START},"mode":"a\\`,
  `${START},"mode":"a\\"}`,
  `${START},"faults":[]}`,
  `${START},"faults":[null]}`,
  `${START},"faults":[{"code":"a","level":"error","message":"","since":"2026-01-01T00:00:00Z"}]}`,
  `${START},"clock_offset_ms":0}`,
  `${START},"clock_offset_ms":-0}`,
  `${START},"clock_offset_ms":-5}`,
  `${START},"clock_offset_ms":12.0}`,
  `${START},"clock_offset_ms":1e2}`,
  `${START},"clock_offset_ms":253402300799999}`,
  `${START},"clock_offset_ms":253402300800000}`,
  `${START},"clock_offset_ms":-253402300800000}`,
  `${START},"clock_offset_ms":00}`,
  `${START},"clock_offset_ms":-}`,
  `${START},"clock_offset_ms":5,"clock_offset_ms":6}`,
  `${START},"clock_unsure":true}`,
  `${START},"clock_unsure":false}`,
  `${START},"clock_unsure":1}`,
  `${START},"clock_unsure":true,"clock_unsure":true}`,
  `${START},"clock_unsure_":true}`,
  `${START},"estop":truefalse}`,
  `${START},"estop":tru}`,
  `${START},"estop":TRUE}`,
  `${START},"activity":"${'ä'.repeat(256)}"}${' '.repeat(20_000)}`,
  `${START}}${' '.repeat(16 * 1024 - START.length - 1)}`,
  `${START}}${' '.repeat(16 * 1024 - START.length)}`,
  `${START},"network":{"a":"${'ä'.repeat(8_000)}"}}`,
  `${START},"network":{"a":"${'ä'.repeat(8_200)}"}}`,
  '{"health":"ok","type":"heartbeat","seq":1,"at":"2026-01-01T00:00:00Z"}',
  '{"at":"2026-01-01T00:00:00Z","seq":1,"health":"ok","type":"heartbeat"}',
  '{"type":"heartbeat","seq":1}',
  '{"type":"heartbeat","type":"heartbeat","seq":1,"at":"2026-01-01T00:00:00Z"}',
  '{"type":"heartbeat","type":"bye","seq":1,"at":"2026-01-01T00:00:00Z"}',
  '[{"type":"heartbeat","seq":1,"at":"2026-01-01T00:00:00Z"}]',
  "{'type':'heartbeat','seq':1,'at':'2026-01-01T00:00:00Z'}",
]
