import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Credential } from '../credential.ts'
import { AgentExit, EXIT } from '../exit.ts'
import { handedOverAt } from '../handed-over.ts'
import { askRunningAgent } from '../lock.ts'
import { type Places, placesOf } from '../places.ts'
import type { Clock } from '../runtime.ts'
import { DEFAULT_SERVER } from '../settings.ts'
import { parseState } from '../state.ts'
import { withVariables } from './environment-file.ts'
import { groupSteps } from './group.ts'
import { pathOn, type ServiceHost, systemdVersion } from './host.ts'
import { GROUP, type Layout, type Scope, SYSTEM_LAYOUT, UNIT, userLayout } from './layout.ts'
import { refuseUnreachable } from './program.ts'
import type { Step } from './steps.ts'
import { NOTIFY_VERSION, STEPS_VERSION, unitText } from './unit.ts'

export interface InstallWish {
  readonly scope: Scope
  /** What starts the agent: absolute paths, then `run`. */
  readonly command: readonly string[]
  readonly credential: Credential | undefined
  /** Settings for the service, by the names of their variables. */
  readonly variables: Readonly<Record<string, string>>
  /** Start it now, where that can be. */
  readonly isToStart: boolean
}

/** What is to be done, and what a person has to know besides. */
export interface Plan {
  readonly layout: Layout
  readonly steps: readonly Step[]
  readonly remarks: readonly string[]
  /** What is left to a person. */
  readonly next: readonly string[]
}

/** What installs the agent as a service of systemd. Reads the host and changes nothing. */
export async function planInstall(wish: InstallWish, host: ServiceHost, clock: Clock): Promise<Plan> {
  const { scope } = wish
  refuseWrongUser(scope, host)
  if (scope === 'system') refuseUnreachable(wish.command, host)
  const layout = layoutOf(scope, host)
  const version = systemdVersion(host)
  const hasNotify = ['/usr/bin', '/bin'].some((folder) =>
    existsSync(pathOn(host, `${folder}/systemd-notify`)),
  )
  const takenOver = scope === 'system' ? await rootsIdentity(host, clock) : []
  const variables = variablesFile(layout, wish, host)
  const group = scope === 'system' ? groupSteps(host) : undefined
  const unit = unitText({ layout, command: wish.command, version, hasNotify, group: group && GROUP })
  const isEnrolled = holdsIdentity(host, takenOver[0]?.path ?? layout.config)
  const canWork = isEnrolled || wish.credential !== undefined || hasCredential(host, layout, variables)
  const starting = startSteps(layout, host, wish.isToStart && canWork)
  return {
    layout,
    steps: [
      ...(scope === 'system' ? [{ kind: 'folder', path: '/etc/beacon', mode: 0o755 } as const] : []),
      { kind: 'folder', path: dirname(layout.config), mode: 0o700 },
      ...takenOver,
      ...(wish.credential ? handOver(layout, wish.credential) : []),
      { kind: 'file', path: layout.environmentFile, content: variables, mode: 0o600 },
      ...(group ?? []),
      { kind: 'file', path: layout.unit, content: unit, mode: 0o644 },
      ...starting.steps,
    ],
    remarks: [
      ...remarksOnSystemd(version, hasNotify),
      ...remarksOnProxies(host, variables),
      ...(isEnrolled || /^BEACON_SERVER=/m.test(variables)
        ? []
        : [`no --server was given, so it looks for its control plane at ${DEFAULT_SERVER}`]),
      ...(isEnrolled && wish.credential ? [remarkOnEnrolled(wish.credential)] : []),
    ],
    next: [
      ...(canWork
        ? []
        : [`give it a key: "beacon agent install${flagOf(scope)} --enrollment-key-file <file>"`]),
      ...starting.next,
    ],
  }
}

export function layoutOf(scope: Scope, host: ServiceHost): Layout {
  if (scope === 'system') return SYSTEM_LAYOUT
  const { env, home } = host
  return userLayout(home, placesOf({ config: undefined, env, isRoot: false, accountHome: home }).config)
}

export function refuseWrongUser(scope: Scope, { uid }: ServiceHost): void {
  if (scope === 'system' && uid !== 0)
    throw new AgentExit(
      EXIT.usage,
      'a service of this machine is for root to install: use sudo, or --user for a service of your own',
    )
  if (scope === 'user' && uid === 0)
    throw new AgentExit(EXIT.usage, '--user is for other users than root, who has the service of the machine')
}

export function flagOf(scope: Scope): string {
  return scope === 'user' ? ' --user' : ''
}

export function systemctl(scope: Scope, ...args: string[]): string[] {
  return ['systemctl', ...(scope === 'user' ? ['--user'] : []), ...args]
}

/** An agent that root ran by hand has its identity elsewhere: it becomes the service's. */
async function rootsIdentity(host: ServiceHost, clock: Clock): Promise<Extract<Step, { kind: 'move' }>[]> {
  const { config } = SYSTEM_LAYOUT
  const places = placesOf({ config: undefined, env: {}, isRoot: true, accountHome: '/root' })
  if (!existsSync(pathOn(host, places.config)) || existsSync(pathOn(host, config))) return []
  await refuseWhileRunning({ ...places, stateDir: pathOn(host, places.stateDir) }, clock)
  const folder = dirname(places.config)
  return readdirSync(pathOn(host, folder))
    .filter((name) => name === places.stem || name === `${places.stem}.bak`)
    .sort()
    .map((name) => ({ kind: 'move', path: join(folder, name), to: join(dirname(config), name) }))
}

export async function refuseWhileRunning(places: Places, clock: Clock): Promise<void> {
  if ((await askRunningAgent(places, clock)) === undefined) return
  throw new AgentExit(EXIT.conflict, 'an agent runs on this identity: stop it first')
}

function holdsIdentity(host: ServiceHost, config: string): boolean {
  try {
    return parseState(readFileSync(pathOn(host, config), 'utf8')).identity !== undefined
  } catch {
    return false
  }
}

function hasCredential(host: ServiceHost, { config }: Layout, variables: string): boolean {
  const { key, setupToken } = handedOverOf(config)
  const isReady = [key, setupToken].some((path) => existsSync(pathOn(host, path)))
  return isReady || /^BEACON_(ENROLLMENT_KEY|SETUP_TOKEN)/m.test(variables)
}

function handedOverOf(config: string) {
  return handedOverAt({ stateDir: dirname(config), stem: 'agent.toml' })
}

/** Beside the state, where the service can remove it when it is used up. The other kind, if any, is an older wish. */
function handOver({ config }: Layout, { secret, isSetupToken }: Credential): Step[] {
  const { key, setupToken } = handedOverOf(config)
  const [path, other] = isSetupToken ? [setupToken, key] : [key, setupToken]
  return [
    { kind: 'file', path, content: `${secret}\n`, mode: 0o600, isSecret: true },
    { kind: 'remove', path: other },
  ]
}

function remarkOnEnrolled({ isSetupToken }: Credential): string {
  if (isSetupToken) return 'this robot is enrolled already; the setup token gives it new credentials'
  return 'this robot is enrolled already; the key is kept for when its token is refused'
}

function variablesFile({ environmentFile }: Layout, { variables }: InstallWish, host: ServiceHost): string {
  const path = pathOn(host, environmentFile)
  return withVariables(existsSync(path) ? readFileSync(path, 'utf8') : undefined, variables)
}

function startSteps(
  layout: Layout,
  host: ServiceHost,
  isToStart: boolean,
): { steps: Step[]; next: string[] } {
  const { scope } = layout
  const start = `"${systemctl(scope, 'start', UNIT).join(' ')}" starts it now`
  if (!host.isRunningSystemd(scope)) {
    const steps: Step[] = [{ kind: 'link', path: layout.wanted, target: `../${UNIT}` }]
    const when = scope === 'system' ? 'when this system is booted' : "when this user's systemd starts"
    return { steps, next: [`systemd cannot be told from here: the service starts ${when}`] }
  }
  const steps: Step[] = [
    { kind: 'command', command: systemctl(scope, 'daemon-reload') },
    { kind: 'command', command: systemctl(scope, 'enable', UNIT) },
  ]
  if (scope === 'user')
    steps.push({
      kind: 'command',
      command: ['loginctl', 'enable-linger'],
      otherwise:
        'it stops when this user logs out; "sudo loginctl enable-linger $USER" lets it run from boot on',
    })
  if (!isToStart) return { steps, next: [start] }
  // Not waiting: it is ready only once the control plane has answered.
  steps.push({ kind: 'command', command: systemctl(scope, '--no-block', 'restart', UNIT) })
  return {
    steps,
    next: [`"beacon agent status" tells how it does, "journalctl${flagOf(scope)} -u ${UNIT}" what it says`],
  }
}

/** A service sees none of a shell's variables, and a robot that is installed through a proxy seldom does without. */
function remarksOnProxies({ env }: ServiceHost, variables: string): string[] {
  const named = ['https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'].filter(
    (name) => env[name],
  )
  if (named.length === 0 || /^\w*_proxy=/im.test(variables)) return []
  return [`${named[0]} is set here, and not for the service: if it needs the proxy, add --set ${named[0]}=…`]
}

function remarksOnSystemd(version: number | undefined, hasNotify: boolean): string[] {
  if (version === undefined) return ['systemctl is not there: the unit is written for systemd 246 and newer']
  const remarks: string[] = []
  if (version < NOTIFY_VERSION)
    remarks.push(
      `systemd ${version} may lose what the agent tells it: no watchdog, no state (from ${NOTIFY_VERSION} on)`,
    )
  else if (!hasNotify) remarks.push('the program systemd-notify is not there: no watchdog, no state')
  if (version < STEPS_VERSION)
    remarks.push(
      `systemd ${version} starts it again every 10 s when it ends; from ${STEPS_VERSION} on the pause grows to 5 min`,
    )
  return remarks
}
