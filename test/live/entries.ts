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

/** The data of the one event in these bytes. */
// biome-ignore lint/suspicious/noExplicitAny: asserted by the test
export function dataOf(bytes: Buffer | null | undefined): any {
  if (!bytes) return bytes
  return JSON.parse(/^data: (.*)$/m.exec(bytes.toString())![1]!)
}
