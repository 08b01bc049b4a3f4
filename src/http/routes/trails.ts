import { z } from 'zod'
import { readTrails, TRAIL_MOST_MS } from '../../db/trails.ts'
import { poseSchema } from '../../protocol/frames.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { component, id, repeated, time } from '../schemas.ts'

const MINUTE_MS = 60_000
const MOST_MINUTES = TRAIL_MOST_MS / MINUTE_MS
const MOST_ROBOTS = 100

export const trailSchema = component(
  'Trail',
  z.object({
    robot_id: id,
    steps: z
      .array(z.object({ at: time.describe("On the robot's clock"), pose: poseSchema }))
      .describe('Oldest first, 120 at the most'),
  }),
)

export function trailRoutes(app: App, parts: HttpParts): void {
  const { clock, database } = parts

  app.route({
    method: 'GET',
    url: '/api/trails',
    config: { scope: 'robots:read', on: 'listed' },
    schema: {
      operationId: 'listTrails',
      summary: 'Tell where robots were in the last minutes',
      description: 'Robots that did not say where they were, and those out of reach, are left out.',
      tags: ['Robots'],
      querystring: z.strictObject({
        id: repeated(id, MOST_ROBOTS),
        minutes: z.coerce.number().int().min(1).max(MOST_MINUTES).default(MOST_MINUTES),
      }),
      response: { 200: z.object({ items: z.array(trailSchema) }) },
    },
    handler: async (request) => {
      const { id: ids, minutes } = request.query
      const from = new Date(clock.now() - minutes * MINUTE_MS)
      const trails = await readTrails(database, { reach: reachOf(request), ids, from })
      return {
        items: trails.map(({ robotId, steps }) => ({
          robot_id: robotId,
          steps: steps.map(({ at, pose }) => ({ at: at.toISOString(), pose })),
        })),
      }
    },
  })
}
