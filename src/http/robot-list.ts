import type { FastifyRequest } from 'fastify'
import type { Database } from '../db/database.ts'
import { listRobots, type RobotFilter, type RobotSort } from '../db/robots.ts'
import { principalOf } from './guard.ts'
import { toRobot } from './robot-schema.ts'
import { type SortedQuery, sortedPage } from './sorted-lists.ts'

/** A page of the robots that pass the filter, as they are shown to operators. */
export function pageOfRobots(database: Database, filter: RobotFilter, query: SortedQuery<RobotSort>) {
  return sortedPage('robots', query, (page) => listRobots(database, filter, page), toRobot)
}

/** The robots that hang on a claim credential, by name, as far as the caller may see them. */
export function robotsOfCredential(
  database: Database,
  request: FastifyRequest,
  credentialId: string,
  page: Omit<SortedQuery<RobotSort>, 'sort'>,
) {
  const reach = principalOf(request).authority.reach('robots:read')
  return pageOfRobots(database, { reach, credentialId }, { ...page, sort: 'name' })
}
