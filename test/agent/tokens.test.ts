import { describe, expect, test } from 'vitest'
import { TokenKeeper, type Tokens } from '../../agent/tokens.ts'

/** A keeper, and what it has written down; `fail` makes the disk refuse. */
function keeperOf(tokens: Tokens) {
  const disk = { tokens, writes: 0, fails: false }
  const keeper = new TokenKeeper(tokens, (changed) => {
    if (disk.fails) throw new Error('no space')
    disk.tokens = changed
    disk.writes += 1
  })
  return { keeper, disk }
}

describe('a next token', () => {
  test('is on the disk beside the old one before anybody hears of it', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: undefined })
    expect(keeper.prepareNext(() => 'new')).toBe('new')
    expect(disk.tokens).toEqual({ current: 'old', next: 'new' })
  })

  test('is nowhere when it cannot be written', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: undefined })
    disk.fails = true
    expect(() => keeper.prepareNext(() => 'new')).toThrow('no space')
    expect(keeper.tokens).toEqual({ current: 'old', next: undefined })
    expect(keeper.toUse).toBe('old')
  })

  test('is made once, however often it is asked for', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: undefined })
    let made = 0
    const mint = () => `new ${++made}`
    expect([keeper.prepareNext(mint), keeper.prepareNext(mint)]).toEqual(['new 1', 'new 1'])
    expect(disk.writes).toBe(1)
  })

  test('is used first, and ends the old one with the session that it opens', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: 'new' })
    expect(keeper.toUse).toBe('new')
    expect(keeper.opened('new')).toBe(true)
    expect(disk.tokens).toEqual({ current: 'new', next: undefined })
  })

  test('that is refused gives way to the old one, and goes only when that has opened a session', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: 'new' })
    expect(keeper.refused('new')).toBe(true)
    expect(keeper.toUse).toBe('old')
    expect(disk.tokens).toEqual({ current: 'old', next: 'new' })
    expect(keeper.opened('old')).toBe(false)
    expect(disk.tokens).toEqual({ current: 'old', next: undefined })
  })

  test('stays when both are refused, for whoever refused may have been nobody', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: 'new' })
    keeper.refused('new')
    expect(keeper.refused('old')).toBe(false)
    expect(disk.tokens).toEqual({ current: 'old', next: 'new' })
  })

  test('is tried when the old one is refused in the middle of a session', () => {
    const { keeper } = keeperOf({ current: 'old', next: undefined })
    keeper.opened('old')
    keeper.prepareNext(() => 'new')
    expect(keeper.refused('old')).toBe(true)
    expect(keeper.toUse).toBe('new')
  })

  test('stays after a session with the old one that was opened before anybody refused it', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: undefined })
    keeper.prepareNext(() => 'new')
    expect(keeper.opened('old')).toBe(false)
    expect(disk.tokens.next).toBe('new')
  })

  test('counts in memory even when its victory cannot be written', () => {
    const { keeper, disk } = keeperOf({ current: 'old', next: 'new' })
    disk.fails = true
    expect(() => keeper.opened('new')).toThrow('no space')
    expect(keeper.toUse).toBe('new')
    expect(disk.tokens).toEqual({ current: 'old', next: 'new' })
  })
})

test('a token without a next one is used until it is refused', () => {
  const { keeper, disk } = keeperOf({ current: 'only', next: undefined })
  expect(keeper.toUse).toBe('only')
  expect(keeper.opened('only')).toBe(false)
  expect(keeper.refused('only')).toBe(false)
  expect(disk.writes).toBe(0)
})
