import { type AuditEntry, insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import type { Log } from '../observe/log.ts'
import type { Clock } from '../runtime.ts'
import type { Audit } from './audit.ts'

export interface AuditDeskOptions {
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
}

const FLUSH_MS = 1_000
const MAX_GATHERED = 5_000

/** Gathers refusals and writes them once a second. */
export function createAudit({ database, clock, log }: AuditDeskOptions): Audit {
  let gathered: AuditEntry[] = []
  let writing: Promise<void> = Promise.resolve()
  const flush = async () => {
    const entries = gathered
    gathered = []
    if (entries.length === 0) return
    await insertAudit(database, entries).catch((err: unknown) =>
      log.error({ err, entries: entries.length }, 'refusals could not be written into the audit log'),
    )
  }
  const timer = clock.every(FLUSH_MS, () => {
    writing = writing.then(flush)
  })
  return {
    refused(entry) {
      if (gathered.length < MAX_GATHERED) gathered.push(entry)
    },
    used() {},
    async stop() {
      timer.cancel()
      await writing.then(flush)
    },
  }
}
