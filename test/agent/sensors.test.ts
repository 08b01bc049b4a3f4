import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../agent/runtime.ts'
import { batterySensor } from '../../agent/sensors/battery.ts'
import { type Reading, SensorBoard } from '../../agent/sensors/board.ts'
import { gpuSensor } from '../../agent/sensors/gpu.ts'
import { hostSensors } from '../../agent/sensors/host.ts'
import { judge } from '../../agent/sensors/judgement.ts'
import { defaultInterface, networkSensor, signalOf } from '../../agent/sensors/network.ts'
import { cpuSensor, cpuTimesIn, diskSensor } from '../../agent/sensors/system.ts'
import { temperatureSensor } from '../../agent/sensors/temperature.ts'
import { heartbeatSchema } from '../../src/protocol/frames.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'

/** A folder that looks like a part of /sys or /proc. */
function kernelFiles(files: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder()
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), `${text}\n`)
  }
  return folder
}

describe('the board', () => {
  test('waits half a second for a sensor that hangs, starts it only once, and tells what the others say', async () => {
    const clock = new ManualClock()
    let begun = 0
    const hangs = () => {
      begun++
      return new Promise<Reading>(() => {})
    }
    const board = new SensorBoard([hangs, async () => ({ system: { load_1m: 1 } })], clock)
    for (let turn = 0; turn < 3; turn++) {
      const reading = board.read()
      await clock.pass(500)
      expect(await reading).toEqual({ system: { load_1m: 1 } })
    }
    expect(begun).toBe(1)
  })

  test('tells a slow value again while it is fresh, and not after', async () => {
    const clock = new ManualClock()
    let isSlow = false
    const sensor = () =>
      isSlow ? new Promise<Reading>(() => {}) : Promise.resolve({ system: { temperature_c: 40 } })
    const board = new SensorBoard([sensor], clock)
    expect(await board.read()).toEqual({ system: { temperature_c: 40 } })
    isSlow = true
    const again = board.read()
    await clock.pass(500)
    expect(await again).toEqual({ system: { temperature_c: 40 } })
    await clock.pass(60_000)
    expect(await board.read()).toEqual({})
  })

  test('adds up what several sensors say of the same section', async () => {
    const one = async (): Promise<Reading> => ({ system: { cpu: 0.5 }, metrics: { gpu_load: 0.1 } })
    const other = async (): Promise<Reading> => ({ system: { memory: 0.4 }, metrics: { fan: 3 } })
    expect(await new SensorBoard([one, other], new ManualClock()).read()).toEqual({
      system: { cpu: 0.5, memory: 0.4 },
      metrics: { gpu_load: 0.1, fan: 3 },
    })
  })

  test('a sensor that throws says nothing', async () => {
    const failing = async (): Promise<Reading> => {
      throw new Error('no such device')
    }
    const board = new SensorBoard([failing, async () => ({ system: { cpu: 0.5 } })], new ManualClock())
    expect(await board.read()).toEqual({ system: { cpu: 0.5 } })
  })

  test('the sensors of this computer say what a heartbeat can hold', async () => {
    const board = new SensorBoard(hostSensors(temporaryFolder(), systemClock), systemClock)
    const reading = await board.read()
    const frame = { type: 'heartbeat', seq: 1, at: '2026-01-01T00:00:00Z', ...reading }
    expect(heartbeatSchema.safeParse(frame).error).toBeUndefined()
    expect(reading.system).toMatchObject({ memory: expect.any(Number), disk: expect.any(Number) })
  })
})

describe('sensors', () => {
  test('cpu: the share since the reading before', async () => {
    const stats = ['cpu  100 0 100 800 0 0 0 0 0 0', 'cpu  150 0 150 850 50 0 0 0 0 0']
    const sensor = cpuSensor(async () => cpuTimesIn(stats.shift()!))
    expect(await sensor()).toEqual({})
    expect(await sensor()).toEqual({ system: { cpu: 0.5 } })
  })

  test('temperature: the processor’s zone before others, and no nonsense', async () => {
    const warm = kernelFiles({
      'thermal/thermal_zone0/type': 'battery',
      'thermal/thermal_zone0/temp': '70000',
      'thermal/thermal_zone1/type': 'cpu-thermal',
      'thermal/thermal_zone1/temp': '51250',
      'thermal/thermal_zone2/type': 'cpu-thermal',
      'thermal/thermal_zone2/temp': '-274000',
    })
    expect(await temperatureSensor(warm)()).toEqual({ system: { temperature_c: 51.3 } })
    const monitored = kernelFiles({ 'hwmon/hwmon3/name': 'k10temp', 'hwmon/hwmon3/temp1_input': '44000' })
    expect(await temperatureSensor(monitored)()).toEqual({ system: { temperature_c: 44 } })
    expect(await temperatureSensor('/nowhere')()).toEqual({})
  })

  test('battery: the computer’s own', async () => {
    const folder = kernelFiles({
      'AC/type': 'Mains',
      'BAT0/type': 'Battery',
      'BAT0/capacity': '87',
      'BAT0/status': 'Discharging',
      'BAT0/voltage_now': '12345678',
      'AAA_mouse/type': 'Battery',
      'AAA_mouse/scope': 'Device',
      'AAA_mouse/capacity': '5',
    })
    expect(await batterySensor(folder)()).toEqual({
      battery: { charge: 0.87, charging: false, voltage: 12.35 },
    })
    const measured = kernelFiles({
      'BAT1/type': 'Battery',
      'BAT1/energy_now': '30',
      'BAT1/energy_full': '40',
      'BAT1/status': 'Charging',
    })
    expect(await batterySensor(measured)()).toEqual({ battery: { charge: 0.75, charging: true } })
    expect(await batterySensor('/nowhere')()).toEqual({})
  })

  test('disk: the one that a folder lies on, and nothing of a folder that is not there', async () => {
    const { system } = await diskSensor(temporaryFolder())()
    expect(system!.disk).toBeGreaterThan(0)
    expect(system!.disk).toBeLessThanOrEqual(1)
    await expect(diskSensor('/nowhere')()).rejects.toThrow(/ENOENT/)
  })

  test('gpu: Jetson, AMD and small boards, by files alone', async () => {
    const jetson = kernelFiles({
      'devices/platform/gpu.0/load': '374',
      'class/thermal/thermal_zone0/type': 'CPU-therm',
      'class/thermal/thermal_zone0/temp': '50000',
      'class/thermal/thermal_zone1/type': 'GPU-therm',
      'class/thermal/thermal_zone1/temp': '47350',
    })
    expect(await gpuSensor(jetson)()).toEqual({ metrics: { gpu_load: 0.374, gpu_temperature_c: 47.4 } })
    const amd = kernelFiles({
      'class/drm/card0-HDMI-A-1/status': 'connected',
      'class/drm/card0/device/vendor': '0x8086',
      'class/drm/card1/device/gpu_busy_percent': '99',
      'class/drm/card1/device/hwmon/hwmon4/temp1_input': '61000',
    })
    expect(await gpuSensor(amd)()).toEqual({ metrics: { gpu_load: 0.99, gpu_temperature_c: 61 } })
    const mali = kernelFiles({
      'class/devfreq/dmc/load': '9@800000000Hz',
      'class/devfreq/fb000000.gpu/load': '37@600000000Hz',
    })
    expect(await gpuSensor(mali)()).toEqual({ metrics: { gpu_load: 0.37 } })
    const nonsense = kernelFiles({
      'devices/gpu.0/load': '-1',
      'class/drm/card0/device/gpu_busy_percent': '4000',
      'class/devfreq/x.gpu/load': 'off',
      'class/thermal/thermal_zone1/type': 'gpu-thermal',
      'class/thermal/thermal_zone1/temp': '-274000',
    })
    expect(await gpuSensor(nonsense)()).toEqual({})
    expect(await gpuSensor('/nowhere')()).toEqual({})
  })

  test('network: the way out', async () => {
    const header = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT'
    const route = (name: string, metric: number) =>
      `${name}\t00000000\t0101A8C0\t0003\t0\t0\t${metric}\t00000000\t0\t0\t0`
    const routes = [header, route('wwan0', 700), route('wlan0', 600)].join('\n')
    expect(defaultInterface(routes)).toBe('wlan0')
    const wireless = ' wlan0: 0000   54.  -56.  -256        0      0      0      0      0        0'
    expect(signalOf('wlan0', wireless)).toBe(-56)
    const proc = kernelFiles({ route: routes, wireless })
    const classes = kernelFiles({ 'net/wlan0/wireless/x': '' })
    expect(await networkSensor(proc, classes)()).toEqual({
      network: { interface: 'wlan0', kind: 'wifi', signal_dbm: -56 },
    })
    expect(await networkSensor('/nowhere', '/nowhere')()).toEqual({})
  })
})

describe('judgement', () => {
  const at = '2026-01-01T00:00:00Z'

  test('nothing wrong is ok, also when there is nothing to read', () => {
    expect(judge({}, [], at)).toEqual({ health: 'ok', faults: [] })
    expect(judge({ system: { disk: 0.9 }, battery: { charge: 0.05, charging: true } }, [], at).health).toBe(
      'ok',
    )
  })

  test('a fault keeps its beginning, and does not flicker at its edge', () => {
    const begun = judge({ system: { disk: 0.951 } }, [], at)
    expect(begun).toMatchObject({ health: 'warn', faults: [{ code: 'disk_nearly_full', since: at }] })
    const later = judge({ system: { disk: 0.945 } }, begun.faults, '2026-01-01T01:00:00Z')
    expect(later.faults).toEqual(begun.faults)
    expect(judge({ system: { disk: 0.9 } }, later.faults, at).faults).toEqual([])
  })
})
