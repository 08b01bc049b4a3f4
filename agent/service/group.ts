import { existsSync, readFileSync } from 'node:fs'
import { pathOn, type ServiceHost } from './host.ts'
import { GROUP } from './layout.ts'
import type { Step } from './steps.ts'

/** Makes the group that may use the local socket; undefined where groups cannot be made: then root alone reaches it. */
export function groupSteps(host: ServiceHost): Step[] | undefined {
  if (hasGroup(host)) return []
  if (host.run(['groupadd', '--help']).code !== 0) return undefined
  return [{ kind: 'command', command: ['groupadd', '--system', ...prefix(host), GROUP] }]
}

export function groupRemoval(host: ServiceHost): Step[] {
  if (!hasGroup(host)) return []
  const command = ['groupdel', ...prefix(host), GROUP]
  return [{ kind: 'command', command, otherwise: `the group ${GROUP} stays` }]
}

function hasGroup(host: ServiceHost): boolean {
  const groups = pathOn(host, '/etc/group')
  return existsSync(groups) && new RegExp(`^${GROUP}:`, 'm').test(readFileSync(groups, 'utf8'))
}

function prefix({ root }: ServiceHost): string[] {
  return root === '/' ? [] : ['--prefix', root]
}
