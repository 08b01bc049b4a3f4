import { insertAudit } from '../db/audit.ts'
import {
  type ClaimKey,
  type ClaimQuestions,
  countPending,
  findKnownRobots,
  findTakenNames,
  type KnownRobot,
  lockCredential,
  lockRobots,
  preferIndexes,
  writeClaims,
} from '../db/claims.ts'
import { type Database, isRetryable, violatedUnique } from '../db/database.ts'
import { newId } from '../ids.ts'
import { auditOfClaims } from './audit.ts'
import { type Claim, decideClaims, type Known, MAX_PENDING, type Outcome } from './decide.ts'
import { furtherNames } from './names.ts'

/** How often a transaction is run again after a deadlock, or after a name or token was taken behind its back. */
const MAX_RETRIES = 5

export interface GrantOptions {
  readonly database: Database
  /** Whether a robot's timeline should hear of a suspected clone now, or heard of one a moment ago. */
  readonly tellsOfClone: (robotId: string) => boolean
}

export interface Grant {
  /** Undefined: there is no such key any more. */
  readonly outcomes: readonly Outcome[] | undefined
  readonly reboundIds: readonly string[]
  readonly clonedIds: readonly string[]
}

/**
 * Grants claims of one key together, in one transaction: lock, look, decide, write. May answer fewer than it was
 * given; the others have to be granted by another call.
 */
export async function grantClaims(
  options: GrantOptions,
  keyId: string,
  group: readonly Claim[],
): Promise<Grant> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await options.database
        .transaction()
        .execute((transaction) => grantOnce(options, transaction, keyId, group))
    } catch (error) {
      const again = isRetryable(error) || violatedUnique(error) !== undefined
      if (!again || attempt >= MAX_RETRIES) throw error
    }
  }
}

async function grantOnce(
  { tellsOfClone }: GrantOptions,
  transaction: Database,
  keyId: string,
  group: readonly Claim[],
): Promise<Grant> {
  const locked = await lockCredential(transaction, keyId)
  if (!locked) return { outcomes: undefined, reboundIds: [], clonedIds: [] }
  const { key, now } = locked
  const known = await look(transaction, key, group)
  const { outcomes, writes } = decideClaims(key, known, group, now)
  const events = writes.events
    .filter((event) => event.code !== 'clone_suspected' || tellsOfClone(event.robotId))
    .map((event) => ({ ...event, id: newId() }))
  if (writes.admitted.length + writes.rebound.length + events.length > 0)
    await writeClaims(transaction, key, { ...writes, events }, now)
  await insertAudit(transaction, auditOfClaims(key, group, outcomes, writes, now))
  return {
    outcomes,
    reboundIds: writes.rebound.map((robot) => robot.id),
    clonedIds: events.filter((event) => event.code === 'clone_suspected').map((event) => event.robotId),
  }
}

async function look(transaction: Database, key: ClaimKey, group: readonly Claim[]): Promise<Known> {
  // Such a key admits nobody, so nothing else matters.
  if (key.revokedAt !== null && !key.singleUse && key.kind !== 'setup_token')
    return { robots: [], takenNames: [], pending: 0 }
  const questions = questionsOf(key, group)
  await preferIndexes(transaction)
  let robots = await findKnownRobots(transaction, questions)
  const bindable = bindableRobots(key, questions, robots)
  if (bindable.length > 0) {
    await lockRobots(transaction, bindable)
    robots = await findKnownRobots(transaction, questions)
  }
  const taken = robots.filter((robot) => robot.fleetId === key.fleetId).map((robot) => robot.name)
  const further = furtherNames(group, taken)
  const takenNames = further.length > 0 ? await findTakenNames(transaction, key.fleetId, further) : []
  const pending = key.requireApproval ? await countPending(transaction, key.id, MAX_PENDING) : 0
  return { robots, takenNames, pending }
}

function questionsOf(key: ClaimKey, group: readonly Claim[]): ClaimQuestions {
  const defined = (values: readonly (string | undefined)[]) => [
    ...new Set(values.filter((value) => value !== undefined)),
  ]
  return {
    key,
    claimIds: defined(group.map((claim) => claim.claimId)),
    tokenHashes: defined(group.map((claim) => claim.tokenHash)),
    machineHashes: defined(group.map((claim) => claim.machineHash)),
    names: defined(group.map((claim) => claim.name)),
  }
}

/** Records that the group may bind anew: they are held still before it is decided whether they are connected. */
function bindableRobots(key: ClaimKey, asked: ClaimQuestions, robots: readonly KnownRobot[]): string[] {
  if (key.robotId !== null) return [key.robotId]
  const machines = new Set<string | null>(asked.machineHashes)
  return robots
    .filter((robot) => robot.fleetId === key.fleetId && machines.has(robot.machineHash))
    .map((robot) => robot.id)
}
