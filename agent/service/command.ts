import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Credential } from '../credential.ts'
import { AgentExit, EXIT } from '../exit.ts'
import type { LogOutput } from '../log.ts'
import type { Clock } from '../runtime.ts'
import { type AgentFlags, type Environment, lookForCredential, readSettings } from '../settings.ts'
import { printable } from '../text.ts'
import type { ServiceHost } from './host.ts'
import { type Plan, planInstall } from './install.ts'
import type { Scope } from './layout.ts'
import { carryOut, type Done, type Step } from './steps.ts'
import { planUninstall } from './uninstall.ts'

/** Flags that `install` and `uninstall` share. */
export interface ServiceFlags {
  readonly user?: boolean
  /** Folder of an image that is mounted there. */
  readonly root?: string
  readonly dryRun?: boolean
  readonly json?: boolean
}

export interface InstallFlags extends ServiceFlags {
  readonly server?: string
  readonly name?: string
  /** `-`: standard input. */
  readonly enrollmentKeyFile?: string
  readonly setupTokenFile?: string
  /** NAME=value, for the service's environment. */
  readonly set?: readonly string[]
  readonly start?: boolean
}

export interface UninstallFlags extends ServiceFlags {
  readonly purge?: boolean
}

export interface ServiceParts {
  readonly host: ServiceHost
  readonly clock: Clock
  readonly answers: LogOutput
  /** What starts the agent, without its own command. */
  readonly program: readonly string[]
  /** Of standard input; asked for only when it is to hold the key. */
  readonly readInput: () => string
}

/** `beacon agent install`. Throws AgentExit with what is wrong. */
export async function installService(flags: InstallFlags, parts: ServiceParts): Promise<void> {
  const { host, clock } = parts
  const variables = variablesOf(flags, host.env)
  const credential = credentialOf(flags, host.env, parts.readInput)
  const wish = {
    scope: scopeOf(flags),
    command: [...parts.program, 'run'],
    credential,
    variables,
    isToStart: flags.start !== false,
  }
  const plan = await planInstall(wish, host, clock)
  report(flags, plan, carryOut(plan.steps, host, flags.dryRun === true), parts.answers)
}

/** `beacon agent uninstall`. Throws AgentExit with what is wrong. */
export async function uninstallService(
  flags: UninstallFlags,
  { host, clock, answers }: Omit<ServiceParts, 'program' | 'readInput'>,
): Promise<void> {
  const plan = await planUninstall({ scope: scopeOf(flags), isPurge: flags.purge === true }, host, clock)
  report(flags, plan, carryOut(plan.steps, host, flags.dryRun === true), answers)
}

function scopeOf(flags: ServiceFlags): Scope {
  return flags.user ? 'user' : 'system'
}

const VARIABLE = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/
const SECRETS = ['BEACON_ENROLLMENT_KEY', 'BEACON_SETUP_TOKEN']
/** What `--set` may not be used for, and what is. */
const OWN = new Map([
  ['BEACON_SERVER', '--server'],
  ['BEACON_NAME', '--name'],
  ['BEACON_CONFIG', 'nothing: the service has one place for it'],
])

/** Settings for the service: checked, so that a mistake is told now and not by a service that does not start. */
function variablesOf(flags: InstallFlags, env: Environment): Record<string, string> {
  const given: Record<string, string> = {}
  for (const assignment of flags.set ?? []) {
    const [, name, value] = VARIABLE.exec(assignment) ?? []
    if (name === undefined || value === undefined || printable(value, value.length) !== value)
      throw new AgentExit(EXIT.usage, '--set takes NAME=value, in one line')
    if (SECRETS.includes(name))
      throw new AgentExit(EXIT.usage, `${name} is a secret: give it as a file, or on standard input`)
    const instead = OWN.get(name)
    if (instead) throw new AgentExit(EXIT.usage, `instead of --set ${name} there is ${instead}`)
    given[name] = value
  }
  const server = flags.server || env.BEACON_SERVER
  const name = flags.name || env.BEACON_NAME
  // Already enrolled: so no credential is looked for here.
  const settings = readSettings({ ...(server ? { server } : {}), ...(name ? { name } : {}) }, given, {}, true)
  return {
    ...(server ? { BEACON_SERVER: settings.server } : {}),
    ...(settings.name ? { BEACON_NAME: settings.name } : {}),
    ...given,
  }
}

function credentialOf(
  flags: InstallFlags,
  env: Environment,
  readInput: () => string,
): Credential | undefined {
  const { enrollmentKeyFile, setupTokenFile } = flags
  const fromInput = [enrollmentKeyFile, setupTokenFile].includes('-') ? readInput().trim() : undefined
  if (fromInput === '') throw new AgentExit(EXIT.usage, 'nothing came on standard input')
  const named: AgentFlags = {
    ...given('enrollmentKey', enrollmentKeyFile === '-' ? fromInput : undefined),
    ...given('enrollmentKeyFile', enrollmentKeyFile === '-' ? undefined : enrollmentKeyFile),
    ...given('setupToken', setupTokenFile === '-' ? fromInput : undefined),
    ...given('setupTokenFile', setupTokenFile === '-' ? undefined : setupTokenFile),
  }
  const { credential, mistakes } = lookForCredential(named, env, {})
  if (mistakes.length > 0) throw new AgentExit(EXIT.usage, mistakes.join('\n'))
  return credential
}

function given(name: keyof AgentFlags, value: string | undefined): AgentFlags {
  return value === undefined ? {} : { [name]: value }
}

function report(flags: ServiceFlags, plan: Plan, done: readonly Done[], answers: LogOutput): void {
  const isDryRun = flags.dryRun === true
  const remarks = [...done.flatMap(({ remark }) => (remark ? [remark] : [])), ...plan.remarks]
  const changed = done.some((each) => each.changed)
  if (flags.json) {
    const { scope, unit, config, environmentFile } = plan.layout
    const files = { unit, config, environment: environmentFile }
    const told = { scope, dry_run: isDryRun, changed, ...files, steps: done, remarks, next: plan.next }
    answers.write(`${JSON.stringify(told, null, 2)}\n`)
    return
  }
  const lines = done.flatMap((each, index) => linesOf(each, plan.steps[index]!, isDryRun))
  if (!changed) lines.push('nothing is to be done')
  lines.push(...remarks.map((remark) => `note: ${remark}`), ...plan.next.map((line) => `next: ${line}`))
  answers.write(`${lines.join('\n')}\n`)
}

const PAST = {
  make: 'made',
  write: 'wrote',
  move: 'moved',
  link: 'linked',
  remove: 'removed',
  run: 'ran',
} as const

function linesOf({ action, what, changed, remark }: Done, step: Step, isDryRun: boolean): string[] {
  // What is gone already, or was there already, is told only of what was to be written.
  if (!changed) return action === 'write' ? [`unchanged: ${what}`] : []
  if (remark !== undefined) return [`tried: ${what}`]
  if (!isDryRun) return [`${PAST[action]} ${what}`]
  const head = `would ${action} ${what}`
  if (step.kind !== 'file') return [head]
  if (step.isSecret) return [`${head} (the key, for the service alone)`]
  return [
    `${head}:`,
    ...step.content
      .trimEnd()
      .split('\n')
      .map((line) => `    ${line}`),
  ]
}

/** The flags' root folder as a whole path; `/` for this machine. */
export function rootOf(flags: ServiceFlags): string {
  return flags.root ? resolve(flags.root) : '/'
}

const MAX_INPUT_BYTES = 4_096

/** The key that stands on standard input. */
export function readInput(): string {
  const text = readFileSync(0, 'utf8')
  if (text.length > MAX_INPUT_BYTES) throw new AgentExit(EXIT.usage, 'standard input holds more than a key')
  return text
}
