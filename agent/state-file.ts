import { chmodSync, readFileSync, renameSync, statSync } from 'node:fs'
import { AgentExit, EXIT } from './exit.ts'
import { describeFileError, replaceFile } from './files.ts'
import type { Places } from './places.ts'
import { type AgentState, EMPTY_STATE, parseState, renderState } from './state.ts'
import { describeError } from './text.ts'

type Found =
  | { readonly kind: 'state'; readonly state: AgentState }
  | { readonly kind: 'absent' }
  /** What it holds is no state, or not the one that was written. */
  | { readonly kind: 'damaged'; readonly why: string }
  /** What it holds cannot be known, and may be fine. */
  | { readonly kind: 'closed'; readonly why: string }

/** Errors by which a disk says that it has lost what was there. */
const DISK_ERRORS = ['EIO', 'EREMOTEIO', 'EUCLEAN', 'EBADMSG']

/** What stands in one file, changing nothing. */
export function readStateFile(path: string): Found {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (code === 'ENOENT') return { kind: 'absent' }
    return { kind: DISK_ERRORS.includes(code) ? 'damaged' : 'closed', why: describeFileError(path, error) }
  }
  try {
    return { kind: 'state', state: parseState(text) }
  } catch (error) {
    return { kind: 'damaged', why: describeError(error) }
  }
}

export interface LoadedState {
  readonly state: AgentState
  /** What a person should hear of: damage that was got around, permissions that were mended. */
  readonly warnings: readonly string[]
  /** It was read from the copy, for there is no good agent.toml: whoever may write should call `restoreState`. */
  readonly isFromCopy: boolean
}

/**
 * Reads agent.toml, or the copy before it when agent.toml is damaged or gone. Files that are there but hold nothing usable,
 * or may not be read, end the agent: a robot must not become another one because its disk failed, nor go back to what it
 * was before because somebody changed the owner of a file.
 */
export function loadState(places: Places): LoadedState {
  const { config, backup } = places
  const warnings: string[] = []
  const current = readOpen(config, warnings)
  if (current.kind === 'state') return { state: current.state, warnings, isFromCopy: false }
  const previous = readOpen(backup, warnings)
  if (current.kind === 'absent' && previous.kind === 'absent')
    return { state: EMPTY_STATE, warnings, isFromCopy: false }
  const problem = current.kind === 'absent' ? `${config} is gone` : `${config} cannot be used: ${current.why}`
  if (previous.kind === 'state') {
    warnings.push(`${problem}; going on with the copy before it, ${backup}`)
    return { state: previous.state, warnings, isFromCopy: true }
  }
  const copy = previous.kind === 'absent' ? 'there is no copy of it' : `nor can its copy: ${previous.why}`
  throw new AgentExit(
    EXIT.error,
    `${problem}; ${copy}. Restore the file, or give up this identity with "beacon agent forget" and enrol again`,
  )
}

/**
 * Writes agent.toml. What it held becomes the copy, unless that was damaged: then the copy stays as it is, and is made
 * anew where there is no good one.
 */
export function saveState(places: Places, state: AgentState): void {
  const { config, backup } = places
  const text = renderState(state)
  try {
    const isGood = isGoodState(config)
    replaceFile(config, text, isGood ? backup : undefined)
    if (!isGood && !isGoodState(backup)) replaceFile(config, text, backup)
  } catch (error) {
    throw new AgentExit(EXIT.error, `cannot write ${config}: ${describeFileError(config, error)}`)
  }
}

/**
 * Puts a state that was read from the copy into the place of agent.toml. What is damaged there is kept beside it, for a
 * person may have made it so, and wants it back. Answers with what a person should hear of.
 */
export function restoreState(places: Places, state: AgentState): string {
  const { config, damaged } = places
  let kept = ''
  try {
    renameSync(config, damaged)
    kept = `; what stood there is now ${damaged}`
  } catch {
    // It is gone already, or cannot be moved: then it cannot be written either, or only to be replaced.
  }
  try {
    saveState(places, state)
    return `${config} is written anew from its copy${kept}`
  } catch (error) {
    return (error as Error).message
  }
}

function isGoodState(path: string): boolean {
  return readStateFile(path).kind === 'state'
}

/** Reads a file that must be readable if it is there. */
function readOpen(path: string, warnings: string[]): Exclude<Found, { kind: 'closed' }> {
  const found = readStateFile(path)
  if (found.kind === 'closed') throw new AgentExit(EXIT.error, `cannot read ${path}: ${found.why}`)
  if (found.kind === 'state') protect(path, warnings)
  return found
}

function protect(path: string, warnings: string[]): void {
  try {
    if ((statSync(path).mode & 0o077) === 0) return
    chmodSync(path, 0o600)
    warnings.push(`other users could read ${path}; its permissions are now 0600`)
  } catch (error) {
    warnings.push(
      `other users can read ${path}, and its permissions cannot be changed: ${describeError(error)}`,
    )
  }
}
