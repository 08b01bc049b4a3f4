import type { Log } from '../log.ts'
import type { Clock } from '../runtime.ts'
import { describeError, printable } from '../text.ts'
import { POSE_TYPES, type PoseType } from './mapping-pose.ts'
import { type RosModule, type RosNode, takingAll, takingLatched } from './port.ts'
import type { Reports } from './reports.ts'
import type { Ros2Settings } from './settings.ts'

export interface SubscriptionParts {
  readonly ros: RosModule
  readonly node: RosNode
  readonly settings: Ros2Settings
  readonly reports: Reports
  readonly clock: Clock
  readonly log: Log
}

/** Every node publishes diagnostics on one topic, and all at once when they start. */
const DIAGNOSTICS_DEPTH = 200
/** Only the last counts. */
const VALUE_DEPTH = 5
const LOOK_MS = 2_000
/** Says where the robot is when it moved, and once more to whoever asks later. */
const LATCHED: PoseType = 'geometry_msgs/msg/PoseWithCovarianceStamped'

/** What the bridge listens to. */
export class Subscriptions {
  readonly #parts: SubscriptionParts
  /** The types that the pose's topic had, none of which can be read. */
  #foreignTypes = ''

  constructor(parts: SubscriptionParts) {
    this.#parts = parts
  }

  /** Listens; answers how many topics that are, those included that are still looked for. */
  begin(signal: AbortSignal): number {
    const { settings, reports } = this.#parts
    const { diagnosticsTopic, batteryTopic, poseTopic, poseType } = settings
    const begun = [
      diagnosticsTopic !== undefined &&
        this.#listen('diagnostic_msgs/msg/DiagnosticArray', diagnosticsTopic, DIAGNOSTICS_DEPTH, (message) =>
          reports.heardDiagnostics(message),
        ),
      batteryTopic !== undefined &&
        this.#listen('sensor_msgs/msg/BatteryState', batteryTopic, VALUE_DEPTH, (message) =>
          reports.heardBattery(message),
        ),
      poseTopic !== undefined && (poseType ? this.#listenToPose(poseType, poseTopic) : true),
    ]
    if (poseTopic !== undefined && !poseType) void this.#lookForPose(poseTopic, signal)
    return begun.filter(Boolean).length
  }

  async #lookForPose(topic: string, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    while (!signal.aborted) {
      const type = this.#poseTypeNow(topic)
      if (type) {
        if (this.#listenToPose(type, topic)) await this.#followLatched(type, topic, signal)
        return
      }
      await clock.sleep(LOOK_MS, signal).catch(() => {})
    }
  }

  #poseTypeNow(topic: string): PoseType | undefined {
    const { node, log } = this.#parts
    try {
      const name = this.#nameOf(topic)
      const types = node.getTopicNamesAndTypes().find((known) => known.name === name)?.types ?? []
      const type = POSE_TYPES.find((known) => types.includes(known))
      const foreign = types.join(', ')
      if (!type && foreign !== this.#foreignTypes)
        log.warn(`${name} is ${printable(foreign)}, which is no pose: it takes ${POSE_TYPES.join(', ')}`)
      this.#foreignTypes = foreign
      return type
    } catch (error) {
      log.debug(`the topics cannot be listed: ${describeError(error)}`)
      return undefined
    }
  }

  #listenToPose(type: PoseType, topic: string): boolean {
    const { ros, reports } = this.#parts
    const heard = (message: unknown) => reports.heardPose(type, message)
    const isHeard = this.#listen(type, topic, VALUE_DEPTH, heard)
    if (isHeard && type === LATCHED) this.#subscribe(type, topic, takingLatched(ros), heard)
    return isHeard
  }

  /** While the localisation is there, its last word holds. */
  async #followLatched(type: PoseType, topic: string, signal: AbortSignal): Promise<void> {
    const { node, reports, clock } = this.#parts
    while (type === LATCHED && !signal.aborted) {
      await clock.sleep(LOOK_MS, signal).catch(() => {})
      try {
        if (node.countPublishers(this.#nameOf(topic)) > 0) reports.standsStill()
      } catch {
        // Then it holds as long as any other pose.
      }
    }
  }

  #nameOf(topic: string): string {
    const { node, settings } = this.#parts
    try {
      return node.resolveTopicName?.(topic) ?? fullName(topic, settings)
    } catch {
      return fullName(topic, settings)
    }
  }

  #listen(type: string, topic: string, depth: number, heard: (message: unknown) => void): boolean {
    const { ros, log } = this.#parts
    const isHeard = this.#subscribe(type, topic, takingAll(ros, depth), heard)
    if (isHeard) log.info(`listens to ${this.#nameOf(topic)} (${type})`)
    return isHeard
  }

  #subscribe(type: string, topic: string, qos: object, heard: (message: unknown) => void): boolean {
    const { node, log } = this.#parts
    try {
      node.createSubscription(type, topic, { qos }, (message) => {
        try {
          heard(message)
        } catch (error) {
          log.warn(`a message of ${topic} was not understood: ${describeError(error)}`)
        }
      })
      return true
    } catch (error) {
      log.error(`cannot listen to ${topic} (${type}): ${describeError(error)}`)
      return false
    }
  }
}

/** The topic as the graph has it, when nothing is renamed. */
export function fullName(
  topic: string,
  { namespace, nodeName }: Pick<Ros2Settings, 'namespace' | 'nodeName'>,
): string {
  if (topic.startsWith('/')) return topic
  const space = namespace.replace(/^\/+/, '')
  const within = space === '' ? '' : `/${space}`
  return topic.startsWith('~/') ? `${within}/${nodeName}/${topic.slice(2)}` : `${within}/${topic}`
}
