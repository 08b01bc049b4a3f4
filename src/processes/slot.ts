/** Why a gateway process ended that was not told to, or not in time. */
export type ExitReason =
  /** It went away by itself, or somebody killed it. */
  | 'crash'
  /** Its event loop stood still, and it was killed for it. */
  | 'hang'
  /** It did not come to take robots. */
  | 'start'
  /** It was told to drain, and was not done in time. */
  | 'drain'

/**
 * One place for a gateway process, always in one of these modes. Times are milliseconds during which the supervisor
 * itself was awake, so that a pause of its own never looks like a hang of somebody else. `failures` counts processes in
 * a row that lived shortly; `doomed` stands once the process was killed and has yet to end.
 */
export type Slot =
  | { readonly mode: 'waiting'; readonly until: number; readonly failures: number }
  | {
      readonly mode: 'starting'
      readonly since: number
      readonly failures: number
      readonly doomed?: ExitReason
    }
  | {
      readonly mode: 'ready'
      readonly since: number
      readonly failures: number
      readonly pingedAt: number
      /** The oldest ping that is not answered yet. */
      readonly unansweredSince?: number
      readonly doomed?: ExitReason
    }
  | { readonly mode: 'draining'; readonly until: number; readonly doomed?: ExitReason }
  | { readonly mode: 'over' }

export type SlotEvent =
  | { readonly type: 'tick' }
  /** It takes robots. */
  | { readonly type: 'ready' }
  | { readonly type: 'pong' }
  /** `fraction`: from 0 up to 1, by chance, so that places do not start again in step. */
  | { readonly type: 'exited'; readonly fraction: number }
  /** Nothing is to run here any more, and what runs has this long to end. */
  | { readonly type: 'drain'; readonly withinMs: number }

export type SlotEffect =
  | { readonly type: 'start' }
  | { readonly type: 'ping' }
  | { readonly type: 'drain' }
  | { readonly type: 'kill'; readonly reason: ExitReason }
  /** A process ended that should have gone on; the next one starts after the pause. */
  | { readonly type: 'lost'; readonly reason: ExitReason; readonly pauseMs: number }

export const PING_EVERY_MS = 3_000
/** A process that answers nothing for this long does nothing else either: its robots are better off elsewhere. */
export const HANG_MS = 15_000
export const START_WITHIN_MS = 30_000
/** Whoever lived this long did not die of its start. */
export const STABLE_AFTER_MS = 60_000
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 30_000

/** A place where a process is to be started at once. */
export const EMPTY_SLOT: Slot = { mode: 'waiting', until: 0, failures: 0 }

interface Step {
  readonly slot: Slot
  readonly effects: readonly SlotEffect[]
}

const stay = (slot: Slot, ...effects: SlotEffect[]): Step => ({ slot, effects })

/** Decides what becomes of a place, and what has to be done about it. */
export function step(slot: Slot, event: SlotEvent, now: number): Step {
  switch (event.type) {
    case 'tick':
      return onTick(slot, now)
    case 'ready':
      return slot.mode === 'starting' && !slot.doomed
        ? stay({ mode: 'ready', since: slot.since, failures: slot.failures, pingedAt: now })
        : stay(slot)
    case 'pong':
      if (slot.mode !== 'ready' || slot.unansweredSince === undefined || slot.doomed) return stay(slot)
      return stay({ mode: 'ready', since: slot.since, failures: slot.failures, pingedAt: slot.pingedAt })
    case 'exited':
      return onExit(slot, now, event.fraction)
    case 'drain':
      if (slot.mode === 'waiting') return stay({ mode: 'over' })
      if (slot.mode === 'over' || slot.mode === 'draining') return stay(slot)
      return slot.doomed
        ? stay({ mode: 'draining', until: now + event.withinMs, doomed: slot.doomed })
        : stay({ mode: 'draining', until: now + event.withinMs }, { type: 'drain' })
  }
}

function onTick(slot: Slot, now: number): Step {
  switch (slot.mode) {
    case 'waiting':
      return now < slot.until
        ? stay(slot)
        : stay({ mode: 'starting', since: now, failures: slot.failures }, { type: 'start' })
    case 'starting':
      return slot.doomed || now - slot.since < START_WITHIN_MS ? stay(slot) : kill(slot, 'start')
    case 'ready': {
      if (slot.doomed) return stay(slot)
      if (slot.unansweredSince !== undefined && now - slot.unansweredSince >= HANG_MS)
        return kill(slot, 'hang')
      if (now - slot.pingedAt < PING_EVERY_MS) return stay(slot)
      const unansweredSince = slot.unansweredSince ?? now
      return stay({ ...slot, pingedAt: now, unansweredSince }, { type: 'ping' })
    }
    case 'draining':
      return slot.doomed || now < slot.until ? stay(slot) : kill(slot, 'drain')
    case 'over':
      return stay(slot)
  }
}

function kill(slot: Extract<Slot, { doomed?: ExitReason }>, reason: ExitReason): Step {
  return stay({ ...slot, doomed: reason }, { type: 'kill', reason })
}

function onExit(slot: Slot, now: number, fraction: number): Step {
  switch (slot.mode) {
    case 'starting':
    case 'ready': {
      const reason = slot.doomed ?? (slot.mode === 'starting' ? 'start' : 'crash')
      const failures = now - slot.since < STABLE_AFTER_MS ? slot.failures + 1 : 1
      const pauseMs = pauseAfter(failures, fraction)
      return stay({ mode: 'waiting', until: now + pauseMs, failures }, { type: 'lost', reason, pauseMs })
    }
    case 'draining':
      return slot.doomed
        ? stay({ mode: 'over' }, { type: 'lost', reason: slot.doomed, pauseMs: 0 })
        : stay({ mode: 'over' })
    case 'waiting':
    case 'over':
      return stay(slot)
  }
}

/** None after the first, for its robots come back at once; then growing ones, for whatever kills it may go on. */
function pauseAfter(failures: number, fraction: number): number {
  if (failures <= 1) return 0
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** (failures - 2), LONGEST_PAUSE_MS)
  return Math.round(longest * (0.5 + fraction / 2))
}
