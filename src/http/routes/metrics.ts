import { Readable } from 'node:stream'
import { z } from 'zod'
import { countRobots, listRobotSeries } from '../../db/fleet-metrics.ts'
import { EXPOSITION_TYPE } from '../exposition.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { fleetSeries, robotSeries } from '../robot-series.ts'

const exposition = (description: string) => ({
  description,
  content: { 'text/plain': { schema: z.string() } },
})

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
      response: { 200: exposition('The text format of Prometheus') },
    },
    handler: async (_, reply) => {
      const fleets = await countRobots(database).then(fleetSeries, (err: unknown) => {
        // Without the database, the process's own series say what is wrong.
        metrics.databaseErrors.inc({ operation: 'count_robots' })
        log.warn({ err }, 'robots could not be counted for a scrape')
        return ''
      })
      reply.type(EXPOSITION_TYPE)
      return (await parts.processSeries()) + fleets
    },
  })

  app.route({
    method: 'GET',
    url: '/metrics/robots',
    config: { scope: 'metrics:read', on: 'listed' },
    schema: {
      operationId: 'getRobotMetrics',
      summary: 'Every robot within reach that is not retired, for Prometheus',
      description: 'Join on `robot_id` with `beacon_robot_info` for names. Last values stay, with their age.',
      tags: ['Metrics'],
      response: { 200: exposition('The text format of Prometheus') },
    },
    handler: async (request, reply) => {
      const robots = await listRobotSeries(database, reachOf(request))
      reply.type(EXPOSITION_TYPE)
      return reply.send(Readable.from(robotSeries(robots)) as unknown as string)
    },
  })
}
