import type { Reach } from '../access/authority.ts'
import type { Database } from '../db/database.ts'
import {
  type AskedRobot,
  findRobotsToRotate,
  type RotationFilter,
  requestRotations,
} from '../db/robot-rotation.ts'
import { insertTimeline } from '../db/timeline.ts'
import { BeaconError } from '../errors.ts'
import type { Deed } from './audited.ts'
import { type Actor, demandRobot, operatorEvent, robotDeed } from './robot-changes.ts'

/** Why an operator wants a new token. */
export type WishedReason = 'operator' | 'suspicion'

/** Robots that one request asks at the most: each is a line of the audit log. */
const MAX_ASKED = 2_000

async function writeRequests(
  transaction: Database,
  robots: readonly AskedRobot[],
  reason: WishedReason,
  actor: Actor,
): Promise<Deed[]> {
  const happening = { code: 'token_rotation_requested', message: 'Asked for a new token', data: { reason } }
  await insertTimeline(
    transaction,
    robots.map((robot) => operatorEvent(robot.id, actor, happening)),
  )
  return robots.map(({ id, name, siteId, fleetId }) =>
    robotDeed('robot.token_rotation_requested', { id, name, site_id: siteId, fleet_id: fleetId }, { reason }),
  )
}

/** Asks a robot for a new token. Asking again renews the request: a connected robot is told once more. */
export async function askRobot(
  transaction: Database,
  id: string,
  reason: WishedReason,
  actor: Actor,
): Promise<Deed[]> {
  const robot = await demandRobot(transaction, id, actor)
  if (robot.lifecycle === 'retired') throw new BeaconError('robot_is_retired')
  const asked = await requestRotations(transaction, [id], reason, actor.now)
  if (asked.length === 0)
    throw new BeaconError(
      'robot_without_token',
      'a robot without a token has to enrol: there is none to rotate',
    )
  return writeRequests(transaction, asked, reason, actor)
}

export interface ManyAsked {
  /** Robots that pass the filter. */
  readonly matched: number
  /** Those of them that were asked, or would be: the ones with the oldest tokens. */
  readonly robots: readonly AskedRobot[]
  readonly deeds: readonly Deed[]
}

/** Asks robots within reach for new tokens, those with the oldest first; a dry run asks none. */
export async function askRobots(
  transaction: Database,
  filter: RotationFilter,
  reach: Reach,
  wish: { readonly reason: WishedReason; readonly dryRun: boolean },
  actor: Actor,
): Promise<ManyAsked> {
  const { robots, total } = await findRobotsToRotate(transaction, filter, reach, {
    limit: MAX_ASKED,
    lock: !wish.dryRun,
  })
  if (wish.dryRun) return { matched: total, robots, deeds: [] }
  const ids = robots.map((robot) => robot.id)
  const told = new Set((await requestRotations(transaction, ids, wish.reason, actor.now)).map(({ id }) => id))
  // In the order of a dry run, which an update does not keep.
  const asked = robots.filter(({ id }) => told.has(id))
  return { matched: total, robots: asked, deeds: await writeRequests(transaction, asked, wish.reason, actor) }
}
