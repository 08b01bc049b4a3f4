import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

/** `beacon keys …`: the enrollment keys that admit robots. */
export function addKeyCommands(program: Command, terminal: Terminal): void {
  const keys = program.command('keys').description('enrollment keys: what robots enrol with')

  withOperatorOptions(keys.command('create'))
    .description('make an enrollment key and print it with the command that uses it')
    .requiredOption('--site <name or id>', 'site that its robots join')
    .requiredOption('--fleet <name or id>', 'fleet of that site that its robots join')
    .requiredOption('--name <name>', 'what to call the key')
    .option('--max-uses <number>', 'robots it admits (100)')
    .option('--expires-in <time>', '24h, 7d, 90min or never (24h)')
    .option('--label <key=value>', 'label of every robot it admits; may be repeated', collected)
    .option('--allow-cidr <range>', 'addresses that may use it; may be repeated', collected)
    .option('--require-approval', 'robots wait until an operator approves them')
    .option('--on-existing <rule>', 'a machine that is enrolled already: rebind, approve or reject (rebind)')
    .option('--not-retrievable', 'keep only its hash, so that nobody can read it again')
    .option('--create-missing', 'make the site and the fleet when there are none of these names')
    .addHelpText(
      'after',
      `
Examples:
  beacon keys create --site hamburg --fleet pickers --name "dock 4" --create-missing
  beacon keys create --site hamburg --fleet pickers --name golden-image --max-uses 500 --expires-in 7d
  beacon keys create --site hamburg --fleet pickers --name lab --label floor=2 --allow-cidr 10.20.0.0/16`,
    )
    .action(async (options) => (await import('../keys.ts')).createKey(terminal, options))

  withOperatorOptions(keys.command('list'))
    .description('list enrollment keys')
    .option('--sort <field>', 'created_at, last_used_at, expires_at or name; -name turns it around')
    .option('--limit <number>', 'keys to show (100)')
    .option('--all', 'show all keys')
    .option('--reveal', 'show the keys themselves, where they can be read again')
    .action(async (options) => (await import('../keys.ts')).listKeys(terminal, options))

  withOperatorOptions(keys.command('robots'))
    .description('list the robots that a key admitted, or whose token came with it')
    .argument('<id>', 'id of the key')
    .option('--limit <number>', 'robots to show (100)')
    .option('--all', 'show all robots')
    .action(async (id, options) => {
      const { KEYS } = await import('../keys.ts')
      const { listCredentialRobots } = await import('../credentials.ts')
      await listCredentialRobots(terminal, KEYS.path, id, options)
    })

  withOperatorOptions(keys.command('revoke'))
    .description('refuse every later use of a key; its robots stay unless --cascade says otherwise')
    .argument('<id>', 'id of the key')
    .option('--cascade <what>', 'revoke_robots: cut off the robots it admitted, too')
    .option('--yes', 'do not ask')
    .action(async (id, options) => {
      const { KEYS } = await import('../keys.ts')
      const { revokeCredential } = await import('../credentials.ts')
      await revokeCredential(terminal, KEYS, id, options)
    })
}
