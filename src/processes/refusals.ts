import type { AuditEntry } from '../db/audit.ts'
import type { Clock } from '../runtime.ts'
import type { FromProcess, ToldRefusal } from './messages.ts'

const TELL_REFUSALS_EVERY_MS = 250
/** Beyond these, refusals that wait are in the metrics alone: whoever makes so many shows already. */
export const MAX_REFUSALS_AT_ONCE = 1_000

/** Sends a message to the supervisor; `sent` is called once it has left this process. */
export type Tell = (message: FromProcess, sent?: () => void) => void

/**
 * Hands refusals to the supervisor, who has the audit log: many at a time, never more than it can take, and none while it
 * has not taken the ones before, for they would pile up in the channel.
 */
export function startTellingRefusals(clock: Pick<Clock, 'every'>, tell: Tell) {
  let entries: ToldRefusal[] = []
  let isSending = false
  const send = (): void => {
    if (entries.length === 0) return
    const told = entries
    entries = []
    isSending = true
    tell({ type: 'refusals', entries: told }, () => {
      isSending = false
    })
  }
  const timer = clock.every(TELL_REFUSALS_EVERY_MS, () => {
    if (!isSending) send()
  })
  return {
    refused({ at, ...entry }: AuditEntry): void {
      if (entries.length < MAX_REFUSALS_AT_ONCE) entries.push({ ...entry, at: at.toISOString() })
    },
    stop(): void {
      timer.cancel()
      send()
    },
  }
}
