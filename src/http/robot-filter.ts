import { z } from 'zod'
import type { Reach } from '../db/reach.ts'
import type { RobotFilter } from '../db/robots.ts'
import { HEALTH, LIFECYCLES } from '../protocol/frames.ts'
import { freeText } from '../protocol/text.ts'
import { CONNECTIONS } from './robot-schema.ts'
import { id, labelSelector, repeated } from './schemas.ts'

/** Parameters that say which robots are wanted. */
export const robotFilters = {
  site: repeated(id).optional(),
  fleet: repeated(id).optional(),
  connection: repeated(z.enum(CONNECTIONS)).optional(),
  health: repeated(z.enum(HEALTH)).optional(),
  lifecycle: repeated(z.enum(LIFECYCLES)).optional(),
  label: repeated(labelSelector).optional().describe('`name` or `name=value`; all of them have to match'),
  credential: id
    .optional()
    .describe('Admitted by this enrollment key or provisioning token, or with a token that came with it'),
  q: freeText(128).optional().describe('Part of the name, or the beginning of the id'),
  id: repeated(id, 200).optional().describe('These robots alone'),
  faults: z
    .enum(['true', 'false'])
    .transform((text) => text === 'true')
    .optional()
    .describe('Whether the latest heartbeat names a fault'),
}

const filterSchema = z.object(robotFilters)

export function robotFilterOf(query: z.output<typeof filterSchema>, reach: Reach): RobotFilter {
  return {
    reach,
    sites: query.site,
    fleets: query.fleet,
    connections: query.connection,
    healths: query.health,
    lifecycles: query.lifecycle,
    labels: query.label,
    text: query.q,
    credentialId: query.credential,
    ids: query.id,
    hasFaults: query.faults,
  }
}
