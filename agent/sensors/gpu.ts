import { join } from 'node:path'
import type { Reading, Sensor } from './board.ts'
import { namesIn, readNumber, readText } from './kernel-files.ts'

/** Where NVIDIA's Jetsons tell of their GPU, in thousandths; the folder changed with their releases. */
const JETSON = [
  'devices/gpu.0/load',
  'devices/platform/gpu.0/load',
  'devices/platform/bus@0/17000000.gpu/load',
]

/**
 * Load (0 … 1) and temperature of a graphics processor as the metrics `gpu_load` and `gpu_temperature_c`, where the kernel
 * has files for them: Jetson, AMD, and the Mali and Adreno of small boards. No program is started for it.
 */
export function gpuSensor(sys = '/sys'): Sensor {
  return async () => {
    const load = (await jetsonLoad(sys)) ?? (await amdLoad(sys)) ?? (await devfreqLoad(sys))
    const celsius = (await zoneCelsius(sys)) ?? (await amdCelsius(sys))
    const metrics: NonNullable<Reading['metrics']> = {
      ...(load === undefined ? {} : { gpu_load: Number(load.toFixed(3)) }),
      ...(celsius === undefined ? {} : { gpu_temperature_c: Number(celsius.toFixed(1)) }),
    }
    return Object.keys(metrics).length > 0 ? { metrics } : {}
  }
}

async function jetsonLoad(sys: string): Promise<number | undefined> {
  for (const path of JETSON) {
    const load = share(await readNumber(join(sys, path)), 1_000)
    if (load !== undefined) return load
  }
  return undefined
}

async function amdLoad(sys: string): Promise<number | undefined> {
  for (const card of await cards(sys)) {
    const load = share(await readNumber(join(card, 'gpu_busy_percent')), 100)
    if (load !== undefined) return load
  }
  return undefined
}

/** `37@600000000Hz`: percent at the clock's present rate. */
async function devfreqLoad(sys: string): Promise<number | undefined> {
  const folder = join(sys, 'class/devfreq')
  for (const name of await namesIn(folder)) {
    if (!/gpu|mali|kgsl/i.test(name)) continue
    const found = /^(\d+)@\d+Hz$/.exec((await readText(join(folder, name, 'load'))) ?? '')
    const load = share(found ? Number(found[1]) : undefined, 100)
    if (load !== undefined) return load
  }
  return undefined
}

async function zoneCelsius(sys: string): Promise<number | undefined> {
  const folder = join(sys, 'class/thermal')
  for (const name of await namesIn(folder)) {
    if (!name.startsWith('thermal_zone')) continue
    if (!/^gpu/i.test((await readText(join(folder, name, 'type'))) ?? '')) continue
    const celsius = plausible(await readNumber(join(folder, name, 'temp')))
    if (celsius !== undefined) return celsius
  }
  return undefined
}

async function amdCelsius(sys: string): Promise<number | undefined> {
  for (const card of await cards(sys)) {
    if ((await readNumber(join(card, 'gpu_busy_percent'))) === undefined) continue
    for (const name of await namesIn(join(card, 'hwmon'))) {
      const celsius = plausible(await readNumber(join(card, 'hwmon', name, 'temp1_input')))
      if (celsius !== undefined) return celsius
    }
  }
  return undefined
}

async function cards(sys: string): Promise<string[]> {
  const folder = join(sys, 'class/drm')
  return (await namesIn(folder))
    .filter((name) => /^card\d+$/.test(name))
    .map((name) => join(folder, name, 'device'))
}

function share(part: number | undefined, whole: number): number | undefined {
  return part !== undefined && part >= 0 && part <= whole ? part / whole : undefined
}

/** Thousandths of a degree; what is switched off says nonsense. */
function plausible(thousandths: number | undefined): number | undefined {
  const celsius = (thousandths ?? 0) / 1_000
  return celsius > -60 && celsius < 200 && celsius !== 0 ? celsius : undefined
}
