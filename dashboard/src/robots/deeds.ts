import { api } from '../api/client.ts'
import type { Robot, SetupToken } from '../api/types.ts'

/**
 * What can be done to robots: what will happen, said so that it is true of one and of many, for which robots it is, and
 * the request that does it.
 */
export interface RobotDeed {
  readonly says: string
  readonly danger?: boolean
  readonly fits: (robot: Robot) => boolean
  readonly change: (robot: Robot) => Promise<unknown>
}

const path = (robot: Robot, deed = '') => `/api/robots/${robot.id}${deed}`
export const isInService = ({ lifecycle }: Robot) => lifecycle !== 'retired'
const hasToken = (robot: Robot) =>
  isInService(robot) && robot.token_issued_at !== null && robot.token_revoked_at === null

export const MAINTENANCE: RobotDeed = {
  says: 'Connection and reports go on as before; people and programs see that the state is maintenance.',
  fits: ({ lifecycle }) => lifecycle === 'active',
  change: (robot) => api.patch(path(robot), { lifecycle: 'maintenance' }),
}

export const BACK_TO_WORK: RobotDeed = {
  says: 'The state is active again.',
  fits: ({ lifecycle }) => lifecycle === 'maintenance',
  change: (robot) => api.patch(path(robot), { lifecycle: 'active' }),
}

export const APPROVE: RobotDeed = {
  says: 'From now on heartbeats count and are kept.',
  fits: ({ lifecycle }) => lifecycle === 'pending',
  change: (robot) => api.post(path(robot, '/approve')),
}

export const DENY: RobotDeed = {
  danger: true,
  says: 'The connection ends at once and the agent stops. The record of a robot that is new goes away; one that was here before becomes what it was, without its new token.',
  fits: ({ lifecycle }) => lifecycle === 'pending',
  change: (robot) => api.post(path(robot, '/deny')),
}

export const ROTATE_TOKEN: RobotDeed = {
  says: 'The agent makes itself a new token and comes back with it: within seconds when it is connected, else the next time that it is. The old token is good until then, so that nothing is lost.',
  fits: hasToken,
  change: (robot) => api.post(path(robot, '/rotate-token')),
}

export const REVOKE_TOKEN: RobotDeed = {
  danger: true,
  says: 'The token stops working at once and the connection ends. The agent stops, and nothing more is heard until it is enrolled again. Setup tokens that nobody used yet are void, too.',
  fits: hasToken,
  change: (robot) => api.post(path(robot, '/revoke-token')),
}

export const RETIRE: RobotDeed = {
  danger: true,
  says: 'Out of service for good: this cannot be undone. The connection ends and the agent stops; record and history stay.',
  fits: isInService,
  change: (robot) => api.post(path(robot, '/retire')),
}

export const DELETE: RobotDeed = {
  danger: true,
  says: 'The record goes, and the timeline with it: this cannot be undone. The audit log still tells of it.',
  fits: ({ lifecycle }) => lifecycle === 'retired',
  change: (robot) => api.delete(path(robot)),
}

export const MOVE_SAYS =
  'Identity and history stay. The other fleet counts at once: whoever may see only the old one sees no more of it.'

export const SETUP_TOKEN_SAYS =
  'For one hour, whichever machine uses it first becomes this robot: with this name and this history. A token that the robot has stops at once then, and not before. Setup tokens that were made earlier and not used are void.'

export const rename = (robot: Robot, name: string) => api.patch<Robot>(path(robot), { name })

export interface LabelChange {
  readonly set: Readonly<Record<string, string>>
  readonly remove: readonly string[]
}

/** Changes these labels alone: what others did to the rest since `robot` was read stays. */
export async function label(robot: Robot, { set, remove }: LabelChange): Promise<Robot> {
  const labels = { ...(await api.get<Robot>(path(robot))).labels, ...set }
  for (const name of remove) delete labels[name]
  return api.patch<Robot>(path(robot), { labels })
}

/** What makes the labels `before` those `after`. */
export function labelChange(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): LabelChange {
  return {
    set: Object.fromEntries(Object.entries(after).filter(([name, value]) => before[name] !== value)),
    remove: Object.keys(before).filter((name) => !Object.hasOwn(after, name)),
  }
}

export const move = (robot: Robot, fleetId: string) => api.patch<Robot>(path(robot), { fleet_id: fleetId })
export const makeSetupToken = (robot: Robot) => api.post<SetupToken>(path(robot, '/setup-token'))
