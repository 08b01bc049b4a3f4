import { describe, expect, test } from 'vitest'
import type { RobotEvent } from '../../dashboard/src/api/types.ts'
import {
  actorOf,
  closeText,
  happeningOf,
  reasonText,
  withNewest,
} from '../../dashboard/src/views/robot/happenings.ts'
import { hear, linesOf, oldAfterMs } from '../../dashboard/src/views/robot/said.ts'
import { CLOSE } from '../../src/protocol/close-codes.ts'

const AT = '2026-11-22T12:00:00.000Z'

function event(part: Partial<RobotEvent>): RobotEvent {
  return {
    id: 'e1',
    source: 'server',
    event_id: null,
    at: AT,
    received_at: AT,
    level: 'info',
    code: 'connected',
    message: '',
    data: {},
    ...part,
  }
}

describe('an event in words', () => {
  test('says why a session ended, with the code for those who look it up', () => {
    const lost = event({
      level: 'warn',
      code: 'disconnected',
      message: 'session 4 closed: 1006',
      data: { session_no: 4, close_code: 1006, reason: '', closed_by: 'network', lasted_ms: 125_000 },
    })
    expect(happeningOf(lost)).toEqual({
      title: 'Connection lost',
      detail:
        'the connection broke without a goodbye: network, power or a killed program (1006), after 2 min',
      tone: 'warn',
    })
    const restart = { close_code: 1012, reason: 'service_restart; reconnect_in_ms=4217', closed_by: 'server' }
    expect(happeningOf(event({ code: 'disconnected', data: restart }))).toMatchObject({
      title: 'The server ended the connection',
      detail: 'the server was stopped or started anew; robots come back by themselves (1012)',
    })
  })

  test('has words for every reason that the server closes for', () => {
    for (const { code, reason } of Object.values(CLOSE)) {
      expect(closeText(code, reason)).not.toContain('_')
      expect(closeText(code, reason)).toContain(`(${code})`)
      expect(reasonText(reason)).not.toContain('_')
    }
  })

  test('shows what it does not know as it came', () => {
    expect(closeText(4999, 'sunspots')).toBe('sunspots (4999)')
    expect(closeText(4999, '')).toBe('no reason was given (4999)')
    expect(closeText(1000, 'constructor')).toBe('constructor (1000)')
    expect(reasonText('struck_by_lightning')).toBe('struck by lightning')
    expect(happeningOf(event({ code: '__proto__', message: 'Hm' }))).toMatchObject({ title: 'Hm' })
    expect(happeningOf(event({ code: 'odd', message: '' })).title).toBe('odd')
  })

  test('names a fault once, and what is said of it', () => {
    const raised = event({
      level: 'error',
      code: 'fault_raised',
      message: 'motor_hot: Motor 2 at 96 C',
      data: { fault: 'motor_hot' },
    })
    expect(happeningOf(raised)).toEqual({
      title: 'Fault: motor_hot',
      detail: 'Motor 2 at 96 C',
      tone: 'error',
    })
    const bare = { ...raised, message: 'motor_hot' }
    expect(happeningOf(bare).detail).toBeUndefined()
    expect(happeningOf(event({ code: 'fault_cleared', data: { fault: 'motor_hot' } })).tone).toBe('ok')
  })

  test('says what became of labels and names', () => {
    const labels = { from: { zone: 'A', old: 'x' }, to: { zone: 'B', flag: '' } }
    expect(happeningOf(event({ code: 'labels_changed', data: labels })).detail).toBe(
      '+ zone=B, + flag, − old',
    )
    const renamed = event({ code: 'renamed', data: { from: 'cart-1', to: 'cart-2' } })
    expect(happeningOf(renamed).detail).toBe('cart-1 → cart-2')
  })

  test('stands even where its data is none of what was expected', () => {
    const odd = { session_no: 'x', close_code: 'x', reason: 7, lasted_ms: null, from: 3, to: [], fault: {} }
    for (const code of ['connected', 'disconnected', 'labels_changed', 'renamed', 'fault_raised', 'stale'])
      expect(happeningOf(event({ code, message: 'what was written', data: odd })).title).not.toBe('')
  })

  test('lets a robot speak in its own words, and not in the server’s name', () => {
    const told = event({
      source: 'robot',
      code: 'token_revoked',
      message: 'I am fine',
      data: { by_user: 'u1' },
    })
    expect(happeningOf(told)).toEqual({ title: 'I am fine', detail: undefined, tone: 'idle' })
    expect(actorOf(told)).toEqual({})
    expect(actorOf(event({ data: { by_user: 'u1' } }))).toEqual({ user: 'u1' })
    expect(actorOf(event({ data: { by_token: 't1' } }))).toEqual({ token: 't1' })
  })
})

describe('what is new on a timeline', () => {
  const events = (...ids: string[]) => ids.map((id) => event({ id }))

  test('comes on top, and nothing comes twice', () => {
    const known = events('c', 'b', 'a')
    expect(withNewest(known, events('d', 'c', 'b'), false)).toEqual({
      events: events('d', 'c', 'b', 'a'),
      hasGap: false,
    })
    expect(withNewest(known, events('c', 'b'), false).events).toBe(known)
  })

  test('begins anew where something between may be missing', () => {
    expect(withNewest(events('b', 'a'), events('z', 'y'), false)).toEqual({
      events: events('z', 'y'),
      hasGap: true,
    })
    expect(withNewest([], events('b', 'a'), false)).toEqual({ events: events('b', 'a'), hasGap: false })
  })
})

describe('what a robot said', () => {
  const beat = (at: string, rest: object) => ({ seq: 1, at, received_at: at, age_ms: 0, ...rest })

  test('stays with its age when the next heartbeat leaves it out', () => {
    const first = hear({}, beat(AT, { health: 'ok', battery: { charge: 0.5 } }))
    const later = '2026-11-22T12:00:10.000Z'
    const second = hear(first, beat(later, { health: 'warn', faults: [] }))
    expect(second).toEqual({
      health: { value: 'warn', at: later },
      battery: { value: { charge: 0.5 }, at: AT },
      faults: { value: [], at: later },
    })
    expect(hear(second, null)).toBe(second)
  })

  test('is old when a healthy robot would have said it again', () => {
    expect(oldAfterMs(10_000)).toBe(27_000)
  })

  test('is told line by line, whatever it is, and never without end', () => {
    expect(linesOf({ a: { b: 1, c: [] }, d: null, e: [true, 'x'] })).toEqual([
      ['a.b', '1'],
      ['a.c', '–'],
      ['d', 'null'],
      ['e.0', 'true'],
      ['e.1', 'x'],
    ])
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`n${index}`, index]))
    expect(linesOf(many)).toHaveLength(41)
    expect(linesOf(many).at(-1)).toEqual(['…', 'and 460 more'])
  })
})
