import type { FastifyRequest } from 'fastify'
import type { Principal } from '../access/principal.ts'
import type { Scope } from '../access/scopes.ts'
import type { BusMessage } from '../bus/bus.ts'
import { approveRobots } from '../db/approvals.ts'
import { type Database, violatedUnique } from '../db/database.ts'
import { violatesReference } from '../db/references.ts'
import {
  countOutOfReach,
  deleteRobot,
  type LockedRobot,
  lockRobot,
  type NamedRobot,
  revokeRobotTokens,
  setRobotRetired,
  updateRobot,
} from '../db/robots.ts'
import { holdSetupTokens, moveSetupTokens, revokeUnusedSetupTokens } from '../db/setup-tokens.ts'
import type { Labels } from '../db/tables.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { BeaconError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Deed } from './audited.ts'
import { principalOf } from './guard.ts'
import type { HttpParts } from './parts.ts'
import { demandStanding } from './reach.ts'
import { demandFleet, unknownReference } from './references.ts'

/**
 * What operators do to robots. Each takes a transaction, in which the change and its event are written together, and
 * returns what the audit log has to tell of it: nothing where nothing changed.
 */

/** Who does it, when and with which request: what the timeline says of every change. */
export interface Actor {
  readonly principal: Principal
  readonly requestId: string
  readonly now: Date
}

export function actorOf(request: FastifyRequest, { clock }: Pick<HttpParts, 'clock'>): Actor {
  return { principal: principalOf(request), requestId: request.id, now: new Date(clock.now()) }
}

interface Happening {
  readonly code: string
  readonly message: string
  readonly level?: 'warn'
  readonly data?: Readonly<Record<string, unknown>>
}

/** The event of something that an operator did to a robot. */
export function operatorEvent(robotId: string, actor: Actor, happening: Happening): TimelineRow {
  const { kind, id } = actor.principal
  const by = kind === 'session' ? { by_user: id } : { by_token: id }
  return {
    id: newId(),
    robotId,
    source: 'server',
    eventId: null,
    at: actor.now,
    level: happening.level ?? 'info',
    code: happening.code,
    message: happening.message,
    data: { ...happening.data, ...by, request_id: actor.requestId },
  }
}

const IDS_PER_MESSAGE = 100

/** The messages that tell of many robots, each short enough for any bus. */
export function robotMessages(
  type: 'robots_revoked' | 'robots_retired' | 'robots_changed' | 'robots_denied',
  ids: readonly string[],
): BusMessage[] {
  const messages: BusMessage[] = []
  for (let start = 0; start < ids.length; start += IDS_PER_MESSAGE)
    messages.push({ type, robot_ids: ids.slice(start, start + IDS_PER_MESSAGE) })
  return messages
}

/** Locks the robot. It may have been moved since the request was let in: what counts is where it is now. */
export async function demandRobot(
  transaction: Database,
  id: string,
  { principal }: Actor,
  scope: Scope = 'robots:write',
): Promise<LockedRobot> {
  const robot = await lockRobot(transaction, id)
  if (!robot) throw new BeaconError('not_found', 'there is no such robot')
  demandStanding(principal.authority, scope, placeOfRobot(robot), 'robots:read')
  return robot
}

function placeOfRobot(robot: { site_id: string; fleet_id: string }) {
  return { siteId: robot.site_id, fleetId: robot.fleet_id }
}

/** What the audit log says of something that was done to a robot. */
export function robotDeed(
  action: `robot.${string}`,
  robot: { id: string; name: string; site_id: string; fleet_id: string },
  data?: Readonly<Record<string, unknown>>,
): Deed {
  const target = { kind: 'robot', id: robot.id, name: robot.name }
  return { action, target, place: placeOfRobot(robot), ...(data ? { data } : {}) }
}

async function demandLiveRobot(
  transaction: Database,
  id: string,
  actor: Actor,
  scope?: Scope,
): Promise<LockedRobot> {
  const robot = await demandRobot(transaction, id, actor, scope)
  if (robot.lifecycle === 'retired') throw new BeaconError('robot_is_retired')
  return robot
}

export interface RobotEdit {
  readonly name?: string | undefined
  readonly labels?: Labels | undefined
  readonly fleet_id?: string | undefined
  readonly lifecycle?: 'active' | 'maintenance' | undefined
}

/** Refusals of a robot's new place or name. */
export function refuseRobot(error: unknown): never {
  const constraint = violatedUnique(error)
  if (constraint === 'robots_fleet_id_name_key')
    throw new BeaconError('name_taken', 'another robot of the fleet has this name', { cause: error })
  if (constraint === 'robots_machine')
    throw new BeaconError('machine_known', 'the fleet has another robot of the same machine', {
      cause: error,
    })
  if (violatesReference(error)) throw unknownReference('/fleet_id', 'fleet', error)
  throw error
}

function sameLabels(one: Labels, other: Labels): boolean {
  const names = Object.keys(one)
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && one[name] === other[name])
  )
}

/**
 * Gives a robot another name, other labels, another fleet or another lifecycle; what stays as it is leaves no trace. To
 * move it, the caller has to hold `robots:write` at both ends.
 */
export async function editRobot(
  transaction: Database,
  id: string,
  edit: RobotEdit,
  actor: Actor,
): Promise<readonly Deed[]> {
  if (edit.fleet_id !== undefined) await holdSetupTokens(transaction, id)
  const robot = await demandLiveRobot(transaction, id, actor)
  const change: Parameters<typeof updateRobot>[2] = {}
  const happenings: Happening[] = []
  const changed: Record<string, unknown> = {}
  const moved: Deed[] = []
  if (edit.name !== undefined && edit.name !== robot.name) {
    change.name = edit.name
    const data = { from: robot.name, to: edit.name }
    changed.name = data
    happenings.push({ code: 'renamed', message: `Renamed from ${robot.name} to ${edit.name}`, data })
  }
  if (edit.labels !== undefined && !sameLabels(edit.labels, robot.labels)) {
    change.labels = JSON.stringify(edit.labels)
    const data = { from: robot.labels, to: edit.labels }
    changed.labels = data
    happenings.push({ code: 'labels_changed', message: 'Labels changed', data })
  }
  if (edit.fleet_id !== undefined && edit.fleet_id !== robot.fleet_id) {
    const fleet = await demandFleet(transaction, actor.principal, 'robots:write', edit.fleet_id)
    const to = { site_id: fleet.site_id, fleet_id: fleet.id }
    change.fleet_id = to.fleet_id
    change.site_id = to.site_id
    const data = { from: { site_id: robot.site_id, fleet_id: robot.fleet_id }, to }
    // Without a name: the robot may go on to where this fleet is not seen.
    happenings.push({ code: 'moved', message: 'Moved to another fleet', data })
    // Whoever reads the log at either end finds it.
    moved.push(robotDeed('robot.moved', robot, data), robotDeed('robot.moved', { ...robot, ...to }, data))
  }
  if (edit.lifecycle !== undefined && edit.lifecycle !== robot.lifecycle) {
    if (robot.lifecycle === 'pending') throw new BeaconError('robot_pending')
    change.lifecycle = edit.lifecycle
    const data = { from: robot.lifecycle, to: edit.lifecycle }
    changed.lifecycle = data
    happenings.push({ code: 'lifecycle_changed', message: `Now ${edit.lifecycle}`, data })
  }
  if (happenings.length === 0) return []
  await updateRobot(transaction, id, change).catch(refuseRobot)
  if (change.fleet_id && change.site_id)
    await moveSetupTokens(transaction, id, { siteId: change.site_id, fleetId: change.fleet_id })
  await insertTimeline(
    transaction,
    happenings.map((happening) => operatorEvent(id, actor, happening)),
  )
  return Object.keys(changed).length === 0
    ? moved
    : [robotDeed('robot.changed', robot, { changed }), ...moved]
}

/** Locks a robot that waits for approval. */
export async function demandPendingRobot(
  transaction: Database,
  id: string,
  actor: Actor,
): Promise<LockedRobot> {
  const robot = await demandLiveRobot(transaction, id, actor)
  if (robot.lifecycle !== 'pending') throw new BeaconError('robot_not_pending')
  return robot
}

/** Locks a robot that the caller may hand a claim credential of. */
export function demandRobotToClaim(transaction: Database, id: string, actor: Actor): Promise<LockedRobot> {
  return demandLiveRobot(transaction, id, actor, 'enrollment-keys:write')
}

/** Lets a robot that waits for approval take part. */
export async function approveRobot(
  transaction: Database,
  id: string,
  actor: Actor,
): Promise<readonly Deed[]> {
  const robot = await demandPendingRobot(transaction, id, actor)
  await approveRobots(transaction, [id])
  await insertTimeline(transaction, [operatorEvent(id, actor, { code: 'approved', message: 'Approved' })])
  return [robotDeed('robot.approved', robot)]
}

/** Takes a robot out of service for good. Retiring it again changes nothing. */
export async function retireRobot(transaction: Database, id: string, actor: Actor): Promise<readonly Deed[]> {
  const robot = await demandRobot(transaction, id, actor)
  if (robot.lifecycle === 'retired') return []
  await setRobotRetired(transaction, id)
  const data = { from: robot.lifecycle }
  await insertTimeline(transaction, [operatorEvent(id, actor, { code: 'retired', message: 'Retired', data })])
  return [robotDeed('robot.retired', robot, data)]
}

/** Revokes the robot's token, where there is one that still stands, and the setup tokens that would give it another. */
export async function revokeToken(transaction: Database, id: string, actor: Actor): Promise<readonly Deed[]> {
  const unused = await revokeUnusedSetupTokens(transaction, { robotId: id })
  const robot = await demandLiveRobot(transaction, id, actor)
  const revoked = await revokeRobotTokens(transaction, { id })
  await insertTimeline(
    transaction,
    revoked.map(() =>
      operatorEvent(id, actor, { code: 'token_revoked', level: 'warn', message: 'Token revoked' }),
    ),
  )
  if (revoked.length + unused.length === 0) return []
  return [robotDeed('robot.token_revoked', robot, unused.length > 0 ? { setup_tokens: unused } : undefined)]
}

/**
 * Revokes the tokens of all robots that a claim credential admitted or whose token came with it, as far as the caller may
 * change them, and the setup tokens that would give them others.
 */
export async function revokeTokensOfCredential(
  transaction: Database,
  credentialId: string,
  actor: Actor,
): Promise<{ revoked: readonly NamedRobot[]; outOfReach: number }> {
  const reach = actor.principal.authority.reach('robots:write')
  await revokeUnusedSetupTokens(transaction, { credentialId, reach })
  const revoked = await revokeRobotTokens(transaction, { credentialId, reach })
  await insertTimeline(
    transaction,
    revoked.map((robot) =>
      operatorEvent(robot.id, actor, {
        code: 'token_revoked',
        level: 'warn',
        message: 'Token revoked together with the credential that it came with or that admitted the robot',
        data: { credential_id: credentialId },
      }),
    ),
  )
  return { revoked, outOfReach: await countOutOfReach(transaction, credentialId, reach) }
}

/** Removes the record of a retired robot for good, so that its fleet can go, too. The audit log still tells of it. */
export async function removeRobot(transaction: Database, id: string, actor: Actor): Promise<readonly Deed[]> {
  await holdSetupTokens(transaction, id)
  const robot = await demandRobot(transaction, id, actor)
  if (robot.lifecycle !== 'retired') throw new BeaconError('robot_not_retired')
  await deleteRobot(transaction, id)
  return [robotDeed('robot.deleted', robot)]
}
