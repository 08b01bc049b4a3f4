import type { Part } from '../../src/live/coding.ts'
import type { Entry, Facts } from '../../src/live/robot.ts'

let version = 0

/** A robot as the store has it. */
export function entry(id: string, facts: Partial<Facts> = {}, heartbeat = 0): Entry {
  const whole: Facts = {
    id,
    foldedName: `robot ${id}`,
    siteId: 'site',
    fleetId: 'fleet',
    labels: {},
    connection: 'online',
    health: 'ok',
    lifecycle: 'active',
    credentialId: null,
    tokenCredentialId: null,
    hasFaults: false,
    ...facts,
  }
  version += 1
  const status = JSON.stringify(whole)
  return {
    version: String(version),
    facts: whole,
    heardAt: 1_000,
    status,
    full: `${status.slice(0, -1)},"heartbeat":{"seq":${heartbeat},"age_ms":`,
  }
}

/** The data of the one event in this. */
// biome-ignore lint/suspicious/noExplicitAny: asserted by the test
export function dataOf(part: Part | null | undefined): any {
  if (!part) return part
  return JSON.parse(/^data: (.*)$/m.exec(String(part.bytes))![1]!)
}
