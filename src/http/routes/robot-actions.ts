import type { BusMessage } from '../../bus/bus.ts'
import type { Database } from '../../db/database.ts'
import type { ErrorCode } from '../../errors.ts'
import { audited, type Deed } from '../audited.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { type Actor, actorOf, approveRobot, retireRobot, revokeToken } from '../robot-changes.ts'
import { robotSchema } from '../robot-schema.ts'
import { byId, idempotencyHeaders, noBody } from '../schemas.ts'
import { showRobot } from './robots.ts'

interface Action {
  readonly path: string
  readonly operationId: string
  readonly summary: string
  readonly description: string
  readonly problems: readonly ErrorCode[]
  readonly act: (transaction: Database, id: string, actor: Actor) => Promise<readonly Deed[]>
  readonly audit: string
  /** Told even where nothing changed: whoever missed it the first time hears it now. */
  readonly message: 'robots_revoked' | 'robots_retired' | 'robots_changed'
}

const ACTIONS: readonly Action[] = [
  {
    path: 'revoke-token',
    operationId: 'revokeRobotToken',
    summary: "Revoke a robot's token",
    description: 'Its session ends at once and the token opens no other. Revoking again is no error.',
    problems: ['robot_is_retired'],
    act: revokeToken,
    audit: 'robot.token_revoked',
    message: 'robots_revoked',
  },
  {
    path: 'approve',
    operationId: 'approveRobot',
    summary: 'Let a robot that waits for approval take part',
    description: 'Its heartbeats are taken from now on.',
    problems: ['robot_is_retired', 'robot_not_pending'],
    act: approveRobot,
    audit: 'robot.approved',
    message: 'robots_changed',
  },
  {
    path: 'retire',
    operationId: 'retireRobot',
    summary: 'Take a robot out of service for good',
    description: 'Its session ends at once; its record and history stay. Retiring again is no error.',
    problems: [],
    act: retireRobot,
    audit: 'robot.retired',
    message: 'robots_retired',
  },
]

export function robotActionRoutes(app: App, parts: HttpParts): void {
  for (const action of ACTIONS)
    app.route({
      method: 'POST',
      url: `/api/robots/:id/${action.path}`,
      config: { scope: 'robots:write', on: 'robot', audit: [action.audit], problems: action.problems },
      schema: {
        operationId: action.operationId,
        summary: action.summary,
        description: action.description,
        tags: ['Robots'],
        headers: idempotencyHeaders,
        params: byId,
        body: noBody,
        response: { 200: robotSchema },
      },
      handler: (request, reply) =>
        idempotently(parts, request, reply, async (transaction) => {
          const deeds = await action.act(transaction, request.params.id, actorOf(request, parts))
          const body = await showRobot(transaction, request.params.id)
          const messages: BusMessage[] = [{ type: action.message, robot_ids: [body.id] }]
          return { status: 200, body, messages, audit: deeds.map((deed) => audited(request, parts, deed)) }
        }),
    })
}
