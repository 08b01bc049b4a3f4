import type { Clock } from '../runtime.ts'
import { batterySensor } from './battery.ts'
import type { Sensor } from './board.ts'
import { platformSensor } from './elsewhere.ts'
import { gpuSensor } from './gpu.ts'
import { networkSensor } from './network.ts'
import { cpuSensor, diskSensor, loadSensor, memorySensor } from './system.ts'
import { temperatureSensor } from './temperature.ts'

/** The sensors of this computer. `folder` lies on the disk to be watched. */
export function hostSensors(folder: string, clock: Clock): Sensor[] {
  const everywhere = [cpuSensor(), memorySensor, diskSensor(folder), loadSensor]
  return process.platform === 'linux'
    ? [...everywhere, temperatureSensor(), batterySensor(), networkSensor(), gpuSensor()]
    : [...everywhere, platformSensor(clock)]
}
