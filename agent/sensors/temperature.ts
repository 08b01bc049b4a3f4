import { join } from 'node:path'
import type { Sensor } from './board.ts'
import { namesIn, readNumber, readText } from './kernel-files.ts'

/** Zones that stand for the processor, best first; else the warmest zone counts. */
const PROCESSOR_ZONE = /^(x86_pkg_temp|cpu[-_]?thermal|cpu\d*-thermal|soc[-_]?thermal|acpitz)/i

/** The processor's temperature from the kernel's thermal zones, else from its hardware monitors. */
export function temperatureSensor(classes = '/sys/class'): Sensor {
  return async () => {
    const celsius =
      (await fromZones(join(classes, 'thermal'))) ?? (await fromMonitors(join(classes, 'hwmon')))
    return celsius === undefined ? {} : { system: { temperature_c: celsius } }
  }
}

async function fromZones(folder: string): Promise<number | undefined> {
  const zones: { type: string; celsius: number }[] = []
  for (const name of await namesIn(folder)) {
    if (!name.startsWith('thermal_zone')) continue
    const celsius = plausible(await readNumber(join(folder, name, 'temp')))
    if (celsius !== undefined)
      zones.push({ type: (await readText(join(folder, name, 'type'))) ?? '', celsius })
  }
  const processor = zones.filter((zone) => PROCESSOR_ZONE.test(zone.type))
  return warmest(processor.length > 0 ? processor : zones)
}

async function fromMonitors(folder: string): Promise<number | undefined> {
  const found: { celsius: number }[] = []
  for (const name of await namesIn(folder)) {
    const kind = await readText(join(folder, name, 'name'))
    if (!kind || !/^(coretemp|k10temp|zenpower|cpu_thermal)$/.test(kind)) continue
    const celsius = plausible(await readNumber(join(folder, name, 'temp1_input')))
    if (celsius !== undefined) found.push({ celsius })
  }
  return warmest(found)
}

/** Thousandths of a degree as degrees; sensors that are not connected report nonsense. */
function plausible(thousandths: number | undefined): number | undefined {
  if (thousandths === undefined) return undefined
  const celsius = thousandths / 1_000
  return celsius > -60 && celsius < 200 && celsius !== 0 ? Number(celsius.toFixed(1)) : undefined
}

function warmest(zones: readonly { celsius: number }[]): number | undefined {
  return zones.length === 0 ? undefined : Math.max(...zones.map((zone) => zone.celsius))
}
