import type { Command } from 'commander'
import { collected, withOperatorOptions } from '../operator.ts'
import type { Terminal } from '../terminal.ts'

function withFilters(command: Command): Command {
  return command
    .option('--action <name>', 'robot.retired, or robot. for all of robots; may be repeated', collected)
    .option('--outcome <outcome>', 'ok or refused')
    .option(
      '--actor <id or kind>',
      'who did it: an id, or user, personal_token, fleet_token, robot, anonymous …',
    )
    .option('--user <id>', 'what this person did, what their tokens did, and what was done to them')
    .option('--target <id>', 'what it was done to')
    .option('--site <name or id>', 'what happened in this site')
    .option('--fleet <name or id>', 'what happened in this fleet')
    .option('--address <address>', 'where it came from: an address or a range like 10.0.0.0/8')
    .option('--from <time>', '2026-03-01T12:00:00Z, or 24h or 7d for so long ago')
    .option('--to <time>', 'as --from')
    .option('--request <id>', 'what this request did, by the id that its answer carries')
    .option('--query <text>', 'part of the name of who did it, or of what it was done to')
}

/** `beacon audit …`: who did what, and whether the log of it is whole. */
export function addAuditCommands(
  program: Command,
  terminal: Terminal,
  finish: (exitCode: number) => void,
): void {
  const audit = program.command('audit').description('the audit log: list, export, verify')

  withFilters(withOperatorOptions(audit.command('list')))
    .description('list what happened, newest first')
    .option('--limit <number>', 'lines to show (50)')
    .option('--all', 'show all lines')
    .addHelpText(
      'after',
      `
Examples:
  beacon audit list --outcome refused --from 24h
  beacon audit list --action access_token. --action sign_in.
  beacon audit list --target 0190a0a0-0000-7000-8000-000000000001 --json | jq '.items[].action'`,
    )
    .action(async (options) => (await import('../audit.ts')).listAudit(terminal, options))

  withFilters(withOperatorOptions(audit.command('export')))
    .description('write everything that matches, oldest first, to standard output or a file')
    .option('--format <format>', 'ndjson or csv (ndjson)')
    .option('--output <file>', 'file to write to; it is there once the export is whole')
    .action(async (options) => (await import('../audit-export.ts')).exportAudit(terminal, options))

  withOperatorOptions(audit.command('verify'))
    .description('recompute the hashes of the whole log; ends with 1 when anything is wrong')
    .option('--expect <seq:hash>', 'what was noted of a line some time ago')
    .option('--direct', 'look at the database itself, without the server')
    .addHelpText(
      'after',
      `
It prints the newest line's number and hash. Note them where nobody who can reach the database can change them: only
with --expect is a log found out that was rewritten from some line to its end.

With --direct it reads BEACON_DATABASE_URL (or BEACON_DATABASE_URL_FILE), or without one the server's own PostgreSQL in
BEACON_DATA_DIR while that runs, and computes everything itself: for when the server is not to be trusted.`,
    )
    .action(async (options) => (await import('../audit-verify.ts')).verifyAudit(terminal, options, finish))
}
