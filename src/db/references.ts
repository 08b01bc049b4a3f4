import { sqlState } from './database.ts'

const FOREIGN_KEY_VIOLATION = '23503'

/** True when a row names one that is not there, or would leave one that is still named. */
export function violatesReference(error: unknown): boolean {
  return sqlState(error) === FOREIGN_KEY_VIOLATION
}
