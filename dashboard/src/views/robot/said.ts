import type { Robot } from '../../api/types.ts'

type Heartbeat = NonNullable<Robot['heartbeat']>

/** What a heartbeat can tell of; each part may be left out. */
export const PARTS = [
  'health',
  'mode',
  'activity',
  'battery',
  'pose',
  'system',
  'network',
  'estop',
  'faults',
  'metrics',
] as const
export type Part = (typeof PARTS)[number]

/** What a robot said last of each part, and when the server heard it. */
export type Said = {
  readonly [P in Part]?: { readonly value: NonNullable<Heartbeat[P]>; readonly at: string }
}

/** What is known after one more heartbeat: parts that it leaves out stay as they were, and grow old. */
export function hear(said: Said, heartbeat: Heartbeat | null | undefined): Said {
  if (!heartbeat) return said
  const next: Record<string, unknown> = { ...said }
  for (const part of PARTS)
    if (heartbeat[part] !== undefined) next[part] = { value: heartbeat[part], at: heartbeat.received_at }
  return next as Said
}

/** From this age on a value is marked as old: a healthy robot would have said it again. Milliseconds. */
export function oldAfterMs(heartbeatMs: number): number {
  return 2.5 * heartbeatMs + 2_000
}

/** A tree of whatever values as lines of path and text, for people; longer ones end with how many are left out. */
export function linesOf(value: unknown, most = 40): [path: string, text: string][] {
  const lines: [string, string][] = []
  const walk = (inner: unknown, path: string) => {
    if (typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0)
      for (const [name, next] of Object.entries(inner)) walk(next, path === '' ? name : `${path}.${name}`)
    else lines.push([path, typeof inner === 'object' && inner !== null ? '–' : String(inner)])
  }
  walk(value, '')
  return lines.length <= most ? lines : [...lines.slice(0, most), ['…', `and ${lines.length - most} more`]]
}
