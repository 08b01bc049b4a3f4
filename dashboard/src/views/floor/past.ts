import { api } from '../../api/client.ts'
import type { Trail } from '../../api/types.ts'

/** Robots of one request; with more, its address would be too long for some proxies. */
const AT_ONCE = 100
/** Robots beyond these begin their trails when somebody looks: with so many, lines hide the floor. */
const MOST = 1_000

/** Tells where robots were before somebody looked, some at a time. What cannot be had is missing, and no more than that. */
export async function loadTrails(
  ids: readonly string[],
  signal: AbortSignal,
  onTrails: (trails: readonly Trail[]) => void,
): Promise<void> {
  for (let start = 0; start < Math.min(ids.length, MOST); start += AT_ONCE) {
    const id = ids.slice(start, Math.min(start + AT_ONCE, MOST))
    try {
      const { items } = await api.get<{ items: Trail[] }>('/api/trails', { id }, { signal })
      onTrails(items)
    } catch {
      return
    }
  }
}
