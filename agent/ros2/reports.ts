import type { Clock } from '../runtime.ts'
import { Batteries } from './batteries.ts'
import { Diagnostics, type WantedFault } from './diagnostics.ts'
import { metricsOf } from './mapping-metrics.ts'
import type { PoseType } from './mapping-pose.ts'
import { Position } from './position.ts'
import { rounded } from './reading.ts'
import type { Ros2Settings } from './settings.ts'
import { type Item, TTL_S } from './teller.ts'

export const SILENT_FAULT = 'ros2-bridge:silent'
/** Messages of faults often hold numbers that never stand still, and each change is written to the disk. */
const CALM_FAULT_MS = 600_000
const CALM_VALUE_MS = 1_000
const CALM_METRIC_MS = 5_000
const CALM_OWN_MS = 10_000

/** All that was heard from ROS, as what the agent ought to hold. */
export class Reports {
  readonly #clock: Clock
  readonly #settings: Ros2Settings
  readonly #startedAt: number
  readonly #diagnostics: Diagnostics
  readonly #batteries: Batteries
  readonly #position: Position
  #refused = 0

  constructor(clock: Clock, settings: Ros2Settings) {
    this.#clock = clock
    this.#settings = settings
    this.#startedAt = clock.monotonic()
    this.#diagnostics = new Diagnostics({ clock, staleMs: settings.staleMs })
    this.#batteries = new Batteries({ clock, named: settings.battery, perHundred: settings.perHundred })
    this.#position = new Position(clock)
  }

  heardDiagnostics(message: unknown): void {
    this.#diagnostics.take(message)
  }

  heardBattery(message: unknown): void {
    this.#batteries.take(message)
  }

  heardPose(type: PoseType, message: unknown): void {
    this.#position.take(type, message)
  }

  standsStill(): void {
    this.#position.stillThere()
  }

  /** The agent did not take a line. */
  refused(): void {
    this.#refused++
  }

  get malformed(): number {
    return this.#diagnostics.malformed + this.#batteries.malformed + this.#position.malformed
  }

  get batteryIsOutOfScale(): boolean {
    return this.#batteries.isOutOfScale
  }

  get items(): readonly Item[] {
    const battery = this.#batteries.robots
    const { pose } = this.#position
    return [
      ...this.#faults.map(faultItem),
      ...(pose ? [valueItem('pose', pose, '')] : []),
      ...(battery?.battery
        ? [valueItem('battery', battery.battery, String(battery.battery.charging))]
        : battery?.voltage === undefined
          ? []
          : [metricItem('ros2_battery_voltage', battery.voltage, CALM_METRIC_MS)]),
      ...[...metricsOf(this.#diagnostics.current, this.#settings.metrics)].map(([name, value]) =>
        metricItem(name, value, CALM_METRIC_MS),
      ),
      ...this.#own.map(([name, value]) => metricItem(name, value, CALM_OWN_MS)),
    ]
  }

  get #faults(): readonly WantedFault[] {
    const { diagnosticsTopic, silenceMs } = this.#settings
    const faults = this.#diagnostics.faults
    if (diagnosticsTopic === undefined || silenceMs === undefined) return faults
    const silentFor = this.#clock.monotonic() - (this.#diagnostics.heardAt ?? this.#startedAt)
    if (silentFor < silenceMs) return faults
    const message = `nothing was heard on ${diagnosticsTopic} for more than ${Math.round(silenceMs / 1_000)} s`
    return [{ code: SILENT_FAULT, level: 'warn', message }, ...faults]
  }

  /** How the bridge itself does. */
  get #own(): readonly (readonly [name: string, value: number])[] {
    const { heardAt, current } = this.#diagnostics
    return [
      ...(heardAt === undefined
        ? []
        : ([
            ['ros2_diagnostics', current.length],
            ['ros2_diagnostics_age_s', rounded((this.#clock.monotonic() - heardAt) / 1_000, 1)],
          ] as const)),
      ...(this.malformed > 0 ? [['ros2_malformed', this.malformed] as const] : []),
      ...(this.#refused > 0 ? [['ros2_refused', this.#refused] as const] : []),
    ]
  }
}

function faultItem({ code, level, message }: WantedFault): Item {
  return {
    id: `fault ${code}`,
    line: { fault: { raise: { code, level, message, ttl_s: TTL_S } } },
    undo: { fault: { clear: code } },
    urgency: level,
    calmMs: CALM_FAULT_MS,
  }
}

function valueItem(name: 'pose' | 'battery', value: object, urgency: string): Item {
  return {
    id: name,
    line: { [name]: value, ttl_s: TTL_S },
    undo: { [name]: null },
    urgency,
    calmMs: CALM_VALUE_MS,
  }
}

function metricItem(name: string, value: number, calmMs: number): Item {
  return {
    id: `metric ${name}`,
    line: { metric: { [name]: value }, ttl_s: TTL_S },
    undo: { metric: { [name]: null } },
    urgency: '',
    calmMs,
  }
}
