import type { AuditActor, AuditEntry } from '../db/audit.ts'

/** A token that was let in: told for every request, kept once for each token and minute. */
export interface TokenUse {
  readonly actor: AuditActor
  readonly address: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** The person behind it; null or left out: nobody. */
  readonly user?: { readonly id: string; readonly name: string | null } | null
  /** The fleet of a fleet's own token. */
  readonly siteId?: string | null
  readonly fleetId?: string | null
  /** What it was used for, where that is worth a line of its own for each thing: reading a secret, for one. */
  readonly deed?: { readonly action: string; readonly target: NonNullable<AuditEntry['target']> }
}

/**
 * The part of the audit log that is not written together with a change: uses and refusals. Both are gathered in memory,
 * bounded, and written many at a time; nothing here ever makes a request wait. Changes are written by `insertAudit` in
 * the transaction that makes them.
 */
export interface Audit {
  /**
   * Something was refused; `data.code`, or `data.reason`, says why. The first of its kind (who, or from where; what; why) is written within
   * a second; what is refused again in the same minute is counted instead, in a second line when the minute is over.
   */
  refused(entry: AuditEntry): void
  used(use: TokenUse): void
  /** Writes what was gathered. */
  stop(): Promise<void>
}
