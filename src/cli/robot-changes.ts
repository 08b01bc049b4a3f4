import type { Robot } from './shapes.ts'

/** What a watcher is told; heartbeats alone are no change. */
const WATCHED = ['name', 'connection', 'health', 'lifecycle', 'site_id', 'fleet_id'] as const
type Watched = (typeof WATCHED)[number]

export interface RobotChange {
  readonly change: 'appeared' | 'changed' | 'gone'
  readonly robot: Robot
  /** The values before, of the fields that changed. */
  readonly before: Partial<Record<Watched, string>>
}

/** What happened between two looks at the same robots. */
export function changesBetween(before: ReadonlyMap<string, Robot>, now: readonly Robot[]): RobotChange[] {
  const ids = new Set(now.map(({ id }) => id))
  const present = now.flatMap((robot): RobotChange[] => {
    const known = before.get(robot.id)
    if (!known) return [{ change: 'appeared', robot, before: {} }]
    const changed = WATCHED.filter((field) => known[field] !== robot[field])
    if (changed.length === 0) return []
    return [
      { change: 'changed', robot, before: Object.fromEntries(changed.map((field) => [field, known[field]])) },
    ]
  })
  const gone = [...before.values()]
    .filter(({ id }) => !ids.has(id))
    .map((robot): RobotChange => ({ change: 'gone', robot, before: {} }))
  return [...present, ...gone]
}
