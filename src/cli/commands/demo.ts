import type { Command } from 'commander'
import type { Terminal } from '../terminal.ts'

/** `beacon demo`: a server and three robots on this machine, to look at. */
export function addDemoCommand(
  program: Command,
  terminal: Terminal,
  finish: (exitCode: number) => void,
): void {
  program
    .command('demo')
    .description('start a server and three robots here, and watch them')
    .option(
      '--for <seconds>',
      'end by itself after this time; the exit code tells whether all robots came online',
    )
    .addHelpText(
      'after',
      `
Everything lives in .beacon-demo/ in the current folder, made anew each time. Ctrl-C stops all of it.`,
    )
    .action(async (options) => finish(await (await import('../demo/demo.ts')).runDemo(terminal, options)))
}
