import { sql } from 'kysely'
import { canonicalAddress } from '../addresses.ts'
import type { Database } from './database.ts'

/** Who did it. `id` is the token's, credential's or person's own; `userId` the person behind it, where there is one. */
export interface AuditActor {
  readonly kind:
    | 'user'
    | 'personal_token'
    | 'fleet_token'
    | 'claim_credential'
    | 'robot'
    | 'server'
    | 'anonymous'
  readonly id: string | null
  readonly name: string | null
}

/** One line of the audit log. Never a secret in any of it. */
export interface AuditEntry {
  readonly id: string
  readonly at: Date
  readonly action: string
  readonly outcome: 'ok' | 'refused'
  readonly actor: AuditActor
  readonly target: { readonly kind: string; readonly id: string; readonly name: string | null } | null
  /** Where it happened; both null: the whole deployment. */
  readonly siteId: string | null
  readonly fleetId: string | null
  readonly requestId: string | null
  readonly address: string | null
  readonly data: Readonly<Record<string, unknown>>
}

/**
 * Adds lines to the audit log; the database gives each its number and links it to the one before. In a transaction this
 * has to be the last statement: from here to the commit no other server can add any.
 */
export async function insertAudit(database: Database, entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length === 0) return
  await sql`
    INSERT INTO audit_log (id, at, action, outcome, actor_kind, actor_id, actor_name, target_kind, target_id,
      target_name, site_id, fleet_id, request_id, address, data)
    SELECT e.id, e.at, e.action, e.outcome, e.actor_kind, e.actor_id, e.actor_name,
      e.target_kind, e.target_id, e.target_name, e.site_id, e.fleet_id, e.request_id, e.address, e.data
    FROM unnest(
      ${entries.map((entry) => entry.id)}::uuid[], ${entries.map((entry) => entry.at)}::timestamptz[],
      ${entries.map((entry) => entry.action)}::text[], ${entries.map((entry) => entry.outcome)}::text[],
      ${entries.map((entry) => entry.actor.kind)}::text[], ${entries.map((entry) => entry.actor.id)}::uuid[],
      ${entries.map((entry) => entry.actor.name)}::text[],
      ${entries.map((entry) => entry.target?.kind ?? null)}::text[],
      ${entries.map((entry) => entry.target?.id ?? null)}::text[],
      ${entries.map((entry) => entry.target?.name ?? null)}::text[],
      ${entries.map((entry) => entry.siteId)}::uuid[], ${entries.map((entry) => entry.fleetId)}::uuid[],
      ${entries.map((entry) => entry.requestId)}::text[], ${entries.map((entry) => canonicalAddress(entry.address ?? '') ?? null)}::inet[],
      ${entries.map((entry) => JSON.stringify(entry.data))}::jsonb[]
    ) WITH ORDINALITY AS e (id, at, action, outcome, actor_kind, actor_id, actor_name, target_kind, target_id,
      target_name, site_id, fleet_id, request_id, address, data, place)
    ORDER BY e.place
    -- Sent again, for the answer was lost.
    ON CONFLICT (id) DO NOTHING
  `.execute(database)
}
