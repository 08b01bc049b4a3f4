import { AgentExit, EXIT } from '../exit.ts'
import { LOG_LEVELS, type LogLevel } from '../log.ts'
import type { Environment } from '../settings.ts'
import { printable } from '../text.ts'
import { type MetricRule, parseMetricRule } from './mapping-metrics.ts'
import { POSE_TYPES, type PoseType, poseTypeNamed } from './mapping-pose.ts'

/** Flags of `beacon agent ros2`, as the command line gave them. */
export interface Ros2Flags {
  readonly config?: string
  readonly socket?: string
  readonly rclnodejs?: string
  readonly namespace?: string
  readonly nodeName?: string
  readonly diagnosticsTopic?: string
  readonly batteryTopic?: string
  readonly battery?: string
  readonly batteryPercent?: boolean
  readonly poseTopic?: string
  readonly poseType?: string
  readonly metric?: readonly string[]
  readonly rate?: string
  readonly staleSeconds?: string
  readonly silenceSeconds?: string
  readonly logLevel?: string
}

/** What the bridge goes by: flag, else environment, else the default. A topic that is undefined is not listened to. */
export interface Ros2Settings {
  /** Undefined: where the agent's own commands find it. */
  readonly socket: string | undefined
  readonly rclnodejs: string | undefined
  readonly namespace: string
  readonly nodeName: string
  readonly diagnosticsTopic: string | undefined
  readonly batteryTopic: string | undefined
  /** The battery that counts, where one topic tells of several. */
  readonly battery: string | undefined
  /** The driver tells 0 to 100. */
  readonly perHundred: boolean
  readonly poseTopic: string | undefined
  /** Undefined: looked up. */
  readonly poseType: PoseType | undefined
  readonly metrics: readonly MetricRule[]
  /** Lines to the agent in a second, at most. */
  readonly rate: number
  /** Undefined: a status never becomes stale. */
  readonly staleMs: number | undefined
  /** Undefined: diagnostics may be silent. */
  readonly silenceMs: number | undefined
  readonly logLevel: LogLevel
}

const OFF = 'off'
const MAX_RATE = 20
const MAX_METRICS = 32
const MAX_SECONDS = 86_400
const NODE_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,254}$/
const NAMESPACE = /^\/?$|^(\/?[A-Za-z_][A-Za-z0-9_]*)(\/[A-Za-z_][A-Za-z0-9_]*)*$/
const TOPIC = /^(~\/|\/)?[A-Za-z_][A-Za-z0-9_]*(\/[A-Za-z_][A-Za-z0-9_]*)*$/
const MAX_NAME = 255

/** Reads the settings; every mistake is reported at once. */
export function readRos2Settings(flags: Ros2Flags, env: Environment): Ros2Settings {
  const mistakes: string[] = []
  const take = <Value>(
    [flag, variable]: readonly [flag: string, variable: string],
    given: string | undefined,
    fallback: Value,
    read: (text: string) => Value | Mistake,
  ): Value => {
    const [label, text] = given === undefined ? [variable, env[variable] || undefined] : [flag, given]
    if (text === undefined) return fallback
    const value = read(text)
    if (!(value instanceof Mistake)) return value
    mistakes.push(`${label} "${printable(text, 80)}" ${value.sentence}`)
    return fallback
  }
  const named = (name: string) =>
    [`--${name}`, `BEACON_ROS2_${name.toUpperCase().replaceAll('-', '_')}`] as const
  const text = (whole: string) => whole
  const level = named('log-level')

  const settings: Ros2Settings = {
    socket: take<string | undefined>(named('socket'), flags.socket, undefined, text),
    rclnodejs: take<string | undefined>(named('rclnodejs'), flags.rclnodejs, undefined, text),
    namespace: take(named('namespace'), flags.namespace, '', matching(NAMESPACE, 'is no namespace of ROS')),
    nodeName: take(
      named('node-name'),
      flags.nodeName,
      'beacon_bridge',
      matching(NODE_NAME, 'is no name of a node: letters, digits and _'),
    ),
    diagnosticsTopic: take(named('diagnostics-topic'), flags.diagnosticsTopic, '/diagnostics', topic),
    batteryTopic: take(named('battery-topic'), flags.batteryTopic, 'battery_state', topic),
    battery: take<string | undefined>(named('battery'), flags.battery, undefined, text),
    perHundred: take(
      named('battery-percent'),
      flags.batteryPercent === undefined ? undefined : String(flags.batteryPercent),
      false,
      yesOrNo,
    ),
    poseTopic: take(named('pose-topic'), flags.poseTopic, 'amcl_pose', topic),
    poseType: take<PoseType | undefined>(named('pose-type'), flags.poseType, undefined, poseType),
    metrics: take(
      ['--metric', 'BEACON_ROS2_METRICS'],
      flags.metric?.join('\n'),
      [] as readonly MetricRule[],
      metricRules,
    ),
    rate: take(named('rate'), flags.rate, 5, between(1, MAX_RATE)),
    staleMs: take(named('stale-seconds'), flags.staleSeconds, 30_000, seconds),
    silenceMs: take(named('silence-seconds'), flags.silenceSeconds, 60_000, seconds),
    logLevel: take(
      env[level[1]] ? level : [level[0], 'BEACON_LOG_LEVEL'],
      flags.logLevel,
      'info' as LogLevel,
      logLevel,
    ),
  }
  if (mistakes.length > 0) throw new AgentExit(EXIT.usage, mistakes.join('\n'))
  return settings
}

class Mistake {
  readonly sentence: string

  constructor(sentence: string) {
    this.sentence = sentence
  }
}

function matching(pattern: RegExp, sentence: string) {
  return (text: string) => (pattern.test(text) && text.length <= MAX_NAME ? text : new Mistake(sentence))
}

function topic(text: string): string | undefined | Mistake {
  return text === OFF ? undefined : matching(TOPIC, `is no topic of ROS; "${OFF}" is none`)(text)
}

function poseType(text: string): PoseType | Mistake {
  return poseTypeNamed(text) ?? new Mistake(`must be one of ${POSE_TYPES.join(', ')}`)
}

function between(least: number, most: number) {
  return (text: string) => {
    const number = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
    return number >= least && number <= most ? number : new Mistake(`must lie between ${least} and ${most}`)
  }
}

/** In milliseconds. */
function seconds(text: string): number | undefined | Mistake {
  if (text === OFF) return undefined
  const read = between(1, MAX_SECONDS)(text)
  return read instanceof Mistake ? new Mistake(`${read.sentence}, or be "${OFF}"`) : read * 1_000
}

function yesOrNo(text: string): boolean | Mistake {
  return text === 'true' || text === '1' || text === 'yes'
    ? true
    : text === 'false' || text === '0' || text === 'no'
      ? false
      : new Mistake('must be true or false')
}

function metricRules(text: string): readonly MetricRule[] | Mistake {
  const rules = text
    .split(/[\n;]/)
    .filter((line) => line.trim() !== '')
    .map((line) => parseMetricRule(line.trim()))
  const wrong = rules.find((rule) => typeof rule === 'string')
  if (wrong) return new Mistake(wrong)
  const read = rules.filter((rule) => typeof rule !== 'string')
  if (read.length > MAX_METRICS) return new Mistake(`names more than ${MAX_METRICS} metrics`)
  const names = new Set(read.map(({ metric }) => metric))
  return names.size === read.length ? read : new Mistake('names one metric twice')
}

function logLevel(text: string): LogLevel | Mistake {
  if (text === 'trace') return 'debug'
  if (text === 'fatal') return 'error'
  return LOG_LEVELS.find((known) => known === text) ?? new Mistake(`must be one of ${LOG_LEVELS.join(', ')}`)
}
