import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { backoffCeiling } from '../../agent/backoff.ts'
import { type Ending, nextMove, SETTLED_AFTER_MS } from '../../agent/ending.ts'
import { CLOSE } from '../../src/protocol/close-codes.ts'

const closed = (code: number, more: Partial<Extract<Ending, { kind: 'closed' }>> = {}): Ending => ({
  kind: 'closed',
  code,
  reason: '',
  livedMs: undefined,
  spreadMs: 0,
  comeBackInMs: undefined,
  comesBackAtOnce: false,
  ...more,
})
const fractions = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

describe('after an attempt to hold a session', () => {
  test('only 401 and the final close codes end the agent', () => {
    const endings = fc.oneof(
      fc.record({ kind: fc.constant('unreachable' as const), why: fc.string() }),
      fc.record({
        kind: fc.constant('refused' as const),
        status: fc.integer({ min: 0, max: 999 }),
        code: fc.constantFrom(undefined, 'invalid_token', 'robot_retired'),
        why: fc.string(),
        notBeforeMs: fc.option(fc.nat(), { nil: undefined }),
      }),
      fc.record({
        kind: fc.constant('closed' as const),
        code: fc.integer({ min: 1000, max: 4999 }),
        reason: fc.string(),
        livedMs: fc.option(fc.nat(), { nil: undefined }),
        spreadMs: fc.nat({ max: 120_000 }),
        comeBackInMs: fc.option(fc.nat({ max: 3_600_000 }), { nil: undefined }),
        comesBackAtOnce: fc.boolean(),
      }),
    )
    fc.assert(
      fc.property(endings, fc.nat({ max: 100 }), fractions, (ending, attempt, fraction) => {
        const move = nextMove(ending, attempt, fraction)
        const isFinal =
          (ending.kind === 'refused' && ending.status === 401 && ending.code !== undefined) ||
          (ending.kind === 'closed' && ending.code >= 4500)
        expect(move.kind).toBe(isFinal ? 'exit' : 'retry')
      }),
    )
  })

  test('every final close code of the protocol has a sentence of its own', () => {
    const final = Object.values(CLOSE).filter(({ code }) => code >= 4500)
    const sentences = final.map(({ code }) => nextMove(closed(code), 0, 0).sentence.replace(/\(\d+\)/, ''))
    expect(new Set(sentences).size).toBe(final.length)
  })

  test('a pause that the server asks for is never cut short', () => {
    fc.assert(
      fc.property(fc.nat({ max: 3_600_000 }), fc.nat({ max: 50 }), fractions, (asked, attempt, fraction) => {
        const moves = [
          nextMove(
            { kind: 'refused', status: 503, code: undefined, why: '', notBeforeMs: asked },
            attempt,
            fraction,
          ),
          nextMove(closed(1012, { comeBackInMs: asked }), attempt, fraction),
        ]
        for (const move of moves) {
          if (move.kind !== 'retry') throw new Error('it must come back')
          expect(move.delayMs).toBeGreaterThanOrEqual(asked)
          expect(move.delayMs).toBeLessThan(asked + backoffCeiling(attempt))
        }
      }),
    )
  })

  test('the backoff grows with each failure and begins anew after a session that stood', () => {
    expect(nextMove(closed(1006), 5, 0.5)).toMatchObject({ delayMs: 16_000, nextAttempt: 6 })
    expect(nextMove(closed(1006, { livedMs: 100 }), 5, 0.5)).toMatchObject({ nextAttempt: 6 })
    expect(nextMove(closed(1006, { livedMs: SETTLED_AFTER_MS }), 5, 0.5)).toMatchObject({
      delayMs: 500,
      nextAttempt: 1,
    })
  })

  test('a Retry-After is obeyed to the second, however many there were before', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1_000, max: 3_600_000 }),
        fc.nat({ max: 50 }),
        fractions,
        (asked, attempt, fraction) => {
          const move = nextMove(
            { kind: 'refused', status: 503, code: 'overloaded', why: '', notBeforeMs: asked },
            attempt,
            fraction,
          )
          if (move.kind !== 'retry') throw new Error('it must come back')
          // Within that second, evenly: whole seconds would bunch robots.
          expect(move.delayMs).toBe(asked + Math.floor(fraction * 1_000))
          expect(move.nextAttempt).toBe(attempt + 1)
        },
      ),
    )
  })

  test('a Retry-After of nothing leaves it to the backoff', () => {
    const refused = (notBeforeMs: number | undefined) =>
      nextMove({ kind: 'refused', status: 503, code: undefined, why: '', notBeforeMs }, 4, 0.5)
    expect(refused(0)).toMatchObject({ delayMs: 8_000 })
    expect(refused(undefined)).toMatchObject({ delayMs: 8_000 })
  })

  test('a settled robot returns exactly when the server asked for it', () => {
    const move = nextMove(closed(1012, { livedMs: SETTLED_AFTER_MS, comeBackInMs: 1_234 }), 3, 0.9)
    expect(move).toMatchObject({ delayMs: 1_234, nextAttempt: 0 })
  })
})

describe('the spread of a lost session', () => {
  const lost = closed(1006, { livedMs: SETTLED_AFTER_MS, spreadMs: 100_000 })

  test('spreads a fleet evenly over it, and comes once: then the backoff goes on from its second step', () => {
    fc.assert(
      fc.property(fc.nat({ max: 50 }), fractions, (attempt, fraction) => {
        const move = nextMove(lost, attempt, fraction)
        expect(move).toMatchObject({ delayMs: Math.floor(100_000 * fraction), nextAttempt: 1 })
        const next = nextMove({ kind: 'unreachable', why: 'nobody there' }, 1, fraction)
        expect(next).toMatchObject({ delayMs: Math.floor(2_000 * fraction) })
      }),
    )
  })

  test('is for sessions that stood, and that no token was changed in', () => {
    for (const ending of [
      { ...lost, livedMs: SETTLED_AFTER_MS - 1 },
      { ...lost, livedMs: undefined },
    ])
      expect(nextMove(ending as Ending, 0, 0.5)).toMatchObject({ delayMs: 500 })
    expect(nextMove({ ...lost, comesBackAtOnce: true } as Ending, 0, 0.5)).toMatchObject({ delayMs: 0 })
  })

  test('is told, so that nobody takes a robot that waits for one that is stuck', () => {
    expect(nextMove(lost, 0, 0.42).sentence).toBe(
      'connection lost (1006); trying again in 42 s, for the server spreads its robots over 2 min',
    )
  })
})

describe('a session left for a new token', () => {
  const renewed = (livedMs: number) => closed(1000, { comesBackAtOnce: true, livedMs })

  test('is followed by another at once', () => {
    expect(nextMove(renewed(10), 0, 0.9)).toMatchObject({ kind: 'retry', delayMs: 0, isPlanned: true })
    expect(nextMove(renewed(SETTLED_AFTER_MS), 7, 0.9)).toMatchObject({ delayMs: 0, nextAttempt: 1 })
  })

  test('is followed ever more slowly when the server wants no end of them', () => {
    for (const attempt of [1, 2, 5])
      expect(nextMove(renewed(10), attempt, 0.999)).toMatchObject({
        delayMs: Math.floor(backoffCeiling(attempt) * 0.999),
        nextAttempt: attempt + 1,
      })
  })
})

describe('a refusal is of the token alone', () => {
  test('when the token is revoked or unknown, and not when the robot is retired', () => {
    const refused = (code: string | undefined) =>
      nextMove({ kind: 'refused', status: 401, code, why: 'no', notBeforeMs: undefined }, 0, 0)
    expect(refused('token_revoked')).toMatchObject({ isOfToken: true })
    expect(refused('invalid_token')).toMatchObject({ isOfToken: true })
    expect(refused('a_code_of_later')).toMatchObject({ isOfToken: true })
    expect(refused(undefined)).toMatchObject({ kind: 'retry' })
    expect(refused('robot_retired')).toMatchObject({ isOfToken: false })
    expect(nextMove(closed(4501), 0, 0)).toMatchObject({ isOfToken: true })
    for (const code of [4502, 4503, 4504, 4510, 4511, 4599])
      expect(nextMove(closed(code), 0, 0)).toMatchObject({ isOfToken: false })
  })
})
