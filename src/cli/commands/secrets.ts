import type { Command } from 'commander'
import { withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

/** `beacon secrets …`: the key that the server seals secrets with. */
export function addSecretCommands(program: Command, terminal: Terminal): void {
  const secrets = program
    .command('secrets')
    .description('the key that enrollment keys and second factors are sealed with')

  withOperatorOptions(secrets.command('status'))
    .description('show which keys there are, and how much each has sealed')
    .action(async (options) => (await import('../secrets.ts')).showSecrets(terminal, options))

  withOperatorOptions(secrets.command('rotate'))
    .description('take a new key, seal everything anew with it, and take the old one away')
    .option('--keep-old', 'keep the old key, to read backups with')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--no-wait', 'end once the new key is in use; the server goes on by itself')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      `
The server does it while it runs, and so do robots and operators go on. Interrupted at any point, it can be run again.
Where BEACON_SECRET_KEY gives the key, first start every server with a new one and the present one as
BEACON_SECRET_KEY_PREVIOUS; take that out again when this command has ended.`,
    )
    .action(async (options) => (await import('../secrets.ts')).rotateSecrets(terminal, options))
}
