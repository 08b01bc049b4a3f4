import { setFlagsFromString } from 'node:v8'

/**
 * What makes V8 fast costs a robot more than it brings: the agent works for some milliseconds in each ten seconds, and the
 * optimizing compilers alone would take 8 to 10 MB, of which nothing is given back. It takes no more processor time without.
 */
const FLAGS = ['--no-opt', '--no-maglev', '--no-sparkplug', '--max-lazy', '--optimize-for-size']

/** Has V8 spare memory from now on, so call it before the agent's own code is loaded. A flag that a person has set stays. */
export function spareMemory(execArgv: readonly string[], nodeOptions = ''): void {
  const set = new Set([...execArgv, ...nodeOptions.split(/\s+/)].map(nameOf))
  for (const flag of FLAGS) if (!set.has(nameOf(flag))) setFlagsFromString(flag)
}

/** `--no-opt` and `--opt` are one flag; V8 takes `_` for `-`. */
function nameOf(flag: string): string {
  return flag
    .replaceAll('_', '-')
    .replace(/^--(no-?)?/, '')
    .replace(/=.*$/, '')
}
