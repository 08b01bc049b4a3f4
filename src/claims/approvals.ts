import {
  approveRobots,
  findPending,
  lockCredentialsOf,
  lockPending,
  type PendingFilter,
  type PendingRobot,
  removeNewRobots,
  restoreRobots,
} from '../db/approvals.ts'
import type { Database } from '../db/database.ts'

/** How long a robot waits for approval before it counts as denied. */
export const PENDING_FOR_MS = 72 * 3_600_000

/** What became of a robot that waited, or what would become of it. */
export interface DecidedRobot extends PendingRobot {
  /** Restored: it was there before, and is again what it was, without the token that it claimed. */
  readonly outcome: 'approved' | 'removed' | 'restored'
}

/** What is decided about the robots that a filter finds. `more`: the filter finds further ones. */
export interface Decided {
  readonly robots: readonly DecidedRobot[]
  readonly more: boolean
}

export type Decision = 'approve' | 'deny'

function outcomeOf(decision: Decision, robot: PendingRobot): DecidedRobot['outcome'] {
  if (decision === 'approve') return 'approved'
  return robot.lifecycle_before === null ? 'removed' : 'restored'
}

/** What `decidePending` would do at this moment. */
export async function previewPending(
  database: Database,
  decision: Decision,
  filter: PendingFilter,
  limit: number,
): Promise<Decided> {
  const found = await findPending(database, filter, limit + 1)
  return { robots: decided(decision, found.slice(0, limit)), more: found.length > limit }
}

/**
 * Approves or denies robots that wait, at most `limit` of those that the filter finds, those first that have waited
 * longest. A robot that was new goes when it is denied, and the credential that admitted it gets its use back: `uses`
 * stays the number of robots admitted, whatever claims and denials race. Whoever was decided about meanwhile is left out.
 */
export async function decidePending(
  transaction: Database,
  decision: Decision,
  filter: PendingFilter,
  limit: number,
): Promise<Decided> {
  const found = await findPending(transaction, filter, limit + 1)
  const chosen = found.slice(0, limit)
  if (decision === 'deny') await lockCredentialsOf(transaction, chosen)
  const locked = await lockPending(transaction, { ...filter, ids: chosen.map(({ id }) => id) })
  const robots = decided(decision, locked)
  const idsOf = (outcome: DecidedRobot['outcome']) =>
    robots.filter((robot) => robot.outcome === outcome).map(({ id }) => id)
  await approveRobots(transaction, idsOf('approved'))
  await restoreRobots(transaction, idsOf('restored'))
  await removeNewRobots(transaction, idsOf('removed'))
  return { robots, more: found.length > limit }
}

function decided(decision: Decision, robots: readonly PendingRobot[]): DecidedRobot[] {
  return robots.map((robot) => ({ ...robot, outcome: outcomeOf(decision, robot) }))
}
