import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

function withFilters(command: Command): Command {
  return command
    .option('--site <name or id>', 'robots of this site')
    .option('--fleet <name or id>', 'robots of this fleet')
    .option('--credential <id>', 'robots that came with this enrollment key or provisioning token')
    .option('--label <key[=value]>', 'robots with this label; of several, all have to match', collected)
    .option('--query <text>', 'robots whose name holds this text')
    .option('--older-than <time>', 'robots that have waited for longer than 24h, 2d or 90min')
}

/** `beacon approvals …`: robots that wait until somebody lets them in. */
export function addApprovalCommands(program: Command, terminal: Terminal): void {
  const approvals = program
    .command('approvals')
    .description('robots that wait for approval: list, approve, deny')

  withFilters(withOperatorOptions(approvals.command('list')))
    .description('list the robots that wait, those first that have waited longest')
    .option('--limit <number>', 'robots to show (100)')
    .option('--all', 'show all robots')
    .action(async (options) => (await import('../approvals.ts')).listApprovals(terminal, options))

  const descriptions = {
    approve: 'let robots in that wait',
    deny: 'send robots away that wait; the record of a new one goes',
  }
  for (const decision of ['approve', 'deny'] as const)
    withFilters(withOperatorOptions(approvals.command(decision)))
      .description(descriptions[decision])
      .argument('[robots...]', 'ids or names')
      .option('--all', 'every robot that waits')
      .option('--dry-run', 'only say which robots these are')
      .option('--yes', 'do not ask')
      .addHelpText(
        'after',
        `
Examples:
  beacon approvals ${decision} bot-01 bot-02
  beacon approvals ${decision} --fleet pickers --older-than 24h --dry-run`,
      )
      .action(async (robots, options) =>
        (await import('../approvals.ts')).decideApprovals(terminal, decision, robots, options),
      )
}
