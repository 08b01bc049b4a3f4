import type { Clock } from '../runtime.ts'
import type { Reading, Sensor } from './board.ts'

/** These readings start programs of the platform, so they are made rarely and told again in between. */
const REST_MS = 60_000

/** Battery and temperature on platforms whose kernel has no files for them. */
export function platformSensor(clock: Clock): Sensor {
  let last: Reading = {}
  let readAt = -Infinity
  return async () => {
    if (clock.monotonic() - readAt < REST_MS) return last
    readAt = clock.monotonic()
    last = await readPlatform()
    return last
  }
}

async function readPlatform(): Promise<Reading> {
  const { default: information } = await import('systeminformation')
  const [battery, temperature] = await Promise.all([information.battery(), information.cpuTemperature()])
  const hasTemperature = typeof temperature.main === 'number' && temperature.main > 0
  return {
    ...(battery.hasBattery
      ? {
          battery: {
            charge: Math.min(1, Math.max(0, battery.percent / 100)),
            charging: battery.isCharging,
            ...(battery.voltage > 0 ? { voltage: battery.voltage } : {}),
          },
        }
      : {}),
    ...(hasTemperature ? { system: { temperature_c: temperature.main } } : {}),
  }
}
