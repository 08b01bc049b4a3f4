import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

/** `beacon provisioning-tokens …`: what admits any number of robots, or one. */
export function addProvisioningTokenCommands(program: Command, terminal: Terminal): void {
  const tokens = program
    .command('provisioning-tokens')
    .alias('provisioning')
    .description('provisioning tokens: what any number of robots enrol with, or one')

  withOperatorOptions(tokens.command('create'))
    .description('make a provisioning token and print it, once, with the command that uses it')
    .option('--site <name or id>', 'site of the fleet, where several fleets have the name')
    .requiredOption('--fleet <name or id>', 'fleet that its robots join')
    .requiredOption('--name <name>', 'what to call the token')
    .option('--expires-in <time>', '24h, 7d, 90min or never (30d)')
    .option('--single-use', 'it revokes itself with the first robot')
    .option('--label <key=value>', 'label of every robot it admits; may be repeated', collected)
    .option('--allow-cidr <range>', 'addresses that may use it; may be repeated', collected)
    .option('--require-approval', 'robots wait until an operator approves them')
    .option('--on-existing <rule>', 'a machine that is enrolled already: rebind, approve or reject (rebind)')
    .addHelpText(
      'after',
      `
Examples:
  beacon provisioning-tokens create --fleet pickers --name golden-image --expires-in 90d --require-approval
  beacon provisioning-tokens create --fleet pickers --name "robot 17" --single-use`,
    )
    .action(async (options) =>
      (await import('../provisioning-tokens.ts')).createProvisioningToken(terminal, options),
    )

  withOperatorOptions(tokens.command('list'))
    .description('list provisioning tokens')
    .option('--sort <field>', 'created_at, last_used_at, expires_at or name; -name turns it around')
    .option('--limit <number>', 'tokens to show (100)')
    .option('--all', 'show all tokens')
    .action(async (options) =>
      (await import('../provisioning-tokens.ts')).listProvisioningTokens(terminal, options),
    )

  withOperatorOptions(tokens.command('robots'))
    .description('list the robots that a token admitted, or whose token came with it')
    .argument('<id>', 'id of the token')
    .option('--limit <number>', 'robots to show (100)')
    .option('--all', 'show all robots')
    .action(async (id, options) => {
      const { PROVISIONING_TOKENS } = await import('../provisioning-tokens.ts')
      const { listCredentialRobots } = await import('../credentials.ts')
      await listCredentialRobots(terminal, PROVISIONING_TOKENS.path, id, options)
    })

  withOperatorOptions(tokens.command('revoke'))
    .description('refuse every later use of a token; its robots stay unless --cascade says otherwise')
    .argument('<id>', 'id of the token')
    .option('--cascade <what>', 'revoke_robots: cut off the robots that came with it, too')
    .option('--yes', 'do not ask')
    .action(async (id, options) => {
      const { PROVISIONING_TOKENS } = await import('../provisioning-tokens.ts')
      const { revokeCredential } = await import('../credentials.ts')
      await revokeCredential(terminal, PROVISIONING_TOKENS, id, options)
    })
}
