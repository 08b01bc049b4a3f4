import { existsSync, statSync } from 'node:fs'
import { dirname, isAbsolute } from 'node:path'
import { AgentExit, EXIT } from '../exit.ts'
import { pathOn, type ServiceHost } from './host.ts'

const OTHERS_READ = 0o004
const OTHERS_ENTER = 0o001

/**
 * Refuses a command that the service's user could not start: it is nobody on this machine, and comes into no folder that
 * only its owner may enter.
 */
export function refuseUnreachable(command: readonly string[], host: ServiceHost): void {
  for (const path of command.filter((word) => isAbsolute(word))) {
    const file = pathOn(host, path)
    if (!existsSync(file)) throw new AgentExit(EXIT.usage, `${path} is not there${inImage(host)}`)
    if (/^\/(var\/)?tmp\//.test(path))
      throw new AgentExit(
        EXIT.usage,
        `${path} lies in a folder for temporary files, which the service does not see and which is emptied some day: put the agent below /opt or /usr/local, and install it from there`,
      )
    const closed = (statSync(file).mode & OTHERS_READ) === 0 ? path : closedFolder(path, host)
    if (closed === undefined) continue
    throw new AgentExit(
      EXIT.usage,
      `the service runs as a user of its own, who could not start ${path}: ${closed} is closed to others. Put the agent where all may read it, for example below /opt or /usr/local, and install it from there`,
    )
  }
}

function closedFolder(path: string, host: ServiceHost): string | undefined {
  for (let folder = dirname(path); folder !== '/'; folder = dirname(folder))
    if ((statSync(pathOn(host, folder)).mode & OTHERS_ENTER) === 0) return folder
  return undefined
}

function inImage({ root }: ServiceHost): string {
  return root === '/' ? '' : ` in ${root}`
}
