import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

function withFleet(command: Command): Command {
  return command
    .option('--fleet <name or id>', 'tokens of this fleet, instead of people’s')
    .option('--site <name or id>', 'site of the fleet, where several have the name')
}

const EXPIRES_IN = '30d, 90d, 1y, never, or a date like 2027-01-31'

/** `beacon tokens …`: what programs call the REST interface with. */
export function addTokenCommands(program: Command, terminal: Terminal): void {
  const tokens = program
    .command('tokens')
    .description('tokens of people and fleets: make, list, rotate, revoke one or all')

  withFleet(withOperatorOptions(tokens.command('create')))
    .description('make a token of your own, or of a fleet, and print it: the only time that it is shown')
    .requiredOption('--name <name>', 'what to call it')
    .option('--scope <scope>', 'what it may do; may be repeated (all that you may)', collected)
    .option('--expires-in <time>', `${EXPIRES_IN} (90d)`)
    .option('--allow-from <range>', 'addresses that may use it; may be repeated (any)', collected)
    .addHelpText(
      'after',
      `
Examples:
  beacon tokens create --name grafana --scope metrics:read --expires-in 1y
  beacon tokens create --name line-3 --fleet pickers --scope robots:read --allow-from 10.20.0.0/16`,
    )
    .action(async (options) => (await import('../tokens.ts')).createToken(terminal, options))

  withFleet(withOperatorOptions(tokens.command('list')))
    .description('list your tokens, those of others whom you manage, or those of a fleet')
    .option('--user <id>', 'tokens of this person')
    .option('--everybody', 'tokens of everybody whom you manage')
    .option('--status <status>', 'active, expired or revoked')
    .option('--sort <field>', 'created_at, last_used_at, expires_at or name; -name turns it around')
    .option('--limit <number>', 'tokens to show (100)')
    .option('--all', 'show all tokens')
    .action(async (options) => (await import('../tokens.ts')).listTokens(terminal, options))

  withFleet(withOperatorOptions(tokens.command('revoke')))
    .description('end a token: its next request is refused')
    .argument('<id>', 'id of the token; self: the one that you use now')
    .option('--yes', 'do not ask')
    .action(async (id, options) => (await import('../tokens.ts')).revokeToken(terminal, id, options))

  withFleet(withOperatorOptions(tokens.command('rotate')))
    .description('make a token like it and print it; the old one works for a while')
    .argument('<id>', 'id of the token; self: the one that you use now')
    .option('--overlap <time>', 'how long the old one still works: 24h, 0 or a date (24h)')
    .option('--expires-in <time>', `${EXPIRES_IN} (as long as the old one was made to live)`)
    .action(async (id, options) => (await import('../tokens.ts')).rotateToken(terminal, id, options))

  withOperatorOptions(tokens.command('revoke-all'))
    .description('after a leak: end everything of a person, a fleet or the deployment at once')
    .option('--mine', 'your own tokens and the sessions in which you are signed in')
    .option('--user <id>', 'those of this person')
    .option('--fleet <name or id>', 'a fleet’s tokens, and what robots enrol in it with')
    .option('--site <name or id>', 'site of the fleet, where several have the name')
    .option('--deployment', 'all of that, of everybody')
    .option('--robots', 'the tokens of robots, too: they have to enrol again')
    .option('--only <kind>', 'nothing but these, such as fleet_tokens; may be repeated', collected)
    .option('--keep-current', 'leave the token that you use now')
    .option('--dry-run', 'change nothing, and say what would go')
    .option('--yes', 'do not show it first, and do not ask')
    .addHelpText(
      'after',
      `
Examples:
  beacon tokens revoke-all --fleet pickers --dry-run
  beacon tokens revoke-all --deployment --keep-current`,
    )
    .action(async (options) => (await import('../tokens-revoke-all.ts')).revokeAll(terminal, options))
}
