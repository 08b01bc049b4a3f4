import type { Command } from 'commander'
import type { AgentOutput } from '../../agent/main.ts'
import type { Ros2Flags } from '../../agent/ros2/settings.ts'

const HELP = `
Each flag can also be set in the environment, as BEACON_ROS2_ and its name: BEACON_ROS2_POSE_TOPIC for --pose-topic;
several metrics in BEACON_ROS2_METRICS, with ; between them. "off" in place of a topic: it is not listened to. What
stands after -- is for ROS: beacon agent ros2 -- --ros-args --remap battery_state:=/power/battery

It needs a sourced ROS 2 and rclnodejs, which is no part of Beacon: npm install rclnodejs

Exit codes: 0 stopped by a signal, 1 rclnodejs or ROS 2 cannot be used, 2 usage. An agent that does not run is waited for.`

/** Adds `agent ros2`. The bridge is loaded only when it is used. */
export function addRos2Command(agent: Command, output: () => AgentOutput): void {
  agent
    .command('ros2')
    .description('tell the running agent what ROS 2 knows: diagnostics, battery and pose')
    .argument('[ros-args...]', 'arguments for ROS, after --')
    .option(
      '--diagnostics-topic <topic>',
      'DiagnosticArray whose statuses become faults (default /diagnostics)',
    )
    .option('--battery-topic <topic>', 'BatteryState (default battery_state)')
    .option('--battery <id>', 'which battery counts: its location, else its frame (default the first)')
    .option('--battery-percent', 'its driver tells the percentage as 0 to 100')
    .option('--pose-topic <topic>', 'where the robot is (default amcl_pose)')
    .option(
      '--pose-type <type>',
      'PoseWithCovarianceStamped, PoseStamped, Odometry or NavSatFix (default: as the topic is)',
    )
    .option(
      '--metric <metric=status#key>',
      'a number in diagnostics that becomes a metric; may be repeated',
      (rule: string, before: readonly string[] = []) => [...before, rule],
    )
    .option('--namespace <namespace>', 'of the node, and of topics that begin without /')
    .option('--node-name <name>', 'of the node (default beacon_bridge)')
    .option('--rate <lines>', 'updates a second to the agent at most, 1 to 20 (default 5)')
    .option('--stale-seconds <seconds>', 'a status not reported for so long is a fault, or off (default 30)')
    .option(
      '--silence-seconds <seconds>',
      'no diagnostics at all for so long is a fault, or off (default 60)',
    )
    .option('--socket <path>', "the agent's socket (or BEACON_AGENT_SOCKET; default where the agent has it)")
    .option('--config <path>', 'file of the identity whose agent is told (BEACON_CONFIG)')
    .option('--rclnodejs <path>', 'where rclnodejs is installed (default: working folder, NODE_PATH, global)')
    .option('--log-level <level>', 'debug, info, warn, error or silent (default info)')
    .addHelpText('after', HELP)
    .action(async (rosArgs: string[], flags: Ros2Flags) => {
      const { bridgeRos2 } = await import('../../agent/main.ts')
      // Not only the code: threads of ROS may keep the process.
      process.exit(await bridgeRos2(flags, process.env, output(), rosArgs))
    })
}
