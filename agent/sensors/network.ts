import { access } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sensor } from './board.ts'
import { readText } from './kernel-files.ts'

/** The interface that the way out goes through, and what kind it is. */
export function networkSensor(proc = '/proc/net', classes = '/sys/class'): Sensor {
  return async () => {
    const name = defaultInterface((await readText(join(proc, 'route'))) ?? '')
    if (!name) return {}
    const kind = await kindOf(name, join(classes, 'net', name))
    const signal = signalOf(name, (await readText(join(proc, 'wireless'))) ?? '')
    return { network: { interface: name, kind, ...(signal === undefined ? {} : { signal_dbm: signal }) } }
  }
}

/** The interface of the default route with the lowest metric in /proc/net/route. */
export function defaultInterface(routes: string): string | undefined {
  return routes
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1] === '00000000' && fields[7] === '00000000')
    .sort((one, other) => Number(one[6]) - Number(other[6]))[0]?.[0]
}

async function kindOf(name: string, folder: string): Promise<string> {
  if ((await exists(join(folder, 'wireless'))) || (await exists(join(folder, 'phy80211')))) return 'wifi'
  if (/^(ww|rmnet|ppp|usb)/.test(name)) return 'cellular'
  if (/^(tun|tap|wg|tailscale|zt)/.test(name)) return 'tunnel'
  return 'ethernet'
}

/** Signal level in dBm from /proc/net/wireless. */
export function signalOf(name: string, wireless: string): number | undefined {
  const line = wireless.split('\n').find((text) => text.trim().startsWith(`${name}:`))
  const level = Number(line?.trim().split(/\s+/)[3])
  return Number.isFinite(level) && level < 0 ? level : undefined
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
