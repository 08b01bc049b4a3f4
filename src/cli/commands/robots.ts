import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

function withFilters(command: Command): Command {
  return command
    .option('--site <name or id>', 'robots of this site')
    .option('--fleet <name or id>', 'robots of this fleet')
    .option('--connection <state>', 'unseen, online, stale or offline; may be repeated', collected)
    .option('--health <state>', 'ok, warn, error or unknown; may be repeated', collected)
    .option('--lifecycle <state>', 'pending, active, maintenance or retired; may be repeated', collected)
    .option('--label <key[=value]>', 'robots with this label; of several, all have to match', collected)
    .option('--credential <id>', 'robots that came with this enrollment key or provisioning token')
    .option('--query <text>', 'robots whose name holds this text')
    .option('--sort <field>', 'name, created_at, last_seen_at or connection_since; -name turns it around')
}

/** `beacon robots …`: who is there, and how they are. */
export function addRobotCommands(program: Command, terminal: Terminal): void {
  const robots = program
    .command('robots')
    .description('robots: list, inspect, watch, approve, cut off, retire')

  withFilters(withOperatorOptions(robots.command('list')))
    .description('list robots with their latest heartbeat')
    .option('--limit <number>', 'robots to show (100)')
    .option('--all', 'show all robots')
    .addHelpText(
      'after',
      `
Examples:
  beacon robots list --connection stale --connection offline --sort=-last_seen_at
  beacon robots list --site hamburg --label floor=2
  beacon robots list --all --json | jq -r '.items[].name'`,
    )
    .action(async (options) => (await import('../robots.ts')).listRobots(terminal, options))

  withOperatorOptions(robots.command('inspect'))
    .description('everything about one robot: identity, latest heartbeat, last events')
    .argument('<robot>', 'id or name')
    .option('--events <number>', 'events to show (10)')
    .action(async (robot, options) =>
      (await import('../robot-inspect.ts')).inspectRobot(terminal, robot, options),
    )

  withFilters(withOperatorOptions(robots.command('watch')))
    .description('a live table on a terminal; elsewhere, or with --json, one line per change')
    .option('--limit <number>', 'robots to watch (500)')
    .addHelpText('after', '\nCtrl-C ends it. A server that is away for a while is waited for.')
    .action(async (options) => (await import('../robots-watch.ts')).watchRobots(terminal, options))

  withOperatorOptions(robots.command('revoke-token'))
    .description('cut a robot off: its token stops at once, wherever it is connected')
    .argument('<robot>', 'id or name')
    .option('--yes', 'do not ask')
    .action(async (robot, options) =>
      (await import('../robot-actions.ts')).revokeToken(terminal, robot, options),
    )

  withOperatorOptions(robots.command('rotate-token'))
    .description('ask robots for new tokens; each goes on with the old one until it has the new')
    .argument('[robots...]', 'ids or names; or choose by filter')
    .option('--site <name or id>', 'robots of this site')
    .option('--fleet <name or id>', 'robots of this fleet')
    .option('--connection <state>', 'unseen, online, stale or offline; may be repeated', collected)
    .option('--lifecycle <state>', 'pending, active or maintenance; may be repeated', collected)
    .option('--label <key=value>', 'robots with this label; of several, all have to match', collected)
    .option('--older-than <days>', 'robots whose token is older, like 90d')
    .option('--not-requested', 'only robots that are not asked already')
    .option('--all', 'all robots')
    .option('--reason <word>', 'operator or suspicion (operator)')
    .option('--dry-run', 'only tell which robots would be asked')
    .option('--yes', 'do not ask')
    .action(async (wanted, options) =>
      (await import('../robot-rotation.ts')).rotateTokens(terminal, wanted, options),
    )

  withOperatorOptions(robots.command('create'))
    .description('make a robot before its machine is there')
    .argument('<name>', 'what to call it')
    .option('--site <name or id>', 'site of the fleet, where several fleets have the name')
    .requiredOption('--fleet <name or id>', 'fleet that it belongs to')
    .option('--label <key=value>', 'label of the robot; may be repeated', collected)
    .action(async (name, options) => (await import('../robot-setup.ts')).createRobot(terminal, name, options))

  withOperatorOptions(robots.command('setup-token'))
    .description('make a token, good for one hour and one use, that binds a machine to this very robot')
    .argument('<robot>', 'id or name')
    .option('--yes', 'do not ask, although the robot has a token that will stop')
    .action(async (robot, options) =>
      (await import('../robot-setup.ts')).createSetupToken(terminal, robot, options),
    )

  withOperatorOptions(robots.command('delete'))
    .description('delete the record of a robot that is retired')
    .argument('<robot>', 'id or name')
    .option('--yes', 'do not ask')
    .action(async (robot, options) =>
      (await import('../robot-setup.ts')).deleteRobot(terminal, robot, options),
    )

  withOperatorOptions(robots.command('approve'))
    .description('let a robot in that waits for approval')
    .argument('<robot>', 'id or name')
    .action(async (robot, options) => (await import('../robot-actions.ts')).approve(terminal, robot, options))

  withOperatorOptions(robots.command('retire'))
    .description('take a robot out of service for good')
    .argument('<robot>', 'id or name')
    .option('--yes', 'do not ask')
    .action(async (robot, options) => (await import('../robot-actions.ts')).retire(terminal, robot, options))
}
