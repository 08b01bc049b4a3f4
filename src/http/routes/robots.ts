import { z } from 'zod'
import type { Database } from '../../db/database.ts'
import { findRobot, insertRobot, ROBOT_SORTS } from '../../db/robots.ts'
import { insertTimeline } from '../../db/timeline.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { audited } from '../audited.ts'
import { changing } from '../changing.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { demandFleet } from '../references.ts'
import { actorOf, editRobot, operatorEvent, refuseRobot, removeRobot, robotDeed } from '../robot-changes.ts'
import { robotFilterOf, robotFilters } from '../robot-filter.ts'
import { pageOfRobots } from '../robot-list.ts'
import { robotSchema, toRobot } from '../robot-schema.ts'
import { byId, cursor, id, idempotencyHeaders, labels, limit, listOf, name } from '../schemas.ts'
import { sortKeys } from '../sorted-lists.ts'

const listQuery = z.strictObject({
  ...robotFilters,
  sort: z
    .enum(sortKeys(ROBOT_SORTS))
    .default('name')
    .describe('With `-`: descending. Robots without a value come last'),
  limit: limit(),
  cursor,
})

/** The robot as it is now. */
export async function showRobot(database: Database, robotId: string) {
  const row = await findRobot(database, robotId)
  if (!row) throw new BeaconError('not_found', 'there is no such robot')
  return toRobot(row)
}

export function robotRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'GET',
    url: '/api/robots',
    config: { scope: 'robots:read', on: 'listed' },
    schema: {
      operationId: 'listRobots',
      summary: 'List robots with their latest heartbeats',
      description:
        'A filter given more than once admits any of its values; different filters all have to hold.',
      tags: ['Robots'],
      querystring: listQuery,
      response: { 200: listOf(robotSchema) },
    },
    handler: async (request) => {
      const { query } = request
      return pageOfRobots(database, robotFilterOf(query, reachOf(request)), query)
    },
  })

  app.route({
    method: 'GET',
    url: '/api/robots/:id',
    config: { scope: 'robots:read', on: 'robot' },
    schema: {
      operationId: 'getRobot',
      summary: 'Get a robot with its latest heartbeat',
      tags: ['Robots'],
      params: byId,
      response: { 200: robotSchema },
    },
    handler: ({ params }) => showRobot(database, params.id),
  })

  app.route({
    method: 'POST',
    url: '/api/robots',
    config: {
      scope: 'robots:write',
      on: 'body',
      audit: ['robot.created'],
      problems: ['name_taken', 'unknown_reference'],
    },
    schema: {
      operationId: 'createRobot',
      summary: 'Create a robot before its machine is there',
      tags: ['Robots'],
      headers: idempotencyHeaders,
      body: z.strictObject({ fleet_id: id, name, labels: labels.default({}) }),
      response: { 201: robotSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { body } = request
        const fleet = await demandFleet(transaction, principalOf(request), 'robots:write', body.fleet_id)
        const robot = {
          id: newId(),
          siteId: fleet.site_id,
          fleetId: fleet.id,
          name: body.name,
          labels: body.labels,
        }
        await insertRobot(transaction, robot).catch(refuseRobot)
        const event = { code: 'created', message: 'Created by hand' }
        await insertTimeline(transaction, [operatorEvent(robot.id, actorOf(request, parts), event)])
        const shown = await showRobot(transaction, robot.id)
        const deed = robotDeed('robot.created', shown, { labels: shown.labels })
        return { status: 201, body: shown, audit: [audited(request, parts, deed)] }
      }),
  })

  app.route({
    method: 'DELETE',
    url: '/api/robots/:id',
    config: { scope: 'robots:write', on: 'robot', audit: ['robot.deleted'], problems: ['robot_not_retired'] },
    schema: {
      operationId: 'deleteRobot',
      summary: 'Delete the record of a retired robot',
      description: 'Its timeline goes with it; the audit log stays. Only then can its fleet be deleted.',
      tags: ['Robots'],
      params: byId,
      response: { 204: z.undefined().describe('Deleted') },
    },
    handler: async (request, reply) => {
      await changing(parts, request, async (transaction) => {
        const deeds = await removeRobot(transaction, request.params.id, actorOf(request, parts))
        return { body: null, audit: deeds.map((deed) => audited(request, parts, deed)) }
      })
      return reply.code(204).send()
    },
  })

  app.route({
    method: 'PATCH',
    url: '/api/robots/:id',
    config: {
      scope: 'robots:write',
      on: 'robot',
      audit: ['robot.changed', 'robot.moved'],
      problems: ['name_taken', 'machine_known', 'robot_is_retired', 'robot_pending', 'unknown_reference'],
    },
    schema: {
      operationId: 'updateRobot',
      summary: "Change a robot's name, labels, fleet or lifecycle",
      description: '`labels` replaces all labels. A robot takes the site of its fleet.',
      tags: ['Robots'],
      params: byId,
      body: z.strictObject({
        name: name.optional(),
        labels: labels.optional(),
        fleet_id: id.optional(),
        lifecycle: z.enum(['active', 'maintenance']).optional(),
      }),
      response: { 200: robotSchema },
    },
    handler: (request) =>
      changing(parts, request, async (transaction) => {
        const { params, body } = request
        const deeds = await editRobot(transaction, params.id, body, actorOf(request, parts))
        const robot = await showRobot(transaction, params.id)
        return {
          body: robot,
          messages: [{ type: 'robots_changed', robot_ids: [robot.id] }],
          audit: deeds.map((deed) => audited(request, parts, deed)),
        }
      }),
  })
}
