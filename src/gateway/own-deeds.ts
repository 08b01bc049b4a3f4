import type { AuditEntry } from '../db/audit.ts'
import { newId } from '../ids.ts'

interface ActingRobot {
  readonly robotId: string
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
}

/** What the audit log says of something that a robot did to itself, from this address. */
export function ownDeed(
  robot: ActingRobot,
  action: `robot.${string}`,
  from: { readonly address: string | null; readonly at: Date },
  data: Readonly<Record<string, unknown>> = {},
): AuditEntry {
  const itself = { kind: 'robot' as const, id: robot.robotId, name: robot.name }
  return {
    id: newId(),
    at: from.at,
    action,
    outcome: 'ok',
    actor: itself,
    target: itself,
    siteId: robot.siteId,
    fleetId: robot.fleetId,
    requestId: null,
    address: from.address,
    data,
  }
}
