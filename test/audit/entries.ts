import type { AuditEntry } from '../../src/db/audit.ts'
import { newId } from '../../src/ids.ts'

/** A line of the log with something in every field. */
export function entry(values: Partial<AuditEntry> = {}): AuditEntry {
  return {
    id: newId(),
    at: new Date('2026-03-01T12:00:00.123Z'),
    action: 'robot.retired',
    outcome: 'ok',
    actor: { kind: 'personal_token', id: newId(), name: 'deploy' },
    target: { kind: 'robot', id: newId(), name: 'Grüße "7", \\ \u0001 🤖' },
    siteId: newId(),
    fleetId: newId(),
    requestId: newId(),
    address: '192.0.2.7',
    data: { user_id: newId(), ratio: 0.5, nested: { b: [1, null], a: 'ü' } },
    ...values,
  }
}
