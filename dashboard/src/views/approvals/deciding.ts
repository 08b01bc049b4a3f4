import { api } from '../../api/client.ts'
import type { Decisions } from '../../api/types.ts'

export type Decision = 'approve' | 'deny'

/** Which robots: those named, or those that a filter finds. */
export type Target =
  | { readonly ids: readonly string[] }
  | { readonly filter: Readonly<Record<string, unknown>> }

/** Ids that one request takes. */
const MOST = 500

export interface Foreseen {
  readonly ids: readonly string[]
  readonly approved: number
  readonly removed: number
  readonly restored: number
  /** Named, but not waiting any more. */
  readonly skipped: number
  readonly names: readonly string[]
  /** The filter finds further ones, about which nothing is decided this time. */
  readonly isMore: boolean
}

export function foreseenOf(answers: readonly Pick<Decisions, 'robots' | 'skipped' | 'more'>[]): Foreseen {
  const robots = answers.flatMap((answer) => answer.robots)
  const count = (wanted: string) => robots.filter(({ outcome }) => outcome === wanted).length
  return {
    ids: robots.map(({ id }) => id),
    approved: count('approved'),
    removed: count('removed'),
    restored: count('restored'),
    skipped: answers.reduce((sum, { skipped }) => sum + skipped.length, 0),
    names: robots.slice(0, 8).map(({ name }) => name),
    isMore: answers.some(({ more }) => more),
  }
}

export function chunksOf<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  )
}

async function send(decision: Decision, target: Target, dry_run: boolean): Promise<Foreseen> {
  const targets = 'ids' in target ? chunksOf(target.ids, MOST).map((ids) => ({ ids })) : [target]
  const answers: Decisions[] = []
  for (const each of targets)
    answers.push(await api.post<Decisions>(`/api/approvals/${decision}`, { ...each, dry_run }))
  return foreseenOf(answers)
}

/** What a decision would do now. */
export const foresee = (decision: Decision, target: Target) => send(decision, target, true)

/** Decides about those that were foreseen, and no others: whoever came since was not shown to anybody. */
export const decide = (decision: Decision, ids: readonly string[]) => send(decision, { ids }, false)
