import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { CliError } from '../failure.ts'

/** The demo's own folder and what stands in it. */
export interface DemoFolder {
  readonly path: string
  readonly serverData: string
  readonly ownerTokenFile: string
  readonly enrollmentKeyFile: string
  agentConfig(name: string): string
  logFile(part: string): string
}

const NAME = '.beacon-demo'

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function runningDemo(file: string): number | undefined {
  try {
    const processId = Number(readFileSync(file, 'utf8'))
    return Number.isInteger(processId) && processId > 0 && isAlive(processId) ? processId : undefined
  } catch {
    return undefined
  }
}

/** Makes the folder anew below `parent`, unless another demo is still running in it. */
export function makeDemoFolder(parent: string): DemoFolder {
  const path = resolve(parent, NAME)
  const processFile = join(path, 'demo.pid')
  const other = runningDemo(processFile)
  if (other !== undefined) throw new CliError(`another demo (process ${other}) is running in ${path}`)
  rmSync(path, { recursive: true, force: true })
  mkdirSync(join(path, 'logs'), { recursive: true, mode: 0o700 })
  writeFileSync(processFile, String(process.pid))
  return {
    path,
    serverData: join(path, 'server'),
    ownerTokenFile: join(path, 'owner-token'),
    enrollmentKeyFile: join(path, 'enrollment-key'),
    agentConfig(name) {
      mkdirSync(join(path, 'robots', name), { recursive: true, mode: 0o700 })
      return join(path, 'robots', name, 'agent.toml')
    },
    logFile: (part) => join(path, 'logs', `${part}.log`),
  }
}

export function writeSecret(file: string, secret: string): void {
  writeFileSync(file, `${secret}\n`, { mode: 0o600 })
}
