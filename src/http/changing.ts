import type { FastifyRequest } from 'fastify'
import type { BusMessage } from '../bus/bus.ts'
import { type AuditEntry, insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { inTransaction } from '../db/transaction.ts'
import type { HttpParts } from './parts.ts'
import { demandJudgement } from './reach.ts'

/** What a change came to. */
export interface Change<Body> {
  readonly body: Body
  /** Told to all servers once the change is in the database. */
  readonly messages?: readonly BusMessage[]
  /** Written into the audit log in the same transaction, after everything else. */
  readonly audit?: readonly AuditEntry[]
}

type Parts = Pick<HttpParts, 'database' | 'bus'>

/** The end of every change: nothing is written after this in its transaction, and nothing that was not judged. */
export async function closeChange(
  transaction: Database,
  request: FastifyRequest,
  audit: readonly AuditEntry[] = [],
): Promise<void> {
  demandJudgement(request)
  await insertAudit(transaction, audit)
}

/** Carries out a PATCH or DELETE in one transaction and tells the other servers; returns the body of the answer. */
export async function changing<Body>(
  { database, bus }: Parts,
  request: FastifyRequest,
  work: (transaction: Database) => Promise<Change<Body>>,
): Promise<Body> {
  const { body, messages = [] } = await inTransaction(database, async (transaction) => {
    const change = await work(transaction)
    await closeChange(transaction, request, change.audit)
    return change
  })
  for (const message of messages) await bus.publish(message)
  return body
}
