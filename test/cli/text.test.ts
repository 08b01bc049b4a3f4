import { describe, expect, test } from 'vitest'
import { EXIT } from '../../src/cli/failure.ts'
import { age, duration, hoursOf, labelsOf, printable, printableJson, remaining } from '../../src/cli/text.ts'

describe('text from elsewhere', () => {
  test.each([
    ['\u001b[31mred\u0007', '\\u001b[31mred\\u0007'],
    ['two\nlines\r', 'two\\u000alines\\u000d'],
    ['\u009b2J', '\\u009b2J'],
    ['evil\u202etxt.exe', 'evil\\u202etxt.exe'],
    ['Zürich – 東京 🤖', 'Zürich – 東京 🤖'],
  ])('%j is printed as %j', (text, printed) => {
    expect(printable(text)).toBe(printed)
  })

  test('stays the same value as JSON, without a control character in it', () => {
    const value = { name: 'a\u001b[2J\u009b\u202e', list: ['\n'] }
    const text = printableJson(value, 2)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: looking for them is the point
    expect(text.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/)
    expect(JSON.parse(text)).toEqual(value)
  })
})

describe('times', () => {
  test.each([
    [0, '0 s'],
    [3_900, '3 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [7_200_000, '2 h'],
    [86_400_000 * 40, '40 d'],
    [-5, '0 s'],
  ])('%i ms are %s', (ms, text) => {
    expect(duration(ms)).toBe(text)
  })

  test.each([
    [86_400_000 * 30 - 40, '30 d'],
    [3_600_000 - 900, '1 h'],
    [59_400, '59 s'],
    [59_900, '1 min'],
    [86_400_000 - 1, '1 d'],
    [-5, '0 s'],
  ])('%i ms to come are %s', (ms, text) => {
    expect(remaining(ms)).toBe(text)
  })

  test('an age needs a time', () => {
    expect(age('2026-01-01T00:00:00Z', Date.UTC(2026, 0, 1, 0, 0, 42))).toBe('42 s')
    expect(age(null, 0)).toBe('-')
  })

  test.each([
    ['24h', 24],
    ['7d', 168],
    ['2w', 336],
    ['90min', 1.5],
    ['never', null],
  ])('%s is %s hours', (text, hours) => {
    expect(hoursOf(text)).toBe(hours)
  })

  test.each(['', '0h', '-1d', '24', 'soon', '1e3h'])('%j is refused', (text) => {
    expect(() => hoursOf(text)).toThrow(expect.objectContaining({ exitCode: EXIT.usage }))
  })
})

describe('labels', () => {
  test('are pairs, and the value may hold anything', () => {
    expect(labelsOf(['floor=2', 'note=a=b', 'empty='])).toEqual({ floor: '2', note: 'a=b', empty: '' })
  })

  test.each(['floor', '=2'])('%j is refused', (pair) => {
    expect(() => labelsOf([pair])).toThrow(expect.objectContaining({ exitCode: EXIT.usage }))
  })
})
