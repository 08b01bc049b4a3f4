import { z } from 'zod'
import { LIFECYCLES } from '../../protocol/frames.ts'
import { audited } from '../audited.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { actorOf, robotMessages } from '../robot-changes.ts'
import { askRobot, askRobots } from '../robot-rotation.ts'
import { CONNECTIONS, robotSchema } from '../robot-schema.ts'
import { byId, component, id, idempotencyHeaders, labelSelector, name } from '../schemas.ts'
import { showRobot } from './robots.ts'

const reason = z
  .enum(['operator', 'suspicion'])
  .default('operator')
  .describe('Stands on the timeline, in the audit log and in the log of the robot')

const wish = z.strictObject({ reason })

const filter = z
  .strictObject({
    site: id.optional(),
    fleet: id.optional(),
    lifecycle: z.array(z.enum(LIFECYCLES)).min(1).optional(),
    connection: z.array(z.enum(CONNECTIONS)).min(1).optional(),
    label: z.array(labelSelector).max(32).optional().describe('`name` or `name=value`; all have to match'),
    token_older_than_days: z.number().int().min(0).max(3_650).optional(),
    not_requested: z.boolean().optional().describe('Leaves out robots that are asked already'),
  })
  .describe('All parts have to hold. Robots without a token that stands are left out. `{}` is every robot')

const requests = component(
  'TokenRotationRequests',
  z.object({
    dry_run: z.boolean(),
    matched: z.number().int().describe('Robots that pass the filter'),
    requested: z.number().int().describe('Those that were asked, or would be: the oldest tokens first'),
    robots: z
      .array(z.object({ id, name, site_id: id, fleet_id: id }))
      .describe('The same; at most 100 of them'),
  }),
)

const SHOWN = 100
const DAY_MS = 86_400_000

const DESCRIPTION = `A connected robot hears of it within two seconds, another one when it next connects. It makes a new
token, and the old one opens sessions until the first session with the new one is open. An agent that knows nothing of
this goes on as it is, and the request stays with the robot.`

export function robotRotationRoutes(app: App, parts: HttpParts): void {
  app.route({
    method: 'POST',
    url: '/api/robots/:id/rotate-token',
    config: {
      scope: 'robots:write',
      on: 'robot',
      audit: ['robot.token_rotation_requested'],
      problems: ['robot_is_retired', 'robot_without_token'],
    },
    schema: {
      operationId: 'rotateRobotToken',
      summary: 'Ask a robot for a new token',
      description: `${DESCRIPTION} Asking again asks a connected robot once more.`,
      tags: ['Robots'],
      headers: idempotencyHeaders,
      params: byId,
      body: wish.nullable(),
      response: { 200: robotSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const why = request.body?.reason ?? 'operator'
        const deeds = await askRobot(transaction, request.params.id, why, actorOf(request, parts))
        const body = await showRobot(transaction, request.params.id)
        return {
          status: 200,
          body,
          messages: robotMessages('robots_changed', [body.id]),
          audit: deeds.map((deed) => audited(request, parts, deed)),
        }
      }),
  })

  app.route({
    method: 'POST',
    url: '/api/robots/rotate-tokens',
    config: { scope: 'robots:write', on: 'body', audit: ['robot.token_rotation_requested'] },
    schema: {
      operationId: 'rotateRobotTokens',
      summary: 'Ask many robots for new tokens',
      description: `${DESCRIPTION} Of more than 2,000 robots, those with the oldest tokens are asked; \`not_requested\`
finds the others next time.`,
      tags: ['Robots'],
      headers: idempotencyHeaders,
      body: z
        .strictObject({
          ids: z.array(id).min(1).max(1_000).optional(),
          filter: filter.optional(),
          reason,
          dry_run: z.boolean().default(false).describe('Tells what would be done, and does nothing'),
        })
        .refine(
          (body) => (body.ids === undefined) !== (body.filter === undefined),
          'takes either ids or filter',
        ),
      response: { 200: requests },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { ids, filter: given = {}, dry_run, reason: why } = request.body
        const actor = actorOf(request, parts)
        const days = given.token_older_than_days
        const { matched, robots, deeds } = await askRobots(
          transaction,
          {
            robotIds: ids,
            siteId: given.site,
            fleetId: given.fleet,
            lifecycles: given.lifecycle,
            connections: given.connection,
            labels: given.label,
            issuedBefore: days === undefined ? undefined : new Date(actor.now.getTime() - days * DAY_MS),
            notAsked: given.not_requested,
          },
          reachOf(request),
          { reason: why, dryRun: dry_run },
          actor,
        )
        const asked = dry_run ? [] : robots.map((robot) => robot.id)
        return {
          status: 200,
          body: {
            dry_run,
            matched,
            requested: robots.length,
            robots: robots.slice(0, SHOWN).map((robot) => ({
              id: robot.id,
              name: robot.name,
              site_id: robot.siteId,
              fleet_id: robot.fleetId,
            })),
          },
          messages: robotMessages('robots_changed', asked),
          audit: deeds.map((deed) => audited(request, parts, deed)),
        }
      }),
  })
}
