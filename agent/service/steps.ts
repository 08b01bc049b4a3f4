import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { AgentExit, EXIT } from '../exit.ts'
import { describeError, printable } from '../text.ts'
import { pathOn, type ServiceHost } from './host.ts'
import { putFile } from './put-file.ts'

/** One thing that an installation does. Paths are the host's own. */
export type Step =
  | { readonly kind: 'folder'; readonly path: string; readonly mode: number }
  | {
      readonly kind: 'file'
      readonly path: string
      readonly content: string
      readonly mode: number
      readonly isSecret?: boolean
    }
  | { readonly kind: 'move'; readonly path: string; readonly to: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'remove'; readonly path: string; readonly onlyIfEmpty?: boolean }
  | {
      readonly kind: 'command'
      readonly command: readonly string[]
      /** What a person has to know when it fails, or nothing; undefined: then the whole fails. */
      readonly otherwise?: string
    }

/** What became of a step. */
export interface Done {
  readonly action: 'make' | 'write' | 'move' | 'link' | 'remove' | 'run'
  /** The path, or the command. */
  readonly what: string
  readonly changed: boolean
  /** For a person, when it did not go as it should. */
  readonly remark?: string
}

const ACTIONS = {
  folder: 'make',
  file: 'write',
  move: 'move',
  link: 'link',
  remove: 'remove',
  command: 'run',
} as const

/** Carries the steps out in order, or only says what each would do. Throws AgentExit at the first that fails. */
export function carryOut(steps: readonly Step[], host: ServiceHost, isDryRun: boolean): Done[] {
  return steps.map((step) => {
    const what = describe(step)
    const action = ACTIONS[step.kind]
    try {
      const changed = !isSettled(step, host)
      if (!changed || isDryRun) return { action, what, changed }
      const remark = perform(step, host)
      return { action, what, changed, ...(remark ? { remark } : {}) }
    } catch (error) {
      if (error instanceof AgentExit) throw error
      throw new AgentExit(EXIT.error, `cannot ${action} ${what}: ${describeError(error)}`)
    }
  })
}

function describe(step: Step): string {
  if (step.kind === 'command') return step.command.join(' ')
  return step.kind === 'move' ? `${step.path} to ${step.to}` : step.path
}

/** All is as the step would leave it. */
function isSettled(step: Step, host: ServiceHost): boolean {
  if (step.kind === 'command') return false
  const path = pathOn(host, step.path)
  switch (step.kind) {
    case 'folder':
      return existsSync(path)
    case 'file':
      return textOf(path) === step.content && (lstatSync(path).mode & 0o777) === step.mode
    case 'move':
      return !isThere(path)
    case 'link':
      return linkOf(path) === step.target
    case 'remove':
      return !isThere(path) || (step.onlyIfEmpty === true && readdirSync(path).length > 0)
  }
}

function perform(step: Step, host: ServiceHost): string | undefined {
  if (step.kind === 'command') return ran(step, host)
  const path = pathOn(host, step.path)
  switch (step.kind) {
    case 'folder':
      mkdirSync(path, { recursive: true, mode: step.mode })
      return
    case 'file':
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
      putFile(path, step.content, step.mode)
      return
    case 'move':
      // Not by its name: the two may lie on different disks.
      putFile(pathOn(host, step.to), readFileSync(path, 'utf8'), 0o600)
      rmSync(path)
      return
    case 'link':
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
      rmSync(path, { force: true })
      symlinkSync(step.target, path)
      return
    case 'remove':
      if (step.onlyIfEmpty) rmdirSync(path)
      else rmSync(path, { recursive: true, force: true })
      return
  }
}

function ran(
  { command, otherwise }: Extract<Step, { kind: 'command' }>,
  host: ServiceHost,
): string | undefined {
  const { code, err } = host.run(command)
  if (code === 0) return undefined
  if (otherwise === '') return undefined
  const why = printable(err.trim().split('\n')[0] || `exit code ${code}`)
  if (otherwise !== undefined) return `${otherwise} (${why})`
  throw new AgentExit(EXIT.error, `"${command.join(' ')}" failed: ${why}`)
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

function linkOf(path: string): string | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? readlinkSync(path) : undefined
}
