import type { HeartbeatBody } from '../../src/protocol/frames.ts'
import { fieldsOf, finiteIn, rounded, textIn } from './reading.ts'

export interface BatteryReading {
  /** Its place, else the frame, else the serial number; empty when it says none of them. */
  readonly id: string
  /** Undefined when how full it is cannot be told. */
  readonly battery: NonNullable<HeartbeatBody['battery']> | undefined
  readonly voltage: number | undefined
  /** The percentage is more than 1, where the message wants 0 to 1. */
  readonly isOutOfScale: boolean
}

/** power_supply_status; 0 is unknown. */
const CHARGING = 1
const NOT_CHARGING: readonly unknown[] = [2, 3, 4]
/** Rounding and drivers that calibrate a little over the end. */
const TOLERANCE = 0.05
const MAX_ID = 64

/**
 * Reads a `sensor_msgs/msg/BatteryState`. Undefined when it is none, or says that no battery is there. `perHundred`: its
 * driver gives the percentage as 0 to 100. Never throws.
 */
export function readBattery(message: unknown, perHundred: boolean): BatteryReading | undefined {
  const fields = fieldsOf(message)
  if (!('percentage' in fields) || fields.present === false) return undefined
  const percentage = finiteIn(fields.percentage)
  const told = percentage === undefined ? undefined : percentage / (perHundred ? 100 : 1)
  const charge = chargeOf(told) ?? chargeOf(measured(fields.charge, fields.capacity))
  const charging = chargingOf(finiteIn(fields.power_supply_status))
  const voltage = voltageOf(finiteIn(fields.voltage))
  return {
    id: idOf(fields),
    battery:
      charge === undefined
        ? undefined
        : {
            charge,
            ...(charging === undefined ? {} : { charging }),
            ...(voltage === undefined ? {} : { voltage }),
          },
    voltage,
    isOutOfScale: told !== undefined && told > 1 + TOLERANCE,
  }
}

/** Undefined for what is no share of a whole, as the -1 that some drivers send when they do not know. */
function chargeOf(share: number | undefined): number | undefined {
  if (share === undefined || share < -TOLERANCE || share > 1 + TOLERANCE) return undefined
  return rounded(Math.min(1, Math.max(0, share)), 4)
}

function measured(charge: unknown, capacity: unknown): number | undefined {
  const now = finiteIn(charge)
  const full = finiteIn(capacity)
  return now === undefined || full === undefined || full <= 0 ? undefined : now / full
}

function chargingOf(status: number | undefined): boolean | undefined {
  if (status === CHARGING) return true
  return NOT_CHARGING.includes(status) ? false : undefined
}

function voltageOf(volts: number | undefined): number | undefined {
  return volts === undefined || volts < 0 ? undefined : rounded(volts, 3)
}

function idOf(fields: Readonly<Record<string, unknown>>): string {
  const { frame_id } = fieldsOf(fields.header)
  return textIn(fields.location, MAX_ID) || textIn(frame_id, MAX_ID) || textIn(fields.serial_number, MAX_ID)
}
