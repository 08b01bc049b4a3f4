import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Database } from '../db/database.ts'
import { listRobots, type RobotFilter, type RobotSort } from '../db/robots.ts'
import { isStorableText } from '../protocol/text.ts'
import { decodeCursor, microseconds, pageOf } from './cursors.ts'
import { principalOf } from './guard.ts'
import { toRobot } from './robot-schema.ts'
import { id } from './schemas.ts'

/** A place counts for one order only. */
function placeSchema(sort: RobotSort, descending: boolean) {
  return z.strictObject({
    list: z.literal('robots'),
    sort: z.literal(sort),
    descending: z.literal(descending),
    value: sort === 'name' ? z.string().max(512).refine(isStorableText) : microseconds.nullable(),
    id,
  })
}

interface PageRequest {
  readonly sort: RobotSort
  readonly descending: boolean
  readonly limit: number
  readonly cursor: string | undefined
}

/** A page of the robots that pass the filter, as they are shown to operators. */
export async function pageOfRobots(
  database: Database,
  filter: RobotFilter,
  { sort, descending, limit, cursor }: PageRequest,
) {
  const after = decodeCursor(cursor, placeSchema(sort, descending))
  const rows = await listRobots(database, filter, { sort, descending, limit: limit + 1, after })
  return pageOf(rows, limit, toRobot, (row) => ({
    list: 'robots',
    sort,
    descending,
    value: row.place_value,
    id: row.id,
  }))
}

/** The robots that hang on a claim credential, by name, as far as the caller may see them. */
export function robotsOfCredential(
  database: Database,
  request: FastifyRequest,
  credentialId: string,
  page: { readonly limit: number; readonly cursor?: string | undefined },
) {
  const reach = principalOf(request).authority.reach('robots:read')
  const { limit, cursor } = page
  return pageOfRobots(database, { reach, credentialId }, { sort: 'name', descending: false, limit, cursor })
}
