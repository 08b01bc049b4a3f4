import { describe, expect, test } from 'vitest'
import { fingerprintOf, machineIdFor, readMachine } from '../../agent/machine.ts'
import { placesOf } from '../../agent/places.ts'
import { fingerprintSchema } from '../../src/protocol/enrolment.ts'
import { placesAt } from './support/agent-process.ts'

const ID = '3d1219c7c4c5404aaa1f6d2a48adfda4'
const usual = placesOf({ config: undefined, env: {}, isRoot: true, accountHome: '/root' })

describe('the machine', () => {
  test('is told by a hash that stays, never by its own id', () => {
    const told = machineIdFor(ID, usual)
    expect(told).toMatch(/^[0-9a-f]{64}$/)
    expect(told).not.toContain(ID)
    expect(machineIdFor(ID, usual)).toBe(told)
    expect(machineIdFor(`${ID.slice(1)}0`, usual)).not.toBe(told)
    expect(machineIdFor(undefined, usual)).toBeUndefined()
  })

  test('counts as another one for each config of its own, so that one computer can be several robots', () => {
    const ids = [usual, placesAt('/srv/one/agent.toml'), placesAt('/srv/two/agent.toml')].map((places) =>
      machineIdFor(ID, places),
    )
    expect(new Set(ids).size).toBe(3)
  })

  test('says of itself what a claim can hold', () => {
    const fingerprint = fingerprintOf(readMachine(usual))
    expect(fingerprintSchema.safeParse(fingerprint).error).toBeUndefined()
    expect(fingerprint).toMatchObject({ platform: process.platform, agent_version: expect.any(String) })
  })
})
