import { chmodSync, readFileSync, statSync } from 'node:fs'
import { AgentExit, EXIT } from './exit.ts'
import { replaceFile } from './files.ts'
import type { Places } from './places.ts'
import { type AgentState, EMPTY_STATE, parseState, renderState } from './state.ts'
import { describeError } from './text.ts'

type Found =
  | { readonly kind: 'state'; readonly state: AgentState }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unusable'; readonly why: string }

export interface LoadedState {
  readonly state: AgentState
  /** What a person should hear of: damage that was got around, permissions that were mended. */
  readonly warnings: readonly string[]
}

/**
 * Reads agent.toml, or the copy before it when agent.toml is damaged. Files that are there but hold nothing usable end
 * the agent: a robot must not become another one because its disk failed.
 */
export function loadState(places: Places): LoadedState {
  const warnings: string[] = []
  const current = readOne(places.config, warnings)
  if (current.kind === 'state') return { state: current.state, warnings }
  const previous = readOne(places.backup, warnings)
  if (current.kind === 'absent' && previous.kind === 'absent') return { state: EMPTY_STATE, warnings }
  const problem =
    current.kind === 'absent' ? `${places.config} is gone` : `${places.config} cannot be used: ${current.why}`
  if (previous.kind === 'state') {
    warnings.push(`${problem}; going on with the copy before it, ${places.backup}`)
    return { state: previous.state, warnings }
  }
  const copy = previous.kind === 'absent' ? 'there is no copy of it' : `nor can its copy: ${previous.why}`
  throw new AgentExit(
    EXIT.error,
    `${problem}; ${copy}. Restore the file, or give up this identity with "beacon agent forget" and enrol again`,
  )
}

/** Writes agent.toml; the content before becomes its copy. */
export function saveState(places: Places, state: AgentState): void {
  try {
    replaceFile(places.config, renderState(state), places.backup)
  } catch (error) {
    throw new AgentExit(EXIT.error, `cannot write ${places.config}: ${describeError(error)}`)
  }
}

function readOne(path: string, warnings: string[]): Found {
  try {
    const text = readFileSync(path, 'utf8')
    protect(path, warnings)
    return { kind: 'state', state: parseState(text) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { kind: 'absent' }
    return { kind: 'unusable', why: describeError(error) }
  }
}

function protect(path: string, warnings: string[]): void {
  if ((statSync(path).mode & 0o077) === 0) return
  try {
    chmodSync(path, 0o600)
    warnings.push(`other users could read ${path}; its permissions are now 0600`)
  } catch (error) {
    warnings.push(
      `other users can read ${path}, and its permissions cannot be changed: ${describeError(error)}`,
    )
  }
}
