import { endSignal } from '../end-signal.ts'
import { createLog, type LogOutput } from '../log.ts'
import type { Clock } from '../runtime.ts'
import type { Environment } from '../settings.ts'
import { runBridge } from './bridge.ts'
import { loadRclnodejs } from './load.ts'
import { type Ros2Flags, readRos2Settings } from './settings.ts'

export interface StartParts {
  readonly env: Environment
  readonly output: LogOutput
  /** For ROS, as `--ros-args …`. */
  readonly rosArgs: readonly string[]
  /** Where the agent is expected to listen. */
  readonly socket: () => string
  readonly clock: Clock
}

/** The process of the bridge: reads its settings, loads rclnodejs, and works until a signal. Throws AgentExit. */
export async function startBridge(flags: Ros2Flags, parts: StartParts): Promise<void> {
  const { env, output, rosArgs, clock } = parts
  const settings = readRos2Settings(flags, env)
  const log = createLog(settings.logLevel, output, clock)
  const ros = await loadRclnodejs({
    named: settings.rclnodejs,
    folder: process.cwd(),
    execPath: process.execPath,
    ownUid: process.getuid?.(),
    env,
  })
  const ending = endSignal(log)
  const socket = () => settings.socket ?? parts.socket()
  try {
    await runBridge({ ros, settings, rosArgs, socket, clock, log }, ending.signal)
  } finally {
    ending.release()
  }
}
