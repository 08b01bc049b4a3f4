import { setFlagsFromString } from 'node:v8'

/**
 * What makes V8 fast costs a robot more than it brings: the agent works for some milliseconds in each ten seconds, and the
 * optimizing compilers alone would take 8 to 10 MB, of which nothing is given back. It takes no more processor time without.
 */
const FLAGS = ['--no-opt', '--no-maglev', '--no-sparkplug', '--max-lazy', '--optimize-for-size']

/** Has V8 spare memory from now on: the earlier, the more. */
export function spareMemory(execArgv: readonly string[], nodeOptions = ''): void {
  for (const flag of frugalFlags(execArgv, nodeOptions)) setFlagsFromString(flag)
}

/** The flags for that, without those of which a person has said how they are to be. */
export function frugalFlags(execArgv: readonly string[], nodeOptions: string): string[] {
  const set = new Set([...execArgv, ...nodeOptions.split(/\s+/)].map(nameOf))
  return FLAGS.filter((flag) => !set.has(nameOf(flag)))
}

/** `--no-opt` and `--opt` are one flag; V8 takes `_` for `-`. */
function nameOf(flag: string): string {
  return flag
    .replaceAll('_', '-')
    .replace(/^--(no-?)?/, '')
    .replace(/=.*$/, '')
}
