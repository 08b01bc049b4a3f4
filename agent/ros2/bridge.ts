import { AgentExit, EXIT } from '../exit.ts'
import type { Log } from '../log.ts'
import type { Clock } from '../runtime.ts'
import { describeError } from '../text.ts'
import { AgentLink } from './agent-link.ts'
import type { RosModule, RosNode } from './port.ts'
import { Reports } from './reports.ts'
import type { Ros2Settings } from './settings.ts'
import { Subscriptions } from './subscriptions.ts'
import { Teller } from './teller.ts'

export interface BridgeParts {
  readonly ros: RosModule
  readonly settings: Ros2Settings
  /** Arguments for ROS, as `--ros-args …`. */
  readonly rosArgs: readonly string[]
  /** Where the agent listens. */
  readonly socket: () => string
  readonly clock: Clock
  readonly log: Log
}

/** How long the thread that waits for messages sleeps at most, and so what an end may have to wait. */
const SPIN_MS = 100
const WATCH_MS = 1_000

/** Hands what ROS tells to the running agent until the signal. Throws AgentExit when ROS cannot be used. */
export async function runBridge(parts: BridgeParts, signal: AbortSignal): Promise<void> {
  const { ros, settings, socket, clock, log } = parts
  const node = await joinRos(parts)
  try {
    const reports = new Reports(clock, settings)
    const count = new Subscriptions({ ros, node, settings, reports, clock, log }).begin(signal)
    if (count === 0) throw new AgentExit(EXIT.error, 'there is nothing to listen to')
    node.spin(SPIN_MS)
    const link = new AgentLink({
      socket,
      teller: new Teller(clock, () => reports.items),
      rate: settings.rate,
      refused: () => reports.refused(),
      clock,
      log,
    })
    await Promise.all([link.run(signal), watch(reports, clock, log, signal)])
  } finally {
    leaveRos(ros, log)
  }
}

async function joinRos({ ros, settings, rosArgs, log }: BridgeParts): Promise<RosNode> {
  try {
    await ros.init(undefined, [...rosArgs])
    // Signals are for the bridge: it takes back what it told before it ends.
    ros.removeSignalHandlers()
    return new ros.Node(settings.nodeName, settings.namespace)
  } catch (error) {
    leaveRos(ros, log)
    throw new AgentExit(EXIT.error, `ROS 2 cannot be joined: ${describeError(error)}`)
  }
}

function leaveRos(ros: RosModule, log: Log): void {
  try {
    ros.shutdown()
  } catch (error) {
    log.debug(`ROS did not end well: ${describeError(error)}`)
  }
}

/** Tells once of what a person should look at. */
async function watch(reports: Reports, clock: Clock, log: Log, signal: AbortSignal): Promise<void> {
  let malformed = 0
  let toldOfScale = false
  while (!signal.aborted) {
    await clock.sleep(WATCH_MS, signal).catch(() => {})
    if (reports.malformed > 0 && malformed === 0)
      log.warn(`${reports.malformed} messages could not be read; the metric ros2_malformed counts them`)
    malformed = reports.malformed
    if (reports.batteryIsOutOfScale && !toldOfScale)
      log.warn(
        'the battery’s percentage is more than 1: if its driver tells 0 to 100, start with --battery-percent',
      )
    toldOfScale = reports.batteryIsOutOfScale
  }
}
