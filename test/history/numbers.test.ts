import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteWriter, DamagedError } from '../../src/history/bytes.ts'
import { readNumbers, writeNumbers } from '../../src/history/numbers.ts'

function written(values: readonly number[]): Uint8Array {
  const writer = new ByteWriter()
  writeNumbers(writer, values)
  return writer.finish()
}

function backAndForth(values: readonly number[]): number[] {
  return readNumbers(new ByteReader(written(values)), values.length)
}

const LARGE = 2 ** 49

describe('a column of numbers', () => {
  test('comes back exactly, whatever it holds', () => {
    const anyNumber = fc.oneof(
      fc.double(),
      fc.integer(),
      fc.maxSafeInteger(),
      fc.integer({ min: -5_000, max: 5_000 }).map((value) => value / 100),
      fc.constantFrom(0, -0, Number.POSITIVE_INFINITY, Number.NaN, LARGE, -LARGE, LARGE + 1, -LARGE - 1),
    )
    fc.assert(
      fc.property(fc.array(anyNumber, { maxLength: 60 }), (values) => {
        const back = backAndForth(values)
        expect(back).toHaveLength(values.length)
        for (const [index, value] of values.entries()) expect(Object.is(back[index], value)).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  test.each([
    ['whole numbers of one kind', fc.integer({ min: -LARGE, max: LARGE })],
    ['decimals of three places', fc.integer({ min: -1e9, max: 1e9 }).map((value) => value / 1000)],
    ['decimals of ten places', fc.integer({ min: -1e9, max: 1e9 }).map((value) => value / 1e10)],
    ['times', fc.integer({ min: 0, max: 253_402_300_799_999 })],
  ])('comes back exactly, made of %s', (_, number) => {
    fc.assert(
      fc.property(fc.array(number, { minLength: 1, maxLength: 80 }), (values) => {
        expect(backAndForth(values)).toEqual(values)
      }),
    )
  })

  test('takes a bit or two where a number is as the one before, whatever comes between', () => {
    const steady = Array.from({ length: 360 }, (_, index) => 1e12 + index * 10_000)
    steady[200] = 2 ** 48
    expect(written(steady).length).toBeLessThan(360 / 8 + 40)
  })

  test('takes little more than what is random in it', () => {
    // 100 values of their own: 6.6 bits.
    const values = Array.from({ length: 360 }, (_, index) => ((index * 7919) % 100) / 1000)
    expect(written(values).length * 8).toBeLessThan(360 * 9)
  })

  test('that is damaged is told to be, and read into nothing endless', () => {
    const bytes = written([1, 5, 8, 1000, 3.25])
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (place, value, cut) => {
        const damaged = cut ? bytes.subarray(0, place) : bytes.with(place, value)
        try {
          expect(readNumbers(new ByteReader(damaged), 5)).toHaveLength(5)
        } catch (error) {
          expect(error).toBeInstanceOf(DamagedError)
        }
      }),
    )
  })
})
