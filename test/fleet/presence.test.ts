import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Presence, type PresenceChange } from '../../src/fleet/presence.ts'
import { Robots } from '../../src/fleet/robots.ts'

const INTERVAL = 10_000
const STALE = 25_000
const OFFLINE = 35_000
const TICK = 250

/** A Presence with a clock that ticks as the gateway does. */
function watch() {
  let now = 1_700_000_000_000
  const robots = new Robots()
  const presence = new Presence(robots, now)
  const pass = (ms: number): PresenceChange[] => {
    const changes: PresenceChange[] = []
    for (const end = now + ms; now < end; ) {
      now = Math.min(now + TICK, end)
      changes.push(...presence.tick(now))
    }
    return changes
  }
  const hear = (robotId: string, sessionNo: number) => presence.heard(robots.of(robotId), sessionNo, now)
  return { presence, robots, pass, hear, now: () => now, stall: (ms: number) => (now += ms) }
}

const words = (changes: readonly PresenceChange[]) =>
  changes.map((change) => `${change.connection} ${change.reason}`)

describe('presence', () => {
  it('is stale after 2.5 intervals of silence and offline after 3 and 5 s, not before', () => {
    const { presence, pass } = watch()
    presence.opened('r', 1, INTERVAL)
    expect(pass(STALE - TICK)).toEqual([])
    expect(words(pass(2 * TICK))).toEqual(['stale silent'])
    expect(pass(OFFLINE - STALE - 2 * TICK)).toEqual([])
    expect(words(pass(2 * TICK))).toEqual(['offline heartbeat_timeout'])
    expect(presence.watched).toBe(0)
  })

  it('comes back when the robot is heard again', () => {
    const { presence, pass, hear } = watch()
    presence.opened('r', 1, INTERVAL)
    pass(STALE + 1000)
    expect(hear('r', 1)).toMatchObject({ connection: 'online', reason: 'heard_again' })
    expect(hear('r', 1)).toBeUndefined()
    expect(pass(STALE - TICK)).toEqual([])
  })

  it('follows what was heard, not the socket: a lost connection is offline only after its silence', () => {
    const { presence, pass } = watch()
    presence.opened('r', 1, INTERVAL)
    presence.lost('r', 1, 'connection_lost')
    expect(words(pass(OFFLINE + TICK))).toEqual(['stale connection_lost', 'offline connection_lost'])
  })

  it('ends at once when the robot took its leave', () => {
    const { presence, pass, now } = watch()
    presence.opened('r', 1, INTERVAL)
    expect(presence.gone('r', 1, 'bye', now())).toMatchObject({ connection: 'offline', reason: 'bye' })
    expect(pass(2 * OFFLINE)).toEqual([])
  })

  it('counts only time in which the server could hear', () => {
    const { presence, pass, stall } = watch()
    presence.opened('r', 1, INTERVAL)
    pass(5_000)
    stall(10 * 60_000)
    expect(pass(TICK)).toEqual([])
    expect(pass(STALE - 5_000 - 2_000)).toEqual([])
    expect(words(pass(2_000))).toEqual(['stale silent'])
  })

  it('leaves alone a robot that the server itself does not read from', () => {
    const { presence, pass } = watch()
    presence.opened('r', 1, INTERVAL)
    presence.setDeaf('r', 1, true)
    expect(pass(10 * OFFLINE)).toEqual([])
    presence.setDeaf('r', 1, false)
    expect(words(pass(OFFLINE + TICK))).toEqual(['stale silent', 'offline heartbeat_timeout'])
  })

  it('is not moved by anything an older session does', () => {
    const { presence, pass, now } = watch()
    presence.opened('r', 1, INTERVAL)
    presence.opened('r', 2, INTERVAL)
    expect(presence.gone('r', 1, 'bye', now())).toBeUndefined()
    presence.lost('r', 1, 'connection_lost')
    expect(words(pass(OFFLINE + TICK))).toEqual(['stale silent', 'offline heartbeat_timeout'])
  })

  it('hears nothing through the record of a robot that it no longer watches', () => {
    const { presence, robots, pass, now } = watch()
    presence.opened('r', 1, INTERVAL)
    const record = robots.get('r')!
    pass(OFFLINE + TICK)
    expect(robots.size).toBe(0)
    expect(presence.heard(record, 1, now())).toBeUndefined()
    presence.opened('r', 2, INTERVAL)
    expect(presence.heard(record, 2, now())).toBeUndefined()
    expect(words(pass(STALE + TICK))).toEqual(['stale silent'])
  })

  it('lets go of a robot that a newer session elsewhere watches, and of no newer one', () => {
    const { presence } = watch()
    presence.opened('r', 2, INTERVAL)
    presence.handedOver('r', 2)
    presence.handedOver('unheard of', 9)
    expect(presence.sessionNoOf('r')).toBe(2)
    presence.handedOver('r', 3)
    expect([presence.sessionNoOf('r'), presence.watched]).toEqual([undefined, 0])
    expect(presence.sessionNoOf('unheard of')).toBeUndefined()
  })

  it('restates those that it watches, and no robot that has only a connection', () => {
    const { presence, robots, pass, now } = watch()
    presence.opened('quiet', 1, INTERVAL)
    pass(STALE + TICK)
    presence.opened('loud', 4, INTERVAL)
    robots.of('arriving').candidate = {}
    expect(presence.restate(now())).toEqual([
      { robotId: 'quiet', sessionNo: 1, connection: 'stale', reason: 'restated', since: now() },
      { robotId: 'loud', sessionNo: 4, connection: 'online', reason: 'restated', since: now() },
    ])
  })

  it('follows a changed interval', () => {
    const { presence, pass } = watch()
    presence.opened('r', 1, INTERVAL)
    presence.intervalChanged('r', 1, 1_000)
    expect(words(pass(3_000))).toEqual(['stale silent'])
  })

  it('agrees with a plain model for any mix of opening, hearing, losing and waiting', () => {
    const command = fc.oneof(
      fc.record({ kind: fc.constant('open' as const), robot: fc.nat(2) }),
      fc.record({ kind: fc.constant('hear' as const), robot: fc.nat(2) }),
      fc.record({ kind: fc.constant('lose' as const), robot: fc.nat(2) }),
      fc.record({ kind: fc.constant('leave' as const), robot: fc.nat(2) }),
      fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 40_000 }) }),
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const { presence, robots, pass, hear, now } = watch()
        const model = new Map<string, { sessionNo: number; heardAt: number; connection: string }>()
        const shown = new Map<string, string>()
        const take = (changes: readonly (PresenceChange | undefined)[]) => {
          for (const change of changes) if (change) shown.set(change.robotId, change.connection)
        }
        let sessions = 0
        for (const command of commands) {
          if (command.kind === 'wait') {
            take(pass(command.ms))
            for (const robot of model.values()) {
              const silence = now() - robot.heardAt
              if (robot.connection === 'offline') continue
              // Up to two slots late is right; a verdict before its time never is.
              if (silence >= OFFLINE + 2 * TICK) robot.connection = 'offline'
              else if (silence >= STALE + 2 * TICK && silence < OFFLINE) robot.connection = 'stale'
              else if (silence >= STALE) robot.connection = 'unsure'
            }
          } else {
            const id = `robot-${command.robot}`
            const robot = model.get(id)
            if (command.kind === 'open') {
              sessions += 1
              presence.opened(id, sessions, INTERVAL)
              model.set(id, { sessionNo: sessions, heardAt: now(), connection: 'online' })
              shown.set(id, 'online')
            } else if (robot && shown.get(id) !== 'offline') {
              if (command.kind === 'hear') {
                take([hear(id, robot.sessionNo)])
                Object.assign(robot, { heardAt: now(), connection: 'online' })
              } else if (command.kind === 'lose') presence.lost(id, robot.sessionNo, 'connection_lost')
              else {
                take([presence.gone(id, robot.sessionNo, 'bye', now())])
                robot.connection = 'offline'
              }
            }
          }
          for (const [id, robot] of model)
            if (robot.connection !== 'unsure') expect(shown.get(id)).toBe(robot.connection)
          // Who is offline leaves nothing behind.
          const watched = [...shown.values()].filter((connection) => connection !== 'offline').length
          expect([presence.watched, robots.size]).toEqual([watched, watched])
        }
      }),
    )
  })
})
