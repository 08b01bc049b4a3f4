import { dirname, join } from 'node:path'
import { AgentExit, EXIT } from '../exit.ts'
import type { Places } from '../places.ts'
import type { Environment } from '../settings.ts'
import { OFF, socketToServe } from './address.ts'

/** How the robot's own software reaches the agent. */
export interface LocalSettings {
  /** Undefined: there is no socket. */
  readonly socket: string | undefined
  /** Undefined: no programs are run. */
  readonly execFolder: string | undefined
  readonly execEveryMs: number
}

const DEFAULT_EVERY_S = 60
const MAX_EVERY_S = 86_400

/** Reads them from the environment; a mistake ends the agent with a sentence. */
export function readLocalSettings(places: Places, env: Environment): LocalSettings {
  return {
    socket: socketToServe(places, env),
    execFolder: execFolderOf(places, env),
    execEveryMs: everySeconds(env.BEACON_AGENT_EXEC_SECONDS) * 1_000,
  }
}

/** `agent.d` beside `agent.toml`, `other.d` beside `other.toml`. */
function execFolderOf(places: Places, env: Environment): string | undefined {
  if (env.BEACON_AGENT_EXEC_DIR === OFF) return undefined
  return env.BEACON_AGENT_EXEC_DIR || join(dirname(places.config), `${places.stem.replace(/\.toml$/, '')}.d`)
}

function everySeconds(text: string | undefined): number {
  if (!text) return DEFAULT_EVERY_S
  const seconds = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (seconds < 1 || seconds > MAX_EVERY_S)
    throw new AgentExit(
      EXIT.usage,
      `BEACON_AGENT_EXEC_SECONDS must be a whole number of seconds from 1 to ${MAX_EVERY_S}`,
    )
  return seconds
}
