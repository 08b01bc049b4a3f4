import type { Command } from 'commander'
import { withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

/** `beacon sites …` and `beacon fleets …`: where robots belong. */
export function addPlaceCommands(program: Command, terminal: Terminal): void {
  const sites = program.command('sites').description('sites: places that hold fleets')
  withOperatorOptions(sites.command('list'))
    .description('list sites')
    .action(async (options) => (await import('../places.ts')).listSites(terminal, options))
  withOperatorOptions(sites.command('create'))
    .description('make a site')
    .argument('<name>', 'what to call it')
    .action(async (name, options) => (await import('../places.ts')).createSite(terminal, name, options))

  const fleets = program.command('fleets').description('fleets: robots of one site that belong together')
  withOperatorOptions(fleets.command('list'))
    .description('list fleets')
    .option('--site <name or id>', 'only fleets of this site')
    .action(async (options) => (await import('../places.ts')).listFleets(terminal, options))
  withOperatorOptions(fleets.command('create'))
    .description('make a fleet')
    .argument('<name>', 'what to call it')
    .requiredOption('--site <name or id>', 'site that it belongs to')
    .option('--heartbeat-seconds <number>', 'how often its robots report (the server’s own setting)')
    .action(async (name, options) => (await import('../places.ts')).createFleet(terminal, name, options))
}
