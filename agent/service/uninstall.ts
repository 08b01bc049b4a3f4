import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { placesOf } from '../places.ts'
import type { Clock } from '../runtime.ts'
import { groupRemoval } from './group.ts'
import { pathOn, type ServiceHost } from './host.ts'
import { layoutOf, type Plan, refuseWhileRunning, refuseWrongUser, systemctl } from './install.ts'
import { type Layout, type Scope, UNIT } from './layout.ts'
import type { Step } from './steps.ts'

export interface UninstallWish {
  readonly scope: Scope
  /** The identity, the settings and the key go, too. */
  readonly isPurge: boolean
}

/** What takes the service away again. Reads the host and changes nothing. */
export async function planUninstall(wish: UninstallWish, host: ServiceHost, clock: Clock): Promise<Plan> {
  const { scope, isPurge } = wish
  refuseWrongUser(scope, host)
  const layout = layoutOf(scope, host)
  const isRunning = host.isRunningSystemd(scope)
  const isThere = existsSync(pathOn(host, layout.unit))
  const tells = isRunning && isThere
  if (isPurge && !tells) {
    const places = placesOf({ config: pathOn(host, layout.config), env: {}, isRoot: false, accountHome: '/' })
    await refuseWhileRunning(places, clock)
  }
  return {
    layout,
    steps: [
      ...(tells ? [command(systemctl(scope, 'disable', '--now', UNIT))] : []),
      { kind: 'remove', path: layout.wanted },
      { kind: 'remove', path: layout.unit },
      ...(isPurge ? purgeSteps(layout, host) : []),
      ...(tells
        ? [
            command(systemctl(scope, 'daemon-reload')),
            // It knows of it only if it had failed.
            command(systemctl(scope, 'reset-failed', UNIT), ''),
          ]
        : []),
    ],
    remarks: isPurge ? ['its record stays with the control plane: retire the robot there'] : [],
    next:
      isPurge || !existsSync(pathOn(host, layout.config))
        ? []
        : [`the identity stays in ${layout.config}; --purge removes it`],
  }
}

function purgeSteps(layout: Layout, host: ServiceHost): Step[] {
  const { scope, config, environmentFile, unit } = layout
  const own: Step[] = [
    { kind: 'remove', path: `${unit}.d` },
    { kind: 'remove', path: environmentFile },
  ]
  if (scope === 'user')
    return [
      ...own,
      ...filesOfAgent(host, config),
      { kind: 'remove', path: dirname(config), onlyIfEmpty: true },
    ]
  return [
    ...own,
    ...filesOfAgent(host, '/etc/beacon/agent.toml'),
    { kind: 'remove', path: '/etc/beacon', onlyIfEmpty: true },
    { kind: 'remove', path: '/var/lib/private/beacon' },
    { kind: 'remove', path: '/var/lib/beacon' },
    ...groupRemoval(host),
  ]
}

function filesOfAgent(host: ServiceHost, config: string): Step[] {
  const folder = dirname(config)
  const stem = 'agent.toml'
  const there = existsSync(pathOn(host, folder)) ? readdirSync(pathOn(host, folder)) : []
  return there
    .filter((name) => name === stem || name.startsWith(`${stem}.`))
    .sort()
    .map((name) => ({ kind: 'remove', path: join(folder, name) }))
}

function command(words: readonly string[], otherwise?: string): Step {
  return { kind: 'command', command: words, ...(otherwise === undefined ? {} : { otherwise }) }
}
