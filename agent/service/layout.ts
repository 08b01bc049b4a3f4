import { dirname, join } from 'node:path'
import { SERVICE_CONFIG } from '../places.ts'

export const UNIT = 'beacon-agent.service'
/** Its members may report through the service's local socket. Not the name of the service's user: see docs/agent.md. */
export const GROUP = 'beacon-robot'

export type Scope = 'system' | 'user'

/** Where a service of this scope has its parts, as seen from inside the root folder. */
export interface Layout {
  readonly scope: Scope
  readonly unit: string
  /** The link by which systemd starts it at boot, or when the user's manager starts. */
  readonly wanted: string
  readonly wantedBy: string
  /** The identity. */
  readonly config: string
  readonly environmentFile: string
}

const SYSTEM_UNITS = '/etc/systemd/system'

export const SYSTEM_LAYOUT: Layout = {
  scope: 'system',
  unit: join(SYSTEM_UNITS, UNIT),
  wanted: join(SYSTEM_UNITS, 'multi-user.target.wants', UNIT),
  wantedBy: 'multi-user.target',
  config: SERVICE_CONFIG,
  environmentFile: '/etc/beacon/agent.env',
}

/** A user's own service; `config` is where this user's agent keeps its identity. */
export function userLayout(home: string, config: string): Layout {
  const units = join(home, '.config/systemd/user')
  return {
    scope: 'user',
    unit: join(units, UNIT),
    wanted: join(units, 'default.target.wants', UNIT),
    wantedBy: 'default.target',
    config,
    environmentFile: join(dirname(config), 'agent.env'),
  }
}
