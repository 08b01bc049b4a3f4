import { join } from 'node:path'
import type { HeartbeatBody } from '../../src/protocol/frames.ts'
import type { Sensor } from './board.ts'
import { namesIn, readNumber, readText } from './kernel-files.ts'

/** The first battery of the computer that the kernel knows; a mouse's or a pen's does not count. */
export function batterySensor(folder = '/sys/class/power_supply'): Sensor {
  return async () => {
    for (const name of await namesIn(folder)) {
      const battery = await readBattery(join(folder, name))
      if (battery) return { battery }
    }
    return {}
  }
}

async function readBattery(folder: string): Promise<HeartbeatBody['battery']> {
  if ((await readText(join(folder, 'type'))) !== 'Battery') return undefined
  if ((await readText(join(folder, 'scope'))) === 'Device') return undefined
  const percent = (await readNumber(join(folder, 'capacity'))) ?? (await measuredPercent(folder))
  if (percent === undefined) return undefined
  const status = await readText(join(folder, 'status'))
  const microvolts = await readNumber(join(folder, 'voltage_now'))
  return {
    charge: Math.min(1, Math.max(0, Number((percent / 100).toFixed(3)))),
    ...(status && status !== 'Unknown' ? { charging: status === 'Charging' } : {}),
    ...(microvolts !== undefined ? { voltage: Number((microvolts / 1e6).toFixed(2)) } : {}),
  }
}

async function measuredPercent(folder: string): Promise<number | undefined> {
  for (const kind of ['energy', 'charge']) {
    const now = await readNumber(join(folder, `${kind}_now`))
    const full = await readNumber(join(folder, `${kind}_full`))
    if (now !== undefined && full) return (now / full) * 100
  }
  return undefined
}
