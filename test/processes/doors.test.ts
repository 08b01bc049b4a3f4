import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Door, whoListens } from '../../src/processes/doors.ts'

const room: Door = { state: 'room', listens: true }
const full: Door = { state: 'full', listens: true }
const leaving: Door = { state: 'leaving', listens: true }
const away = (door: Door): Door => ({ ...door, listens: false })

describe('the shared port is for', () => {
  test.each<[string, Door[], boolean[]]>([
    ['everybody with room', [room, room, room], [true, true, true]],
    ['those with room alone', [room, full, leaving], [true, false, false]],
    ['whoever has room again, too', [room, away(room)], [true, true]],
    ['the last one, when it fills up', [away(full), full], [false, true]],
    ['one that is full until the one with room is there', [full, away(room)], [true, true]],
    ['one that is full after the last one has died', [away(full), away(full)], [true, false]],
    ['one that is full rather than one that leaves', [leaving, full], [false, true]],
    ['one that leaves, until the full one is back', [leaving, away(full)], [true, true]],
    ['all as they are, when all leave', [leaving, away(leaving), leaving], [true, false, true]],
    ['nobody, when nobody runs', [], []],
  ])('%s', (_, doors, listen) => {
    expect(whoListens(doors)).toEqual(listen)
  })
})

const state = fc.constantFrom<Door['state']>('room', 'full', 'leaving')

/** Processes fill up, leave, die and come, and follow what they are told late and in any order. */
test('somebody is always there, and in the end nobody without room beside one with room', () => {
  const action = fc.oneof(
    fc.record({ type: fc.constant('becomes' as const), who: fc.nat(4), state }),
    fc.record({ type: fc.constant('follows' as const), who: fc.nat(4) }),
  )
  fc.assert(
    fc.property(fc.array(state, { minLength: 1, maxLength: 5 }), fc.array(action), (states, actions) => {
      const all = states.map((state) => ({ state, isThere: true, told: true }))
      const decide = () => {
        const doors = all.map(({ state, isThere, told }) => ({ state, listens: isThere && told }))
        whoListens(doors).forEach((told, index) => {
          all[index]!.told = told
        })
      }
      const follow = (index: number) => {
        all[index]!.isThere = all[index]!.told
        decide()
      }
      decide()
      for (const action of actions) {
        const who = all[action.who]
        if (!who) continue
        if (action.type === 'becomes') {
          who.state = action.state
          decide()
        } else follow(action.who)
        expect(all.some(({ isThere, told }) => isThere && told)).toBe(true)
      }
      for (let round = 0; round < 3; round += 1) for (const index of all.keys()) follow(index)
      const listening = all.filter(({ isThere }) => isThere)
      expect(listening.length).toBeGreaterThan(0)
      for (const { state, isThere } of all) if (state === 'room') expect(isThere).toBe(true)
      if (all.some(({ state }) => state === 'room'))
        expect(listening.filter(({ state }) => state !== 'room')).toEqual([])
    }),
  )
})
