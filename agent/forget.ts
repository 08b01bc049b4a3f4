import { readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { AgentExit, EXIT } from './exit.ts'
import { ENDINGS, isTemporary } from './files.ts'
import { takeLock } from './lock.ts'
import type { Places } from './places.ts'
import type { Clock, Random } from './runtime.ts'
import { describeError } from './text.ts'

/** Files of this identity that are there now, without the sockets of agents. */
export function filesOf(places: Places): string[] {
  const names = new Set<string>()
  for (const folder of [dirname(places.config), places.stateDir])
    for (const name of namesIn(folder)) if (belongs(name, places.stem)) names.add(join(folder, name))
  return [...names].sort()
}

function belongs(name: string, stem: string): boolean {
  if (name === stem) return true
  if (!name.startsWith(`${stem}.`)) return false
  const ending = name.slice(stem.length + 1)
  return [...ENDINGS, 'spool', 'sock'].includes(ending) || isTemporary(ending)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new AgentExit(EXIT.error, `cannot read the folder ${folder}: ${describeError(error)}`)
  }
}

/** Removes the identity and all that belongs to it, unless an agent runs on it. Answers with what it removed. */
export async function forgetIdentity(places: Places, clock: Clock, random: Random): Promise<string[]> {
  if (filesOf(places).length === 0) return []
  return removeIdentity(places, clock, random)
}

/** The same, also when there is nothing yet; `afterwards` is called before an agent can start again. */
export async function removeIdentity(
  places: Places,
  clock: Clock,
  random: Random,
  afterwards: () => void = () => {},
): Promise<string[]> {
  const lock = await takeLock(places, clock, random)
  if (!lock) throw new AgentExit(EXIT.conflict, 'an agent runs on this identity: stop it first')
  try {
    const files = filesOf(places)
    for (const file of files) rmSync(file, { recursive: true, force: true })
    afterwards()
    return files
  } catch (error) {
    if (error instanceof AgentExit) throw error
    throw new AgentExit(EXIT.error, `cannot remove the identity: ${describeError(error)}`)
  } finally {
    lock.release()
  }
}
