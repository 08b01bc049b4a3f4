import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { CliError } from '../failure.ts'

/** The demo's own folder and what stands in it. */
export interface DemoFolder {
  readonly path: string
  readonly serverData: string
  readonly ownerTokenFile: string
  readonly enrollmentKeyFile: string
  agentConfig(name: string): string
  logFile(part: string): string
  /** Removes what does not stand in the folder itself. */
  tidy(): void
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

function everybodyMayPass(path: string): boolean {
  const passable = (statSync(path).mode & 0o001) !== 0
  return passable && (path === dirname(path) || everybodyMayPass(dirname(path)))
}

/**
 * Where the server keeps its data. When we are root, its PostgreSQL runs as another user, who may not be able to pass
 * through to a folder such as /root; then it is a temporary one.
 */
function makeServerData(folder: string): { path: string; tidy: () => void } {
  if (process.getuid?.() !== 0 || everybodyMayPass(folder)) return { path: join(folder, 'server'), tidy() {} }
  const temporary = mkdtempSync(join(tmpdir(), 'beacon-demo-'))
  chmodSync(temporary, 0o711)
  return {
    path: join(temporary, 'server'),
    tidy: () => rmSync(temporary, { recursive: true, force: true }),
  }
}

/** Makes the folder anew below `parent`, unless another demo is still running in it. */
export function makeDemoFolder(parent: string): DemoFolder {
  const path = resolve(parent, NAME)
  const processFile = join(path, 'demo.pid')
  const other = runningDemo(processFile)
  if (other !== undefined) throw new CliError(`another demo (process ${other}) is running in ${path}`)
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path)
  chmodSync(path, 0o711)
  for (const inner of ['logs', 'robots']) mkdirSync(join(path, inner), { mode: 0o700 })
  writeFileSync(processFile, String(process.pid))
  const serverData = makeServerData(path)
  return {
    path,
    serverData: serverData.path,
    ownerTokenFile: join(path, 'owner-token'),
    enrollmentKeyFile: join(path, 'enrollment-key'),
    agentConfig(name) {
      mkdirSync(join(path, 'robots', name), { mode: 0o700 })
      return join(path, 'robots', name, 'agent.toml')
    },
    logFile: (part) => join(path, 'logs', `${part}.log`),
    tidy: serverData.tidy,
  }
}

export function writeSecret(file: string, secret: string): void {
  writeFileSync(file, `${secret}\n`, { mode: 0o600 })
}
