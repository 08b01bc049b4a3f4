import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ERRORS } from '../../src/errors.ts'
import { CLOSE, isFinalCloseCode } from '../../src/protocol/close-codes.ts'
import { decodeRobotFrame, decodeServerFrame } from '../../src/protocol/codec.ts'
import { robotFrameSchemas, serverFrameSchemas } from '../../src/protocol/frames.ts'
import * as allLimits from '../../src/protocol/limits.ts'
import { MAX_DEPTH } from '../../src/protocol/text.ts'

const limits = { ...allLimits }
const root = join(import.meta.dirname, '../..')
const docs = join(root, 'docs')
const text = readFileSync(join(docs, 'protocol.md'), 'utf8')

/** The rows of the table whose first column has this head, as trimmed cells. */
function table(head: string): string[][] {
  const rows = text
    .split('\n')
    .map((line) => (line.startsWith('|') ? line.slice(1, -1).split('|') : undefined))
    .map((cells) => cells?.map((cell) => cell.trim()))
  const first = rows.findIndex((cells) => cells?.[0] === head)
  const after = rows.slice(first + 2)
  const end = after.indexOf(undefined)
  return after.slice(0, end) as string[][]
}

test('the table of close codes is the one that the server goes by', () => {
  const rows = table('code')
  const told = rows.map(([code, reason]) => `${code} ${reason}`)
  const own = Object.values(CLOSE).map(({ code, reason }) => `${code} \`${reason}\``)
  expect(told.sort()).toEqual(['1000 `bye`', ...own].sort())
  for (const [code, , , what] of rows)
    if (Number(code) !== 1000)
      expect(what, code).toMatch(isFinalCloseCode(Number(code)) ? /^stop/ : /^come back/)
})

test('the table of limits says what both ends keep, and all of it', () => {
  const number = (value: number) => value.toLocaleString('en-US')
  const used = new Set<string>(['SUBPROTOCOL', 'PROTOCOL_VERSION', 'METRIC_NAME'])
  const of = (name: keyof typeof limits, value = limits[name]) => {
    used.add(name)
    return number(value as number)
  }
  expect(table('what').map(([what, limit]) => [what, limit])).toEqual([
    ['a frame', `${of('MAX_FRAME_BYTES')} bytes of UTF-8`],
    ['`hello` after the upgrade', `${of('HELLO_TIMEOUT_MS', limits.HELLO_TIMEOUT_MS / 1000)} s`],
    ['frames that are not taken, in a session', of('MAX_FRAME_ERRORS')],
    ['metrics in a heartbeat', of('MAX_METRICS')],
    ['faults in a heartbeat', of('MAX_FAULTS')],
    ['objects and lists in `network` and `data`', `${MAX_DEPTH} levels`],
    ['heartbeat interval', `${of('MIN_HEARTBEAT_INTERVAL_MS')} ms to ${of('MAX_HEARTBEAT_INTERVAL_MS')} ms`],
    ['silence until the robot is stale', `${of('STALE_AFTER_INTERVALS')} intervals`],
    [
      'silence until the robot is offline',
      `${of('OFFLINE_AFTER_INTERVALS')} intervals and ${of('OFFLINE_EXTRA_MS')} ms`,
    ],
    ['backoff', `${of('MAX_RECONNECT_BACKOFF_MS')} ms`],
    ['`reconnect_spread_ms`', `${of('MAX_RECONNECT_SPREAD_MS')} ms`],
    ['`clock_offset_ms`, either way', `${of('MAX_CLOCK_OFFSET_MS')} ms`],
  ])
  expect([...used].sort()).toEqual(Object.keys(limits).sort())
  expect(text).toContain(`\`${limits.METRIC_NAME.source}\``)
  expect(text).toContain(`Sec-WebSocket-Protocol: ${limits.SUBPROTOCOL}`)
  expect(text).toContain(`"protocol": ${limits.PROTOCOL_VERSION}`)
})

test('the table of error codes holds those that sessions are answered with, and no others', () => {
  const source = ['src/session/session.ts', 'src/protocol/codec.ts']
    .map((path) => readFileSync(join(root, path), 'utf8'))
    .join('\n')
  const said = [...source.matchAll(/(?:complain\(state,|[^_]fault\(|code:)\s*'([a-z_]+)'/g)].map(
    (found) => found[1]!,
  )
  expect(
    table('error code')
      .map(([code]) => code)
      .sort(),
  ).toEqual([...new Set(said)].map((code) => `\`${code}\``).sort())
})

describe('every frame that it shows', () => {
  const lines = [...text.matchAll(/^```json\n([\s\S]*?)^```$/gm)].flatMap((found) =>
    found[1]!.trim().split('\n'),
  )

  test.each(lines)('%s', (line) => {
    const { type } = JSON.parse(line) as { type: string }
    const { kind } = type in robotFrameSchemas ? decodeRobotFrame(line) : decodeServerFrame(line)
    expect(kind).toMatch(/^(frame|heartbeat)$/)
  })

  test('is one of every kind that there is', () => {
    const types = lines.map((line) => (JSON.parse(line) as { type: string }).type)
    const all = [...Object.keys(robotFrameSchemas), ...Object.keys(serverFrameSchemas)]
    expect(types.sort()).toEqual(all.sort())
  })
})

test('refusals and files that it names are there', () => {
  for (const code of ['claim_conflict', 'request_in_progress']) {
    expect(text).toContain(`\`${code}\``)
    expect(Object.keys(ERRORS)).toContain(code)
  }
  const links = [...text.matchAll(/\]\(([^)#]+)\)/g)].map((found) => found[1]!)
  expect(links.length).toBeGreaterThanOrEqual(5)
  for (const link of links) expect(existsSync(join(docs, link)), link).toBe(true)
})
