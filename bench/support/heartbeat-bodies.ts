import type { HeartbeatBody } from '../../src/protocol/frames.ts'
import type { Random } from '../../src/runtime.ts'

const rounded = (value: number, decimals: number) => Number(value.toFixed(decimals))

/** The heartbeats of a robot that drives about, as the agent tells of them: answers with the next body. */
export function drivingRobot({ fraction }: Random): () => HeartbeatBody {
  const noise = (size: number) => (fraction() + fraction() + fraction() - 1.5) * size
  let [x, y, theta, charge, speed, uptime] = [
    fraction() * 50,
    fraction() * 30,
    0,
    0.5 + fraction() / 2,
    0.8,
    5_000,
  ]
  let [celsius, memory, disk, load, distance] = [52, 0.42, 0.371, 1.1, 0]
  return () => {
    theta += noise(0.4)
    speed = Math.max(0, Math.min(1.5, speed + noise(0.3)))
    x += Math.cos(theta) * speed * 10
    y += Math.sin(theta) * speed * 10
    charge = Math.max(0.1, charge - 0.00012)
    celsius += noise(0.6) + (54 - celsius) * 0.05
    memory += noise(0.004)
    disk += fraction() < 0.02 ? 0.001 : 0
    load = Math.max(0.1, load + noise(0.3) + (1 - load) * 0.1)
    distance += speed * 10
    uptime += 10
    return {
      health: 'ok',
      mode: 'auto',
      activity: fraction() < 0.98 ? 'driving' : 'docking',
      battery: {
        charge: rounded(charge, 3),
        charging: false,
        voltage: rounded(22 + charge * 4 + noise(0.1), 2),
      },
      pose: { frame: 'map', x: rounded(x, 3), y: rounded(y, 3), theta: rounded(theta, 4) },
      system: {
        cpu: rounded(Math.min(1, 0.35 + Math.abs(noise(0.2))), 3),
        memory: rounded(memory, 3),
        disk: rounded(disk, 3),
        temperature_c: rounded(celsius, 1),
        load_1m: rounded(load, 2),
        uptime_s: uptime,
      },
      network: {
        interface: 'wlan0',
        kind: 'wifi',
        signal_dbm: Math.round(-58 + noise(8)),
        rtt_ms: Math.round(18 + Math.abs(noise(14))),
      },
      metrics: {
        speed: rounded(speed, 3),
        distance_m: rounded(distance, 1),
        motor_current_a: rounded(2 + speed * 3 + noise(0.6), 2),
        gpu_load: rounded(Math.min(1, 0.5 + Math.abs(noise(0.3))), 3),
        gpu_temperature_c: rounded(celsius + 6 + noise(1), 1),
      },
    }
  }
}
