import { z } from 'zod'
import { DEPLOYMENT } from '../../access/authority.ts'
import { countRobotsWithin } from '../../db/fleet-metrics.ts'
import { principalOf } from '../guard.ts'
import type { App, HttpParts } from '../parts.ts'
import { publicUrl } from '../public-url.ts'
import { reachOf } from '../reach.ts'
import { component } from '../schemas.ts'
import { shardCount, shardsFor } from '../shards.ts'

const SCOPE = 'metrics:read'

const KINDS = ['server', 'robots'] as const

const query = z.strictObject({
  targets: z
    .enum([...KINDS, 'all'])
    .default('all')
    .describe('`server`: `/metrics`, for callers who may read it; `robots`: `/metrics/robots`, in shards'),
  shards: shardCount
    .optional()
    .describe('Default: a power of two, so that a shard has 2,500 robots at the most'),
})

const targetGroup = component(
  'PrometheusTargetGroup',
  z.object({
    targets: z.array(z.string()),
    labels: z
      .record(z.string(), z.string())
      .describe('`__meta_beacon_target` is `server` or `robots`; `instance` is of one target alone'),
  }),
)

export function prometheusRoutes(app: App, parts: HttpParts): void {
  const { config, database } = parts

  app.route({
    method: 'GET',
    url: '/api/prometheus/sd',
    config: { scope: SCOPE, on: 'listed' },
    schema: {
      operationId: 'discoverPrometheusTargets',
      summary: 'What Prometheus is to scrape, for its HTTP service discovery',
      description:
        'One target for `/metrics`, where the caller may read that, and one for each shard of the robots within reach. docs/monitoring.md has the configuration.',
      tags: ['Metrics'],
      querystring: query,
      response: { 200: z.array(targetGroup) },
    },
    handler: async (request) => {
      const { targets, shards } = request.query
      const reach = reachOf(request)
      const { protocol, host, pathname } = new URL(publicUrl(config, request))
      const group = (
        kind: (typeof KINDS)[number],
        path: string,
        instance: string,
        more: Record<string, string> = {},
      ) => ({
        targets: [host],
        labels: {
          instance,
          __scheme__: protocol.slice(0, -1),
          __metrics_path__: `${pathname.replace(/\/$/, '')}${path}`,
          __meta_beacon_target: kind,
          ...more,
        },
      })
      const groups: ReturnType<typeof group>[] = []
      if (targets !== 'robots' && principalOf(request).authority.covers(SCOPE, DEPLOYMENT))
        groups.push(group('server', '/metrics', host))
      if (targets === 'server') return groups
      const count = shards ?? shardsFor(await countRobotsWithin(database, reach))
      for (let shard = 0; shard < count; shard += 1)
        groups.push(
          group('robots', '/metrics/robots', `${host}/robots/${shard}-of-${count}`, {
            __param_shard: String(shard),
            __param_shards: String(count),
          }),
        )
      return groups
    },
  })
}
