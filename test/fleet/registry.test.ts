import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Registry } from '../../src/fleet/registry.ts'
import { Robots } from '../../src/fleet/robots.ts'

class Link {
  sessionNo: number | undefined
  readonly robotId: string
  constructor(robotId: string) {
    this.robotId = robotId
  }
}

describe('registry', () => {
  it('lets the newest session stand for the robot', () => {
    const registry = new Registry(new Robots<Link>())
    const [first, second] = [new Link('r'), new Link('r')]
    registry.arrive(first)
    expect(registry.opened(first)).toBeUndefined()
    registry.arrive(second)
    expect(registry.current('r')).toBe(first)
    expect(registry.opened(second)).toBe(first)
    expect(registry.current('r')).toBe(second)
    registry.leave(first)
    expect(registry.current('r')).toBe(second)
  })

  it('keeps one socket that is not opened yet for each robot: the newest', () => {
    const registry = new Registry(new Robots<Link>())
    const [first, second] = [new Link('r'), new Link('r')]
    expect(registry.arrive(first)).toBeUndefined()
    expect(registry.arrive(second)).toBe(first)
    expect(registry.opened(first)).toBeUndefined()
    expect(registry.current('r')).toBeUndefined()
    expect(registry.of('r')).toEqual([second])
  })

  it('counts and lists what is there, whatever comes and goes', () => {
    const action = fc.record({ what: fc.constantFrom('arrive', 'open', 'leave'), which: fc.nat(9) })
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
        const robots = new Robots<Link>()
        const registry = new Registry(robots)
        const links = Array.from({ length: 10 }, (_, index) => new Link(`r${index % 3}`))
        const arrived = new Set<Link>()
        for (const { what, which } of actions) {
          const link = links[which]!
          if (what === 'arrive' && !arrived.has(link)) {
            arrived.add(link)
            registry.arrive(link)
          } else if (what === 'open') registry.opened(link)
          else if (what === 'leave') {
            registry.leave(link)
            arrived.delete(link)
          }
          const all = [...registry.all()]
          expect(registry.size).toBe(all.length)
          expect(new Set(all).size).toBe(all.length)
          for (const robot of ['r0', 'r1', 'r2']) expect(registry.of(robot).length).toBeLessThanOrEqual(2)
        }
        for (const link of links) registry.leave(link)
        expect([registry.size, robots.size]).toEqual([0, 0])
      }),
    )
  })
})
