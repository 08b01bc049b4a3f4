import { withDirectDatabase } from '../db/direct.ts'
import { type Link, type Verification, verifyAudit } from './verify.ts'

export { DirectError } from '../db/direct.ts'
export type { Link, Verification } from './verify.ts'

/**
 * Verifies the log in the database that a server with this environment would use, without asking any server. Throws
 * DirectError.
 */
export function verifyDirectly(
  env: Readonly<Record<string, string | undefined>>,
  noted: Link | undefined,
): Promise<Verification> {
  return withDirectDatabase(env, 'beacon audit verify', (database) => verifyAudit(database, { noted }))
}
