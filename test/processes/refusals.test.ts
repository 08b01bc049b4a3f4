import { expect, test } from 'vitest'
import type { AuditEntry } from '../../src/db/audit.ts'
import { newId } from '../../src/ids.ts'
import type { FromProcess } from '../../src/processes/messages.ts'
import { MAX_REFUSALS_AT_ONCE, startTellingRefusals } from '../../src/processes/refusals.ts'
import { ManualClock } from '../support/clock.ts'

const refusal = (): AuditEntry => ({
  id: newId(),
  at: new Date('2026-01-01T00:00:00Z'),
  action: 'robot_session.refused',
  outcome: 'refused',
  actor: { kind: 'anonymous', id: null, name: null },
  target: null,
  siteId: null,
  fleetId: null,
  requestId: null,
  address: '192.0.2.1',
  data: {},
})

function scene() {
  const clock = new ManualClock()
  const told: number[] = []
  const takes: (() => void)[] = []
  const refusals = startTellingRefusals(clock, (message: FromProcess, sent) => {
    if (message.type === 'refusals') told.push(message.entries.length)
    if (sent) takes.push(sent)
  })
  const refuse = (times: number) => {
    for (let left = times; left > 0; left--) refusals.refused(refusal())
  }
  return { clock, told, refusals, refuse, supervisorTakes: () => takes.shift()!() }
}

test('refusals are told together, and each once', () => {
  const { clock, told, refuse, refusals, supervisorTakes } = scene()
  refuse(3)
  clock.advance(250)
  supervisorTakes()
  refuse(2)
  clock.advance(1_000)
  supervisorTakes()
  refuse(1)
  refusals.stop()
  expect(told).toEqual([3, 2, 1])
  expect(clock.pending).toBe(0)
})

test('a supervisor that takes nothing is told nothing more, and what waits for it is bounded', () => {
  const { clock, told, refuse, refusals, supervisorTakes } = scene()
  for (let seconds = 0; seconds < 10; seconds++) {
    refuse(1_100)
    clock.advance(1_000)
  }
  expect(told).toEqual([MAX_REFUSALS_AT_ONCE])
  supervisorTakes()
  clock.advance(250)
  expect(told).toEqual([MAX_REFUSALS_AT_ONCE, MAX_REFUSALS_AT_ONCE])
  // What there is at the end is told in any case.
  refuse(7)
  refusals.stop()
  expect(told.at(-1)).toBe(7)
})
