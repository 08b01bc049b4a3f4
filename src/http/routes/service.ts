import { z } from 'zod'
import { BeaconError } from '../../errors.ts'
import { version } from '../../package.ts'
import { SUBPROTOCOL } from '../../protocol/limits.ts'
import type { App, HttpParts } from '../parts.ts'
import { gatewayUrl } from '../public-url.ts'

const readiness = z.object({ ready: z.boolean(), reasons: z.array(z.string()) })

/** What the server says of itself. */
export function serviceRoutes(app: App, parts: HttpParts): void {
  const { config, gatewayPath, health } = parts

  app.route({
    method: 'GET',
    url: '/healthz',
    config: { scope: 'public' },
    schema: {
      operationId: 'getHealth',
      summary: 'Whether the process runs',
      tags: ['Service'],
      response: { 200: z.object({ status: z.literal('ok') }) },
    },
    handler: async () => ({ status: 'ok' as const }),
  })

  app.route({
    method: 'GET',
    url: '/readyz',
    config: { scope: 'public' },
    schema: {
      operationId: 'getReadiness',
      summary: 'Whether this server should be sent requests',
      tags: ['Service'],
      response: { 200: readiness, 503: readiness.describe('Not ready, and why') },
    },
    handler: async (_, reply) => {
      const { ready, reasons } = await health.ready()
      reply.code(ready ? 200 : 503)
      return { ready, reasons: [...reasons] }
    },
  })

  app.route({
    method: 'GET',
    url: '/api/info',
    config: { scope: 'public' },
    schema: {
      operationId: 'getInfo',
      summary: 'What this server is and where robots connect',
      tags: ['Service'],
      response: {
        200: z.object({
          name: z.literal('beacon'),
          version: z.string(),
          protocol: z.literal(SUBPROTOCOL),
          gateway_url: z.string(),
          heartbeat_interval_ms: z.number().int().describe("Where a robot's fleet says nothing else"),
        }),
      },
    },
    handler: async (request) => ({
      name: 'beacon' as const,
      version,
      protocol: SUBPROTOCOL as typeof SUBPROTOCOL,
      gateway_url: gatewayUrl(parts, request),
      heartbeat_interval_ms: config.heartbeatIntervalMs,
    }),
  })

  app.route({
    method: 'GET',
    url: '/openapi.json',
    config: { scope: 'public' },
    schema: {
      operationId: 'getOpenApi',
      summary: 'This document',
      tags: ['Service'],
      response: { 200: z.record(z.string(), z.unknown()) },
    },
    handler: async () => app.swagger() as unknown as Record<string, unknown>,
  })

  // Upgrades are taken from the socket and never come here.
  app.route({
    method: 'GET',
    url: gatewayPath,
    config: { scope: 'public', problems: ['upgrade_required'] },
    schema: {
      operationId: 'openSession',
      summary: "The robots' WebSocket",
      description: `Needs \`Upgrade: websocket\`, the subprotocol \`${SUBPROTOCOL}\` and a robot's token as bearer.`,
      tags: ['Agents'],
    },
    handler: async (_, reply) => {
      reply.header('upgrade', 'websocket')
      throw new BeaconError('upgrade_required')
    },
  })
}
