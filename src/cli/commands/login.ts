import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

/** `beacon login`, `logout`, `whoami` and `recover-owner`: who the operator is. */
export function addLoginCommands(program: Command, terminal: Terminal): void {
  program
    .command('login')
    .description('sign in with email and password, and keep a token for the other commands')
    .option('--url <address>', 'address of the server (BEACON_URL)')
    .option('--email <email>', 'who signs in (asked otherwise)')
    .option('--accept-invitation', 'choose a password by an invitation first')
    .option('--token-name <name>', 'what to call the token (beacon login)')
    .option('--expires-in <time>', 'how long the token works: 30d, 90d, 1y, never or a date (90d)')
    .option('--scope <scope>', 'all that the token may do (what you may); may be repeated', collected)
    .option('--json', 'answer with JSON')
    .addHelpText(
      'after',
      `
The token is kept in logins.json of ~/.config/roboflare, readable by you alone, and used where neither BEACON_API_KEY
nor --api-key-file names another. Programs are better off with a token of their own: beacon tokens create.`,
    )
    .action(async (options) => (await import('../login.ts')).login(terminal, options))

  program
    .command('logout')
    .description('revoke the token of "beacon login" and forget it')
    .option('--url <address>', 'address of the server (BEACON_URL; else that of the last login)')
    .option('--json', 'answer with JSON')
    .action(async (options) => (await import('../login.ts')).logout(terminal, options))

  withOperatorOptions(program.command('whoami'))
    .description('say whom the server takes you for')
    .action(async (options) => (await import('../login.ts')).whoami(terminal, options))

  program
    .command('recover-owner')
    .description('on the machine of the server: make an owner when none can get in any more')
    .requiredOption('--email <email>', 'of the owner: somebody there is, or somebody new')
    .option('--name <name>', 'what to call somebody new (recovered owner)')
    .option('--yes', 'do not ask')
    .option('--json', 'answer with JSON')
    .addHelpText(
      'after',
      `
Reads BEACON_DATABASE_URL or BEACON_DATA_DIR as the server does, and asks no server: whoever can write to the database
is an owner already. Their second factor is taken away, and what it does stands in the audit log.`,
    )
    .action(async (options) => (await import('../recover-owner.ts')).recoverOwner(terminal, options))
}
