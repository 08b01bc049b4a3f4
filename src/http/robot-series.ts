import type { KeyCount, RobotCount, RobotSeries } from '../db/fleet-metrics.ts'
import { HEALTH } from '../protocol/frames.ts'
import { type Exposition, expositionEnd, gaugeHeader, type Labels, sampleLine } from './exposition.ts'
import { CONNECTIONS } from './robot-schema.ts'

interface Sample {
  readonly labels?: Labels
  readonly value: number
}

/** One metric of each robot. No samples: the robot does not say. */
interface Family {
  readonly name: string
  readonly help: string
  readonly samples: (robot: RobotSeries) => readonly Sample[]
}

/** A value where the robot gives one. */
function optional(value: number | boolean | undefined | null): readonly Sample[] {
  return value === undefined || value === null ? [] : [{ value: Number(value) }]
}

/** One sample for each state, 1 for the one that holds. */
function stateSet(label: string, states: readonly string[], current: string): readonly Sample[] {
  return states.map((state) => ({ labels: { [label]: state }, value: Number(state === current) }))
}

function seconds(time: Date | null): readonly Sample[] {
  return time === null ? [] : [{ value: time.getTime() / 1000 }]
}

/** Exactly what can be known of robots; `robot_id` is the only label that all have, for `beacon_robot_info` joins. */
const FAMILIES: readonly Family[] = [
  {
    name: 'beacon_robot_info',
    help: 'What a robot is; always 1',
    samples: (robot) => [
      {
        labels: {
          name: robot.name,
          site: robot.site,
          fleet: robot.fleet,
          lifecycle: robot.lifecycle,
          agent_version: robot.agent?.version ?? robot.fingerprint.agent_version ?? '',
          hostname: robot.agent?.hostname ?? robot.fingerprint.hostname ?? '',
          os: robot.agent?.os ?? robot.fingerprint.os ?? '',
          platform: robot.agent?.platform ?? robot.fingerprint.platform ?? '',
          arch: robot.agent?.arch ?? robot.fingerprint.arch ?? '',
        },
        value: 1,
      },
    ],
  },
  {
    name: 'beacon_robot_online',
    help: 'Whether the robot is connected and heard',
    samples: (robot) => optional(robot.connection === 'online'),
  },
  {
    name: 'beacon_robot_connection',
    help: "The robot's connection: 1 for the state that holds",
    samples: (robot) => stateSet('connection', CONNECTIONS, robot.connection),
  },
  {
    name: 'beacon_robot_health',
    help: "The robot's health as it says itself: 1 for the state that holds",
    samples: (robot) => stateSet('health', HEALTH, robot.health),
  },
  {
    name: 'beacon_robot_last_seen_timestamp_seconds',
    help: 'When the robot was last heard, on the clock of the server',
    samples: (robot) => seconds(robot.last_seen_at),
  },
  {
    name: 'beacon_robot_heartbeat_timestamp_seconds',
    help: 'When the latest heartbeat was made, on the clock of the robot',
    samples: (robot) => seconds(robot.heartbeat_at),
  },
  {
    name: 'beacon_robot_battery_charge_ratio',
    help: 'Charge of the battery, 0 to 1',
    samples: ({ heartbeat }) => optional(heartbeat?.battery?.charge),
  },
  {
    name: 'beacon_robot_battery_charging',
    help: 'Whether the battery is being charged',
    samples: ({ heartbeat }) => optional(heartbeat?.battery?.charging),
  },
  {
    name: 'beacon_robot_battery_volts',
    help: 'Voltage of the battery',
    samples: ({ heartbeat }) => optional(heartbeat?.battery?.voltage),
  },
  {
    name: 'beacon_robot_cpu_ratio',
    help: 'Processor time in use, 0 to 1',
    samples: ({ heartbeat }) => optional(heartbeat?.system?.cpu),
  },
  {
    name: 'beacon_robot_memory_ratio',
    help: 'Memory in use, 0 to 1',
    samples: ({ heartbeat }) => optional(heartbeat?.system?.memory),
  },
  {
    name: 'beacon_robot_disk_ratio',
    help: 'Disk in use, 0 to 1',
    samples: ({ heartbeat }) => optional(heartbeat?.system?.disk),
  },
  {
    name: 'beacon_robot_temperature_celsius',
    help: 'Temperature of the computer',
    samples: ({ heartbeat }) => optional(heartbeat?.system?.temperature_c),
  },
  {
    name: 'beacon_robot_load1',
    help: 'Load average over one minute',
    samples: ({ heartbeat }) => optional(heartbeat?.system?.load_1m),
  },
  {
    name: 'beacon_robot_uptime_seconds',
    help: 'How long the computer has been running',
    samples: ({ heartbeat }) => optional(heartbeat?.system?.uptime_s),
  },
  {
    name: 'beacon_robot_faults',
    help: 'Faults that the latest heartbeat names',
    samples: ({ heartbeat }) => optional(heartbeat ? (heartbeat.faults?.length ?? 0) : null),
  },
  {
    name: 'beacon_robot_estop',
    help: 'Whether the emergency stop is pressed',
    samples: ({ heartbeat }) => optional(heartbeat?.estop),
  },
  {
    name: 'beacon_robot_metric',
    help: "A number under a name of the robot's own",
    samples: ({ heartbeat }) =>
      Object.entries(heartbeat?.metrics ?? {}).map(([metric, value]) => ({ labels: { metric }, value })),
  },
]

/** A chunk is sent once it is longer than this. */
const CHUNK_CHARACTERS = 32 * 1024

/**
 * The series of all robots, in chunks that are made when the one before is taken, with a turn of the event loop between
 * them: a scrape of a large fleet neither keeps robots waiting nor holds its whole text.
 */
export async function* robotSeries(
  robots: readonly RobotSeries[],
  format: Exposition,
): AsyncGenerator<string> {
  let chunk = ''
  for (const { name, help, samples } of FAMILIES) {
    chunk += gaugeHeader(format, name, help)
    for (const robot of robots) {
      for (const { labels, value } of samples(robot))
        chunk += sampleLine(name, { robot_id: robot.id, ...labels }, value)
      if (chunk.length < CHUNK_CHARACTERS) continue
      yield chunk
      chunk = ''
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  yield chunk + expositionEnd(format)
}

/** What is known of fleets: their robots by connection, and their keys. */
export function fleetSeries(
  robots: readonly RobotCount[],
  keys: readonly KeyCount[],
  format: Exposition,
): string {
  const family = <Count>(
    name: string,
    help: string,
    counts: readonly Count[],
    line: (count: Count) => string,
  ) => gaugeHeader(format, name, help) + counts.map(line).join('')
  return (
    family(
      'beacon_robots',
      'Robots that are not retired, by site, fleet and connection',
      robots,
      ({ robots, ...labels }) => sampleLine('beacon_robots', labels, robots),
    ) +
    family(
      'beacon_enrollment_keys_nearly_used_up',
      'Enrollment keys that still admit robots, with no more than a tenth of their uses left, by site and fleet',
      keys,
      ({ keys, ...labels }) => sampleLine('beacon_enrollment_keys_nearly_used_up', labels, keys),
    )
  )
}
