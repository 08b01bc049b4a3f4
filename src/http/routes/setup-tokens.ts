import { z } from 'zod'
import { insertSetupToken, lockSetupTokens, revokeUnusedSetupTokens } from '../../db/setup-tokens.ts'
import { insertTimeline } from '../../db/timeline.ts'
import { newId } from '../../ids.ts'
import { describeToken, hashToken, mintSetupToken } from '../../protocol/tokens.ts'
import { audited } from '../audited.ts'
import { idempotently } from '../idempotency.ts'
import { renewCaller } from '../minting.ts'
import type { App, HttpParts } from '../parts.ts'
import { publicUrl } from '../public-url.ts'
import { actorOf, demandRobotToClaim, operatorEvent } from '../robot-changes.ts'
import { byId, component, id, idempotencyHeaders, noBody, time } from '../schemas.ts'
import { setupCommand } from '../setup-command.ts'

const LIFE_SECONDS = 3600

export const setupTokenSchema = component(
  'SetupToken',
  z.object({
    id,
    robot_id: id,
    setup_token: z
      .string()
      .nullable()
      .describe('Only here, and only once: null when the request is repeated'),
    setup_command: z
      .string()
      .nullable()
      .describe("What to run on the robot's machine; null where setup_token is"),
    created_at: time,
    expires_at: time,
  }),
)
type SetupToken = z.infer<typeof setupTokenSchema>

export function setupTokenRoutes(app: App, parts: HttpParts): void {
  const { config, random } = parts

  app.route({
    method: 'POST',
    url: '/api/robots/:id/setup-token',
    config: {
      scope: 'enrollment-keys:write',
      on: 'robot',
      audit: ['setup_token.created'],
      problems: ['robot_is_retired'],
    },
    schema: {
      operationId: 'createSetupToken',
      summary: 'Create a setup token for a robot',
      description:
        'For one hour, whoever redeems it first is this robot, whatever machine it is: its old token, if it has one, stops at once. Setup tokens of the robot that nobody used yet are revoked.',
      tags: ['Robots'],
      headers: idempotencyHeaders,
      params: byId,
      body: noBody,
      response: { 201: setupTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { id: robotId } = request.params
        await renewCaller(transaction, request)
        const actor = actorOf(request, parts)
        await lockSetupTokens(transaction, robotId)
        // Before the robot is locked, as in claims.
        const replaced = await revokeUnusedSetupTokens(transaction, { robotId })
        const robot = await demandRobotToClaim(transaction, robotId, actor)
        const token = mintSetupToken((count) => random.bytes(count))
        const row = await insertSetupToken(transaction, {
          id: newId(),
          secretHash: hashToken(token),
          lastFour: describeToken(token).last_four,
          name: robot.name,
          siteId: robot.site_id,
          fleetId: robot.fleet_id,
          robotId,
          createdBy: actor.principal.id,
          expiresInSeconds: LIFE_SECONDS,
        })
        await insertTimeline(transaction, [
          operatorEvent(robotId, actor, {
            code: 'setup_token_created',
            message: 'A setup token was made for it',
            data: { credential_id: row.id },
          }),
        ])
        const shown: SetupToken = {
          id: row.id,
          robot_id: robotId,
          setup_token: token,
          setup_command: setupCommand(publicUrl(config, request), '--setup-token', token),
          created_at: row.created_at.toISOString(),
          expires_at: row.expires_at!.toISOString(),
        }
        const deed = {
          action: 'setup_token.created',
          target: { kind: 'robot', id: robotId, name: robot.name },
          place: { siteId: robot.site_id, fleetId: robot.fleet_id },
          data: { credential_id: row.id, replaced },
        }
        return {
          status: 201,
          body: shown,
          kept: { ...shown, setup_token: null, setup_command: null },
          audit: [audited(request, parts, deed)],
        }
      }),
  })
}
