import type { Command } from 'commander'
import { withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

/** `beacon security …`: what holds for everybody. */
export function addSecurityCommands(program: Command, terminal: Terminal): void {
  const security = program.command('security').description('what holds for everybody')

  withOperatorOptions(security.command('show'))
    .description('say what holds for everybody')
    .action(async (options) => (await import('../security.ts')).showSecurity(terminal, options))

  withOperatorOptions(security.command('set'))
    .description('change it; only an owner may')
    .option('--require-second-factor <yes or no>', 'whether people without one can do nothing but set one up')
    .option('--robot-token-max-age-days <days>', 'robots take a new token once theirs is older; never')
    .option(
      '--rotate-on-suspicion <yes or no>',
      'whether a robot takes a new token when two machines say they are it',
    )
    .option('--yes', 'do not ask')
    .action(async (options) => (await import('../security.ts')).setSecurity(terminal, options))
}
