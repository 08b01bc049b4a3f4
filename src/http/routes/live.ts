import type { ServerResponse } from 'node:http'
import { negotiate } from '@fastify/accept-negotiator'
import type { FastifyReply } from 'fastify'
import { z } from 'zod'
import type { Coding } from '../../live/coding.ts'
import type { Sink } from '../../live/reader.ts'
import { principalOf } from '../guard.ts'
import { liveDeltaSchema, liveEndSchema, liveResetSchema, liveSnapshotSchema } from '../live-schema.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { robotFilterOf, robotFilters } from '../robot-filter.ts'

const EVENT_STREAM = 'text/event-stream; charset=utf-8'
const SCOPE = 'robots:read'

const query = z.strictObject({
  ...robotFilters,
  detail: z
    .enum(['full', 'status'])
    .default('full')
    .describe('`status`: robots without what every heartbeat changes, told only when something else does'),
  last_event_id: z
    .string()
    .max(200)
    .optional()
    .describe('As the header `Last-Event-ID`, for whoever cannot set it; that goes before'),
})

const headers = z.looseObject({
  'last-event-id': z
    .string()
    .optional()
    .describe('The id of the last event received: what came after it follows, or a reset'),
})

/** What is written goes straight to the connection; the answer has begun. */
function sinkOf(raw: ServerResponse): Sink {
  return {
    write: (bytes, taken) =>
      void raw.write(bytes, (error) => {
        if (!error) taken()
      }),
    end: (bytes) => void raw.end(bytes),
    destroy: () => void raw.destroy(),
  }
}

/** The first stands for `*`, which may mean anything but what is named beside it: gzip goes to those alone who name it. */
const CODINGS: Coding[] = ['identity', 'gzip']

/** Sends the head of an answer that goes on for as long as somebody reads. */
function beginStream(reply: FastifyReply, coding: Coding): ServerResponse {
  reply.header('content-type', EVENT_STREAM)
  reply.header('vary', 'accept-encoding')
  if (coding !== 'identity') reply.header('content-encoding', coding)
  // Proxies that gather answers before they pass them on are asked not to.
  reply.header('x-accel-buffering', 'no')
  reply.hijack()
  const { raw } = reply
  raw.on('error', () => {})
  raw.writeHead(200, reply.getHeaders() as Record<string, string>)
  return raw
}

export function liveRoutes(app: App, parts: HttpParts): void {
  const { live, log, standing } = parts

  app.route({
    method: 'GET',
    url: '/api/live',
    config: { scope: SCOPE, on: 'listed', lasts: true, problems: ['draining', 'too_many_feeds'] },
    schema: {
      operationId: 'watchRobots',
      summary: 'Follow robots as they change, as Server-Sent Events',
      description:
        '`event: snapshot` tells all robots that pass the filter, some at a time; from then on `event: delta` tells once a second at the most what changed. `event: reset` comes before everything is told anew, `event: end` before the server closes. A comment comes every 5 seconds. docs/contract.md tells the rest.',
      tags: ['Robots'],
      querystring: query,
      headers,
      response: {
        200: {
          description:
            'Events until either side closes; the data of each is JSON: `LiveSnapshot` of `snapshot`, `LiveDelta` of `delta`, `LiveReset` of `reset`, `LiveEnd` of `end`',
          content: {
            'text/event-stream': {
              schema: z.union([liveSnapshotSchema, liveDeltaSchema, liveResetSchema, liveEndSchema]),
            },
          },
        },
      },
    },
    handler: async (request, reply) => {
      const { query } = request
      const reach = reachOf(request)
      const principal = principalOf(request)
      const coding = (negotiate(request.headers['accept-encoding'] ?? '', CODINGS) ?? 'identity') as Coding
      if (request.method === 'HEAD') {
        beginStream(reply, coding).end()
        return reply
      }
      const seat = await live.take({
        holder: principal.userId ?? principal.id,
        filter: robotFilterOf(query, reach),
        reach,
        detail: query.detail,
        coding,
        lastEventId: request.headers['last-event-id'] || query.last_event_id,
      })
      const raw = beginStream(reply, coding)
      if (raw.destroyed || raw.closed) {
        seat.leave()
        return reply
      }
      const feed = seat.begin(sinkOf(raw))
      const release = standing.watch({
        principal,
        mayGoOn(authority) {
          if (!authority.holds(SCOPE)) return false
          feed.setReach(authority.reach(SCOPE))
          return true
        },
        onEnd(why) {
          log.info({ code: why.code, request_id: request.id }, 'a live feed was ended')
          feed.end(why.code, why.detail)
        },
      })
      raw.once('close', () => {
        release()
        feed.left()
      })
      return reply
    },
  })
}
