import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

const ROLES = `
A role is owner, admin, operator or viewer: of the whole deployment, or of a site or fleet:
  operator   operator@hamburg   operator@hamburg/pickers`

/** `beacon users …`: who may do what. */
export function addUserCommands(program: Command, terminal: Terminal): void {
  const users = program.command('users').description('people: who may do what, and where')

  withOperatorOptions(users.command('list'))
    .description('list people within your reach')
    .action(async (options) => (await import('../users.ts')).listUsers(terminal, options))

  withOperatorOptions(users.command('invite'))
    .description('invite somebody, and print the address that lets them in')
    .requiredOption('--name <name>', 'what to call them')
    .requiredOption('--email <email>', 'what they sign in with')
    .requiredOption('--role <role>', 'what they may do; may be repeated', collected)
    .addHelpText('after', ROLES)
    .action(async (options) => (await import('../users.ts')).inviteUser(terminal, options))

  withOperatorOptions(users.command('invite-again'))
    .description('let somebody choose a new password; their second factor stays')
    .argument('<user>', 'email, name or id; "me" is you')
    .option('--email <email>', 'what they sign in with from now on')
    .option('--forget-identity', 'let another account of the identity provider be theirs')
    .action(async (user, options) => (await import('../users.ts')).inviteAgain(terminal, user, options))

  withOperatorOptions(users.command('change'))
    .description('change name, email or roles')
    .argument('<user>', 'email, name or id')
    .option('--name <name>', 'what to call them')
    .option('--email <email>', 'what they sign in with')
    .option('--role <role>', 'all that they hold within your reach; may be repeated', collected)
    .option('--without-roles', 'they hold nothing within your reach')
    .addHelpText('after', ROLES)
    .action(async (user, { withoutRoles, ...options }) =>
      (await import('../users.ts')).changeUser(terminal, user, { ...options, noRoles: withoutRoles }),
    )

  withOperatorOptions(users.command('remove'))
    .description('remove somebody: their tokens and sessions end at once')
    .argument('<user>', 'email, name or id')
    .option('--yes', 'do not ask')
    .action(async (user, options) => (await import('../users.ts')).removeUser(terminal, user, options))

  withOperatorOptions(users.command('reset-second-factor'))
    .description('take away the second factor of somebody who lost it')
    .argument('<user>', 'email, name or id')
    .option('--yes', 'do not ask')
    .action(async (user, options) => (await import('../users.ts')).resetSecondFactor(terminal, user, options))
}
