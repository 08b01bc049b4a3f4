import { crc32, createGunzip, gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encode, openStream } from '../../src/live/coding.ts'

/** All that a reader gets who is told these. */
function sent(coding: 'gzip' | 'identity', texts: readonly string[]): Buffer {
  const stream = openStream(coding)
  return Buffer.concat([...texts.map((text) => stream.add(encode(coding, text))), stream.end()])
}

const texts = fc.array(
  fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    // About where texts begin to be deflated, and far beyond a block.
    fc.integer({ min: 1_300, max: 1_500 }).map((length) => 'robot'.repeat(length / 5)),
    fc
      .tuple(fc.string({ minLength: 1 }), fc.integer({ min: 0, max: 30_000 }))
      .map(([text, n]) => text.repeat(n)),
    fc
      .uint8Array({ minLength: 2_000, maxLength: 90_000 })
      .map((bytes) => Buffer.from(bytes).toString('base64')),
  ),
  { maxLength: 12 },
)

describe('a stream', () => {
  test('of gzip says what the parts say, and ends as it has to', () => {
    fc.assert(
      fc.property(texts, (all) => {
        // Throws where the length or the sum at the end is another.
        expect(String(gunzipSync(sent('gzip', all)))).toBe(all.join(''))
      }),
      { numRuns: 150 },
    )
  })

  test('of identity is the parts', () => {
    fc.assert(
      fc.property(texts, (all) => {
        expect(String(sent('identity', all))).toBe(all.join(''))
      }),
    )
  })

  test('says each part as soon as it has come', async () => {
    const stream = openStream('gzip')
    const decoded = createGunzip()
    const parts = decoded.iterator()
    for (const text of ['retry: 1\n\n', 'x'.repeat(100_000), ': still here\n\n']) {
      decoded.write(stream.add(encode('gzip', text)))
      let said = ''
      while (said.length < text.length) said += (await parts.next()).value
      expect(said).toBe(text)
    }
    decoded.destroy()
  })

  test('of gzip has an empty stored block at the end of each part, which some decoders wait for', () => {
    fc.assert(
      fc.property(texts, (all) => {
        for (const text of all)
          expect([...encode('gzip', text).bytes.subarray(-4)]).toEqual([0, 0, 0xff, 0xff])
      }),
    )
    expect(encode('gzip', ': still here\n\n').bytes.length).toBe(14 + 2 * 5)
  })

  test('shares parts among readers who were told different things before', () => {
    const shared = encode('gzip', JSON.stringify(Array.from({ length: 200 }, (_, n) => ({ robot: n }))))
    const early = openStream('gzip')
    const late = openStream('gzip')
    const first = early.add(encode('gzip', 'a'.repeat(5_000)))
    late.add(encode('gzip', 'b'))
    expect([early.add(shared), late.add(shared)]).toEqual([shared.bytes, shared.bytes])
    expect(String(gunzipSync(Buffer.concat([first, shared.bytes, early.end()])))).toMatch(/^a+\[.*\]$/)
  })

  test('takes the sum of a text as long as any', () => {
    // More than a double's bits of powers, were they counted one by one.
    const text = 'a fleet '.repeat(400_000)
    const stream = openStream('gzip')
    for (let index = 0; index < 3; index += 1) stream.add(encode('gzip', text))
    const end = stream.end()
    expect(end.readUInt32LE(end.length - 8)).toBe(crc32(text.repeat(3)))
    expect(end.readUInt32LE(end.length - 4)).toBe(text.length * 3)
  })

  test('takes no part that was made for another', () => {
    expect(() => openStream('gzip').add(encode('identity', 'a'))).toThrow('another coding')
  })
})
