import { sql, type Updateable } from 'kysely'
import type { Lifecycle } from '../protocol/frames.ts'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import { hangsOn, hasLabels, isCalled, type WantedLabels } from './robot-filters.ts'
import { inOrder, isBehind, type Placed, placeValue, type SortColumn, type SortedPage } from './sorting.ts'
import type { Connection, Health, Labels, Tables } from './tables.ts'

/** A robot with its status. A robot without a status row has never been heard of. */
export function selectRobots(db: Database) {
  return db
    .selectFrom('robots')
    .leftJoin('robot_status as status', 'status.robot_id', 'robots.id')
    .select([
      'robots.id',
      'robots.site_id',
      'robots.fleet_id',
      'robots.name',
      'robots.labels',
      'robots.lifecycle',
      'robots.credential_id',
      'robots.token_credential_id',
      'robots.pending_since',
      'robots.fingerprint',
      'robots.token_issued_at',
      'robots.token_revoked_at',
      'robots.rotation_requested_at',
      'robots.rotation_reason',
      'robots.created_at',
      'robots.updated_at',
      'robots.enrolled_at',
      'robots.retired_at',
      sql<number>`coalesce(status.session_no, 0)`.as('session_no'),
      sql<Connection>`coalesce(status.connection, 'unseen')`.as('connection'),
      sql<string>`coalesce(status.connection_reason, 'never_connected')`.as('connection_reason'),
      sql<Date>`coalesce(status.connection_since, robots.created_at)`.as('connection_since'),
      sql<Health>`coalesce(status.health, 'unknown')`.as('health'),
      'status.last_seen_at',
      'status.hello',
      'status.heartbeat_seq',
      'status.heartbeat_at',
      'status.heartbeat_received_at',
      'status.heartbeat',
      sql<number | null>`(extract(epoch FROM now() - status.heartbeat_received_at) * 1000)::bigint`.as(
        'heartbeat_age_ms',
      ),
    ])
}

export function findRobot(db: Database, id: string) {
  return selectRobots(db).where('robots.id', '=', id).executeTakeFirst()
}

export type RobotRow = NonNullable<Awaited<ReturnType<typeof findRobot>>>

export const ROBOT_SORTS = ['name', 'created_at', 'last_seen_at', 'connection_since'] as const
export type RobotSort = (typeof ROBOT_SORTS)[number]

export interface RobotFilter {
  /** Where the list may come from at all. */
  readonly reach: Reach
  readonly sites?: readonly string[] | undefined
  readonly fleets?: readonly string[] | undefined
  readonly connections?: readonly Connection[] | undefined
  readonly healths?: readonly Health[] | undefined
  readonly lifecycles?: readonly Lifecycle[] | undefined
  readonly labels?: WantedLabels | undefined
  /** The credential that admitted the robot, or that its token came with. */
  readonly credentialId?: string | undefined
  /** Part of the name, or the beginning of the id. */
  readonly text?: string | undefined
  readonly ids?: readonly string[] | undefined
  /** Whether the latest heartbeat names a fault. */
  readonly hasFaults?: boolean | undefined
}

const SORT_COLUMNS: Record<RobotSort, SortColumn> = {
  name: { column: sql`robots.name`, type: 'text' },
  created_at: { column: sql`robots.created_at`, type: 'time' },
  last_seen_at: { column: sql`status.last_seen_at`, type: 'time' },
  connection_since: { column: sql`coalesce(status.connection_since, robots.created_at)`, type: 'time' },
}
const ID = sql`robots.id`
const HAS_FAULTS = sql<boolean>`coalesce(jsonb_array_length(status.heartbeat -> 'faults') > 0, false)`

/** Robots that pass the filter, sorted, those behind `after` when given; `place` is each one's own. */
export function listRobots(
  db: Database,
  filter: RobotFilter,
  page: SortedPage<RobotSort>,
): Promise<Placed<RobotRow>[]> {
  const sort = SORT_COLUMNS[page.sort]
  const { text, credentialId, labels = [] } = filter
  let query = selectRobots(db)
    .select(placeValue(sort).as('place_value'))
    .where(inReach(filter.reach, 'robots.fleet_id'))
    .where(hasLabels(labels))
  if (filter.sites) query = query.where('robots.site_id', 'in', filter.sites)
  if (filter.fleets) query = query.where('robots.fleet_id', 'in', filter.fleets)
  if (filter.lifecycles) query = query.where('robots.lifecycle', 'in', filter.lifecycles)
  if (filter.connections)
    query = query.where(sql`coalesce(status.connection, 'unseen')`, 'in', filter.connections)
  if (filter.healths) query = query.where(sql`coalesce(status.health, 'unknown')`, 'in', filter.healths)
  if (filter.ids) query = query.where('robots.id', 'in', filter.ids)
  if (filter.hasFaults !== undefined) query = query.where(HAS_FAULTS, '=', filter.hasFaults)
  if (text !== undefined) query = query.where(isCalled(text))
  if (credentialId !== undefined) query = query.where(hangsOn(credentialId))
  if (page.after) query = query.where(isBehind(sort, ID, page.descending, page.after))
  return query
    .orderBy(inOrder(sort, ID, page.descending))
    .limit(page.limit)
    .execute()
}

/** Keeps the robot as it is until the transaction ends, and tells how it is. */
export function lockRobot(db: Database, id: string) {
  return db
    .selectFrom('robots')
    .select(['id', 'site_id', 'fleet_id', 'name', 'labels', 'lifecycle', 'token_revoked_at'])
    .select(sql<boolean>`token_hash IS NOT NULL`.as('has_token'))
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst()
}

export type LockedRobot = NonNullable<Awaited<ReturnType<typeof lockRobot>>>

/** A robot made by hand, before its machine is there. */
export async function insertRobot(
  db: Database,
  robot: { id: string; siteId: string; fleetId: string; name: string; labels: Labels },
): Promise<void> {
  await db
    .insertInto('robots')
    .values({
      id: robot.id,
      site_id: robot.siteId,
      fleet_id: robot.fleetId,
      name: robot.name,
      labels: JSON.stringify(robot.labels),
    })
    .execute()
  await db.insertInto('robot_status').values({ robot_id: robot.id }).execute()
}

export async function updateRobot(
  db: Database,
  id: string,
  change: Pick<Updateable<Tables['robots']>, 'name' | 'labels' | 'fleet_id' | 'site_id' | 'lifecycle'>,
): Promise<void> {
  await db
    .updateTable('robots')
    .set({ ...change, updated_at: sql`now()` })
    .where('id', '=', id)
    .execute()
}

export async function setRobotRetired(db: Database, id: string): Promise<void> {
  await db
    .updateTable('robots')
    .set({
      lifecycle: 'retired',
      lifecycle_before: null,
      pending_since: null,
      retired_at: sql`now()`,
      updated_at: sql`now()`,
    })
    .where('id', '=', id)
    .execute()
}

/** A robot as far as has to be told of it. */
export interface NamedRobot {
  readonly id: string
  readonly name: string
  readonly site_id: string
  readonly fleet_id: string
}

/**
 * When a robot's token is revoked: once its row is held. The transaction may have begun long before, and a credential made
 * while it waited has to count as older, for it does not bring the robot back.
 */
export const REVOKED_NOW = sql<Date>`clock_timestamp()`

/** Revokes the robots' tokens, where there is one that still stands; returns those robots. */
export function revokeRobotTokens(
  db: Database,
  which: { id: string } | { credentialId: string; reach: Reach },
): Promise<NamedRobot[]> {
  return db
    .updateTable('robots')
    .set({ token_revoked_at: REVOKED_NOW, updated_at: sql`now()` })
    .where('token_hash', 'is not', null)
    .where('token_revoked_at', 'is', null)
    .where(
      'id' in which
        ? sql<boolean>`robots.id = ${which.id}`
        : sql<boolean>`${hangsOn(which.credentialId)} AND ${inReach(which.reach, 'robots.fleet_id')}`,
    )
    .returning(['id', 'name', 'site_id', 'fleet_id'])
    .execute()
}

/** Robots that hang on a credential, hold a token that stands, and are not within reach. */
export async function countOutOfReach(db: Database, credentialId: string, reach: Reach): Promise<number> {
  if (reach === 'everything') return 0
  const { count } = await db
    .selectFrom('robots')
    .select((robot) => robot.fn.countAll<number>().as('count'))
    .where(hangsOn(credentialId))
    .where('token_hash', 'is not', null)
    .where('token_revoked_at', 'is', null)
    .where(sql<boolean>`NOT ${inReach(reach, 'robots.fleet_id')}`)
    .executeTakeFirstOrThrow()
  return Number(count)
}

/** Removes the record of a robot with all that hangs on it. Its heartbeats stay until they are too old. */
export async function deleteRobot(db: Database, id: string): Promise<void> {
  await db.deleteFrom('robots').where('id', '=', id).execute()
}
