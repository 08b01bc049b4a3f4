import { addressGroup } from '../addresses.ts'
import type { AuditEntry } from '../db/audit.ts'
import { newId } from '../ids.ts'
import { minuteOf } from './minutes.ts'

/** Kinds in one minute: an attacker with many addresses makes each of theirs one, and each is a line that is kept for ever. */
const MAX_KINDS = 2_000

interface Refusal {
  readonly minute: number
  /** Those after the first. */
  repetitions: number
  first: Date
  last: AuditEntry
}

/** Who, or from where when nobody is known; what; why. */
function kindOf({ actor, address, action, data }: AuditEntry): string {
  const who = actor.id ?? addressGroup(address ?? '')
  return `${who} ${actor.kind} ${action} ${String(data.code ?? data.reason)}`
}

/** Lets the first refusal of each kind and minute through and counts the others. Bounded: what does not fit is only counted. */
export class Refusals {
  readonly #refusals = new Map<string, Refusal>()
  #missed = 0

  /** The line to write at once, if this is the first of its kind. */
  add(entry: AuditEntry): AuditEntry | undefined {
    const minute = minuteOf(entry.at.getTime())
    const key = `${minute} ${kindOf(entry)}`
    const known = this.#refusals.get(key)
    if (known) {
      if (known.repetitions === 0) known.first = entry.at
      known.repetitions += 1
      known.last = entry
      return undefined
    }
    if (this.#refusals.size >= MAX_KINDS) {
      this.#missed += 1
      return undefined
    }
    this.#refusals.set(key, { minute, repetitions: 0, first: entry.at, last: entry })
    return entry
  }

  /** Takes out what was refused again in the minutes that are over by `now`: one line for each kind. */
  takeEnded(now: number): AuditEntry[] {
    const minute = minuteOf(now)
    const entries: AuditEntry[] = []
    for (const [key, refusal] of this.#refusals) {
      if (refusal.minute >= minute) continue
      this.#refusals.delete(key)
      if (refusal.repetitions > 0) entries.push(entryOf(refusal))
    }
    return entries
  }

  /** Refusals that did not fit since the last time this was asked. */
  takeMissed(): number {
    const missed = this.#missed
    this.#missed = 0
    return missed
  }
}

/** As the last of them, with how often it was. */
function entryOf({ repetitions, first, last }: Refusal): AuditEntry {
  const repeated = { repetitions, first: first.toISOString(), last: last.at.toISOString() }
  return { ...last, id: newId(), data: { ...last.data, ...repeated } }
}
