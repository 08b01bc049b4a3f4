import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

/** Where an agent keeps what it knows. Two agents with two config files, even in one folder, share nothing. */
export interface Places {
  /** agent.toml: the identity. */
  readonly config: string
  /** The copy before the last change of `config`. */
  readonly backup: string
  /** Folder of what changes while it runs. */
  readonly stateDir: string
  /** Begins the name of every file in `stateDir`. */
  readonly stem: string
  /** High-water mark of heartbeat numbers. */
  readonly sequence: string
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
}

const SYSTEM_CONFIG = '/etc/beacon/agent.toml'
const SYSTEM_STATE = '/var/lib/beacon'

/**
 * `--config`, else `$XDG_CONFIG_HOME/roboflare/agent.toml`, else for root /etc/beacon/agent.toml with its state in
 * /var/lib/beacon, else ~/.config/roboflare/agent.toml. State stands beside the config everywhere else.
 */
export function placesOf(from: PlacesFrom): Places {
  const xdg = from.env.XDG_CONFIG_HOME
  if (!from.config && !xdg && from.isRoot) return places(SYSTEM_CONFIG, SYSTEM_STATE, false)
  const home = from.env.HOME || from.accountHome
  const config = resolve(from.config || join(xdg || join(home, '.config'), 'roboflare', 'agent.toml'))
  const real = followed(config)
  const expected = from.isRoot ? SYSTEM_CONFIG : join(from.accountHome, '.config', 'roboflare', 'agent.toml')
  return places(real, dirname(real), config !== expected)
}

function places(config: string, stateDir: string, isCustom: boolean): Places {
  const stem = basename(config)
  return {
    config,
    backup: `${config}.bak`,
    stateDir,
    stem,
    sequence: join(stateDir, `${stem}.seq`),
    isCustom,
  }
}

/** One file reached by two names is one identity, and replacing it must not replace a link to it. */
function followed(path: string): string {
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
