import type { Database } from './database.ts'
import type { EventLevel } from './tables.ts'

/** A robot's timeline, newest first, events before `before` when given. */
export function listRobotEvents(
  db: Database,
  robotId: string,
  filter: { levels: readonly EventLevel[] | undefined; codes: readonly string[] | undefined },
  page: { limit: number; before: string | undefined },
) {
  const { levels, codes } = filter
  return db
    .selectFrom('robot_events')
    .select(['id', 'source', 'event_id', 'at', 'received_at', 'level', 'code', 'message', 'data'])
    .where('robot_id', '=', robotId)
    .$if(levels !== undefined, (query) => query.where('level', 'in', levels!))
    .$if(codes !== undefined, (query) => query.where('code', 'in', codes!))
    .$if(page.before !== undefined, (query) => query.where('id', '<', page.before!))
    .orderBy('id', 'desc')
    .limit(page.limit)
    .execute()
}
