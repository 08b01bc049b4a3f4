import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createSeal, SealError } from '../../src/access/seal.ts'
import { systemRandom } from '../../src/runtime.ts'

const key = randomBytes(32)
const seal = createSeal(key, systemRandom)

describe('a sealed text', () => {
  test('opens again, whatever it holds', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (text, context) => {
        expect(seal.open(seal.seal(text, context), context)).toBe(text)
      }),
    )
  })

  test('never looks the same twice, and shows nothing of the text', () => {
    const [one, two] = [seal.seal('rf_enroll_secret', 'key 1'), seal.seal('rf_enroll_secret', 'key 1')]
    expect(one.equals(two)).toBe(false)
    expect(one.toString('latin1')).not.toContain('secret')
  })

  test('opens in its own context alone', () => {
    const envelope = seal.seal('text', 'key 1')
    for (const other of ['key 2', 'key 1 ', '', 'key'])
      expect(() => seal.open(envelope, other)).toThrow(SealError)
  })

  test('that was changed anywhere does not open', () => {
    const envelope = seal.seal('text', 'context')
    for (let index = 0; index < envelope.length; index++) {
      const changed = Buffer.from(envelope)
      changed[index]! ^= 1
      expect(() => seal.open(changed, 'context'), `byte ${index}`).toThrow(SealError)
    }
    for (let length = 0; length < envelope.length; length++)
      expect(() => seal.open(envelope.subarray(0, length), 'context'), `${length} bytes`).toThrow(SealError)
  })

  test('opens with an older key that is still known, and with no other', () => {
    const rotated = createSeal(randomBytes(32), systemRandom, [key])
    const envelope = seal.seal('text', 'context')
    expect(rotated.open(envelope, 'context')).toBe('text')
    expect(() => seal.open(rotated.seal('text', 'context'), 'context')).toThrow('which is not here')
    expect(() => createSeal(randomBytes(32), systemRandom).open(envelope, 'context')).toThrow(SealError)
  })

  test('needs keys of 32 bytes', () => {
    for (const length of [0, 16, 31, 33]) {
      expect(() => createSeal(randomBytes(length), systemRandom)).toThrow(SealError)
      expect(() => createSeal(key, systemRandom, [randomBytes(length)])).toThrow(SealError)
    }
  })
})
