import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

/** Where an agent keeps what it knows. Two agents with two config files, even in one folder, share nothing. */
export interface Places {
  /** agent.toml: the identity. */
  readonly config: string
  /** The copy before the last change of `config`. */
  readonly backup: string
  /** An agent.toml that could not be used, after its copy took its place. */
  readonly damaged: string
  /** Folder of what changes while it runs. */
  readonly stateDir: string
  /** Begins the name of every file in `stateDir`. */
  readonly stem: string
  /** High-water mark of heartbeat numbers. */
  readonly sequence: string
  /** Number of the newest session. */
  readonly sessionCount: string
  /** When this machine started, by the server's clock, for each of its last starts. */
  readonly origins: string
  /** False for the one place per machine and user where an agent is expected. */
  readonly isCustom: boolean
}

export interface PlacesFrom {
  /** From the flag or the environment. */
  readonly config: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly isRoot: boolean
  /** The home folder by the user database, whatever HOME says. */
  readonly accountHome: string
  /** The agent is installed as a service of this machine: for root, its identity is the usual one. */
  readonly hasService?: boolean
}

const SYSTEM_CONFIG = '/etc/beacon/agent.toml'
const SYSTEM_STATE = '/var/lib/beacon'
/** The service has a user of its own, who can write its state folder and no other. */
export const SERVICE_CONFIG = '/var/lib/beacon/agent.toml'
/** What /var/lib/beacon is a link to while systemd makes up that user. */
const SERVICE_CONFIG_BEHIND = '/var/lib/private/beacon/agent.toml'

/**
 * `--config`, else `$XDG_CONFIG_HOME/roboflare/agent.toml`, else for root the installed service's or
 * /etc/beacon/agent.toml with its state in /var/lib/beacon, else ~/.config/roboflare/agent.toml. State stands beside the
 * config everywhere else.
 */
export function placesOf(from: PlacesFrom): Places {
  const xdg = from.env.XDG_CONFIG_HOME
  const isUsual = !from.config && !xdg && from.isRoot
  if (isUsual && !from.hasService) return places(SYSTEM_CONFIG, SYSTEM_STATE, false)
  const home = from.env.HOME || from.accountHome
  const named = from.config || join(xdg || join(home, '.config'), 'roboflare', 'agent.toml')
  const config = isUsual ? SERVICE_CONFIG : resolve(named)
  const real = followed(config)
  const own = from.isRoot ? SYSTEM_CONFIG : join(from.accountHome, '.config', 'roboflare', 'agent.toml')
  const isCustom = ![own, SERVICE_CONFIG, SERVICE_CONFIG_BEHIND].includes(config)
  return places(real, dirname(real), isCustom)
}

function places(config: string, stateDir: string, isCustom: boolean): Places {
  const stem = basename(config)
  return {
    config,
    backup: `${config}.bak`,
    damaged: `${config}.damaged`,
    stateDir,
    stem,
    sequence: join(stateDir, `${stem}.seq`),
    sessionCount: join(stateDir, `${stem}.session`),
    origins: join(stateDir, `${stem}.clock`),
    isCustom,
  }
}

/** One file reached by two names is one identity, and replacing it must not replace a link to it. */
export function followed(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    try {
      return join(realpathSync(dirname(path)), basename(path))
    } catch {
      return path
    }
  }
}
