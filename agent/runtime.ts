import { randomBytes } from 'node:crypto'
import { uptime } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Timer {
  cancel(): void
}

/** Time as the agent's parts see it, in milliseconds, so that tests can move it. */
export interface Clock {
  /** Wall clock: milliseconds since 1970. A robot's may be wrong, and may jump. */
  now(): number
  /** Never steps back; for measuring how long something took. */
  monotonic(): number
  after(delayMs: number, call: () => void): Timer
  /** Resolves after the delay, or rejects with an AbortError. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>
}

export interface Random {
  /** A number from 0 up to, not including, 1. */
  fraction(): number
  bytes(count: number): Buffer
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, call) {
    const timer = setTimeout(call, delayMs)
    return { cancel: () => clearTimeout(timer) }
  },
  sleep: (delayMs, signal) => sleep(delayMs, undefined, signal ? { signal } : {}),
}

/** Milliseconds since the machine started, those in which it slept included; the same in each process. */
export const systemUptime = (): number => uptime() * 1_000

export const systemRandom: Random = {
  fraction: () => Math.random(),
  bytes: (count) => randomBytes(count),
}
