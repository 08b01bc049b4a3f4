import type { HeartbeatBody } from '../../src/protocol/frames.ts'
import type { Clock } from '../runtime.ts'

/** What sensors can say of a robot's own computer. */
export type Reading = Pick<HeartbeatBody, 'battery' | 'system' | 'network' | 'metrics'>

/** Reads one thing. What is not there is left out; throwing is the same as having nothing to say. */
export type Sensor = () => Promise<Reading>

const PATIENCE_MS = 500
/** How old a value may be and still be told, when a sensor is slow to give a new one. */
const MAX_AGE_MS = 30_000

interface Slot {
  readonly sensor: Sensor
  /** At most one reading of a sensor is under way, however long it hangs. */
  isBusy: boolean
  last: Reading
  lastAt: number
}

/** Reads all sensors together, and never makes a heartbeat wait longer than half a second for any of them. */
export class SensorBoard {
  readonly #clock: Clock
  readonly #slots: readonly Slot[]

  constructor(sensors: readonly Sensor[], clock: Clock) {
    this.#clock = clock
    this.#slots = sensors.map((sensor) => ({ sensor, isBusy: false, last: {}, lastAt: -Infinity }))
  }

  async read(): Promise<Reading> {
    const all = Promise.all(this.#slots.map((slot) => this.#refresh(slot)))
    const patience = new Promise<void>((resolve) => {
      const timer = this.#clock.after(PATIENCE_MS, resolve)
      all.then(() => timer.cancel())
    })
    await Promise.race([all, patience])
    return this.#slots
      .filter((slot) => this.#clock.monotonic() - slot.lastAt <= MAX_AGE_MS)
      .reduce((sum, slot) => merge(sum, slot.last), {})
  }

  async #refresh(slot: Slot): Promise<void> {
    if (slot.isBusy) return
    slot.isBusy = true
    try {
      slot.last = await slot.sensor()
    } catch {
      slot.last = {}
    } finally {
      slot.lastAt = this.#clock.monotonic()
      slot.isBusy = false
    }
  }
}

function merge(one: Reading, other: Reading): Reading {
  const system = one.system || other.system ? { ...one.system, ...other.system } : undefined
  const metrics = one.metrics || other.metrics ? { ...one.metrics, ...other.metrics } : undefined
  return { ...one, ...other, ...(system ? { system } : {}), ...(metrics ? { metrics } : {}) }
}
