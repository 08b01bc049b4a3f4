import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../agent/runtime.ts'
import { batterySensor } from '../../agent/sensors/battery.ts'
import { type Reading, SensorBoard } from '../../agent/sensors/board.ts'
import { hostSensors } from '../../agent/sensors/host.ts'
import { judge } from '../../agent/sensors/judgement.ts'
import { defaultInterface, networkSensor, signalOf } from '../../agent/sensors/network.ts'
import { cpuSensor, cpuTimesIn } from '../../agent/sensors/system.ts'
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
