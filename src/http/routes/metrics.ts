import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Database } from '../../db/database.ts'
import {
  countKeysNearlyUsedUp,
  countRobots,
  listRobotIds,
  listRobotSeries,
  type RobotSeries,
  type Shard,
} from '../../db/fleet-metrics.ts'
import type { Reach } from '../../db/reach.ts'
import { asOpenMetrics, EXPOSITION_TYPES, type Exposition, expositionEnd } from '../exposition.ts'
import { chooseExposition } from '../exposition-choice.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { fleetSeries, robotSeries } from '../robot-series.ts'
import { shardCount } from '../shards.ts'

const ANSWER = {
  description:
    'The text format of Prometheus, or OpenMetrics where `Accept` names it and wants it no less than the text format',
  content: {
    'text/plain': { schema: z.string() },
    'application/openmetrics-text': { schema: z.string() },
  },
}

const shardQuery = z
  .strictObject({
    shard: z.coerce.number().int().min(0).optional().describe('Which part of the robots: from 0'),
    shards: shardCount
      .optional()
      .describe('Into how many parts the robots are split; each is in one of them'),
  })
  .refine(({ shard, shards }) => (shard === undefined) === (shards === undefined), {
    error: 'shard and shards go together',
  })
  .refine(({ shard = 0, shards = 1 }) => shard < shards, {
    path: ['shard'],
    error: 'must be less than shards',
  })

/** Robots that are read at once: what comes of them is parsed in one go. */
const PAGE = 250

/** Everything that is told of the robots within reach. */
async function readRobots(
  database: Database,
  reach: Reach,
  shard: Shard | undefined,
): Promise<RobotSeries[]> {
  const ids = await listRobotIds(database, reach, shard)
  const robots: RobotSeries[] = []
  for (let start = 0; start < ids.length; start += PAGE)
    robots.push(...(await listRobotSeries(database, reach, ids.slice(start, start + PAGE))))
  return robots
}

/** Settles in which format a scrape is answered. */
function settleFormat(request: FastifyRequest, reply: FastifyReply): Exposition {
  const format = chooseExposition(request.headers.accept)
  reply.header('vary', 'accept')
  reply.type(EXPOSITION_TYPES[format])
  return format
}

export function metricsRoutes(app: App, parts: HttpParts): void {
  const { database, log, metrics } = parts

  app.route({
    method: 'GET',
    url: '/metrics',
    config: { scope: 'metrics:read', on: 'deployment' },
    schema: {
      operationId: 'getMetrics',
      summary: 'This server and the fleets, for Prometheus',
      tags: ['Metrics'],
      response: { 200: ANSWER },
    },
    handler: async (request, reply) => {
      const counts = await Promise.all([countRobots(database), countKeysNearlyUsedUp(database)]).catch(
        (err: unknown) => {
          // Without the database, the process's own series say what is wrong.
          metrics.databaseErrors.inc({ operation: 'count_robots' })
          log.warn({ err }, 'robots could not be counted for a scrape')
          return undefined
        },
      )
      const own = await parts.processSeries()
      const format = settleFormat(request, reply)
      const fleets = counts ? fleetSeries(...counts, format) : ''
      return (format === 'text' ? own : asOpenMetrics(own)) + fleets + expositionEnd(format)
    },
  })

  app.route({
    method: 'GET',
    url: '/metrics/robots',
    config: { scope: 'metrics:read', on: 'listed' },
    schema: {
      operationId: 'getRobotMetrics',
      summary: 'Every robot within reach that is not retired, for Prometheus',
      description:
        'Join on `robot_id` with `beacon_robot_info` for names. Last values stay, with their age. Large fleets are read in shards: `GET /api/prometheus/sd` tells Prometheus which.',
      tags: ['Metrics'],
      querystring: shardQuery,
      response: { 200: ANSWER },
    },
    handler: async (request, reply) => {
      const { shard, shards } = request.query
      const part = shard === undefined || shards === undefined ? undefined : { shard, shards }
      const robots = await readRobots(database, reachOf(request), part)
      const format = settleFormat(request, reply)
      return reply.send(Readable.from(robotSeries(robots, format), { highWaterMark: 1 }) as unknown as string)
    },
  })
}
