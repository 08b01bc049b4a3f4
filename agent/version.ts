import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const NAME = '@roboflare/beacon'

/** Set in the agent that is one file: it has no package around it. */
declare const BEACON_AGENT_VERSION: string | undefined

/** The version of the package this file belongs to; it runs from agent/ as well as from dist/agent/. */
function findVersion(): string {
  for (let folder = import.meta.dirname; folder !== dirname(folder); folder = dirname(folder)) {
    try {
      const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
      if (manifest.name === NAME) return manifest.version
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  return '0.0.0'
}

export const agentVersion = typeof BEACON_AGENT_VERSION === 'string' ? BEACON_AGENT_VERSION : findVersion()
