import { Unreachable } from '../../api/problem.ts'

/** That nobody is reached is said above the page, once: beside what was loaded before it need not be said again. */
export function isWorthSaying(error: unknown, loadedBefore: unknown): boolean {
  return error !== undefined && !(error instanceof Unreachable && loadedBefore !== undefined)
}
