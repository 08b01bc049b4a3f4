import { stringify } from 'csv-stringify/sync'
import { z } from 'zod'
import type { AuditLine } from '../db/audit-list.ts'
import { component, id, time } from './schemas.ts'

export const auditLineSchema = component(
  'AuditLine',
  z.object({
    seq: z.number().int().describe('1, 2, 3 … without a gap'),
    id,
    at: time,
    action: z.string().describe('`thing.verb_in_past`'),
    outcome: z.enum(['ok', 'refused']),
    actor: z.object({
      kind: z.string(),
      id: z.string().nullable(),
      name: z.string().nullable().describe('As it was at that time'),
    }),
    target: z.object({ kind: z.string(), id: z.string(), name: z.string().nullable() }).nullable(),
    site_id: id.nullable(),
    fleet_id: id.nullable(),
    request_id: z.string().nullable(),
    address: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
    previous_hash: z.string().describe('`hash` of the line before; zeros in line 1'),
    hash: z.string().describe('SHA-256, hex'),
  }),
)

export function toAuditLine(line: AuditLine): z.infer<typeof auditLineSchema> {
  const { targetKind, targetId } = line
  return {
    seq: line.seq,
    id: line.id,
    at: line.at.toISOString(),
    action: line.action,
    outcome: line.outcome,
    actor: { kind: line.actorKind, id: line.actorId, name: line.actorName },
    target:
      targetKind === null || targetId === null
        ? null
        : { kind: targetKind, id: targetId, name: line.targetName },
    site_id: line.siteId,
    fleet_id: line.fleetId,
    request_id: line.requestId,
    address: line.address,
    data: line.data,
    previous_hash: line.previousHash,
    hash: line.hash,
  }
}

export const EXPORT_FORMATS = {
  ndjson: { type: 'application/x-ndjson; charset=utf-8', begin: () => '', lines: toNdjson },
  csv: { type: 'text/csv; charset=utf-8; header=present', begin: csvTitles, lines: toCsv },
} as const

function toNdjson(lines: readonly AuditLine[]): string {
  return lines.map((line) => `${JSON.stringify(toAuditLine(line))}\n`).join('')
}

const CSV_COLUMNS = [
  'seq',
  'at',
  'action',
  'outcome',
  'actor_kind',
  'actor_id',
  'actor_name',
  'target_kind',
  'target_id',
  'target_name',
  'site_id',
  'fleet_id',
  'request_id',
  'address',
  'data',
  'id',
  'previous_hash',
  'hash',
]

function csvTitles(): string {
  return stringify([CSV_COLUMNS])
}

/** RFC 4180; a text that a spreadsheet would run as a formula gets an apostrophe in front. */
function toCsv(lines: readonly AuditLine[]): string {
  const rows = lines.map((line) => [
    String(line.seq),
    line.at.toISOString(),
    line.action,
    line.outcome,
    line.actorKind,
    line.actorId,
    line.actorName,
    line.targetKind,
    line.targetId,
    line.targetName,
    line.siteId,
    line.fleetId,
    line.requestId,
    line.address,
    JSON.stringify(line.data),
    line.id,
    line.previousHash,
    line.hash,
  ])
  return stringify(rows, { escape_formulas: true })
}
