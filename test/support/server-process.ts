import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BEACON = join(import.meta.dirname, '../../bin/beacon.js')
const READY_WITHIN_MS = 40_000

export type Environment = Readonly<Record<string, string>>

/** A server that ended before it was ready. */
export class NotReadyError extends Error {
  readonly code: number | null
  readonly output: { readonly stdout: string; readonly stderr: string }
  constructor(code: number | null, output: { readonly stdout: string; readonly stderr: string }) {
    super(`the server ended with ${code} before it was ready\n${output.stdout}${output.stderr}`)
    this.name = 'NotReadyError'
    this.code = code
    this.output = output
  }
}

const alive = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/** The real `beacon server` as a process of its own, from the built files. */
export class ServerProcess {
  /** Where it takes requests, once it is ready. */
  url = ''
  /** Where it takes robots. */
  gatewayUrl = ''
  stdout = ''
  stderr = ''
  readonly exited: Promise<number | null>
  readonly #child: ChildProcess

  /** `descriptors`: how many each of its processes may have open. */
  constructor(env: Environment, descriptors?: number) {
    const limit = descriptors === undefined ? '' : `ulimit -n ${descriptors}; `
    this.#child = spawn('/bin/sh', ['-c', `${limit}exec "$0" "$@"`, process.execPath, BEACON, 'server'], {
      // Nothing of ours: a BEACON_ variable of whoever runs the tests must not reach it.
      env: {
        PATH: process.env.PATH ?? '',
        HOME: '/nonexistent',
        NO_COLOR: '1',
        // As `npm test` has it: see processes/launch.ts.
        GLIBC_TUNABLES: process.env.GLIBC_TUNABLES ?? '',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    alive.add(this.#child)
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.exited = once(this.#child, 'close').then(([code]) => {
      alive.delete(this.#child)
      return code as number | null
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Settings for a server that comes after this one: robots that keep an address find it there. */
  get ports(): Environment {
    const [own, robots] = [new URL(this.url).port, new URL(this.gatewayUrl).port]
    return { BEACON_PORT: own, ...(robots === own ? {} : { BEACON_GATEWAY_PORT: robots }) }
  }

  get output(): string {
    return this.stdout + this.stderr
  }

  get hasExited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** The tokens it says it has minted for an owner. */
  get ownerTokens(): string[] {
    return [...this.stdout.matchAll(/beacon owner token[^\n]*?(rf_pat_\w+)/g)].map((found) => found[1]!)
  }

  async ready(): Promise<void> {
    const said = new Promise<true>((resolve) => {
      this.#child.stdout?.on('data', () => {
        const [, url, gatewayUrl] =
          /^beacon ready on (https?:\/\/\S+) \(robots: (wss?:\/\/[^\s,]+)/m.exec(this.stdout) ?? []
        if (url === undefined || gatewayUrl === undefined) return
        this.url = url
        this.gatewayUrl = gatewayUrl
        resolve(true)
      })
    })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), READY_WITHIN_MS)
    })
    const outcome = await Promise.race([said, this.exited, late])
    clearTimeout(timer)
    if (outcome === true) return
    if (outcome === 'late') await this.kill9()
    throw new NotReadyError(outcome === 'late' ? null : outcome, this)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Ends it as an operating system does, and answers with its exit code. */
  stop(): Promise<number | null> {
    this.signal('SIGTERM')
    return this.exited
  }

  async kill9(): Promise<void> {
    if (!this.hasExited) this.signal('SIGKILL')
    await this.exited
  }
}

/** Starts a server and waits until it takes requests; rejects with NotReadyError when it ends instead. */
export async function startServer(env: Environment, descriptors?: number): Promise<ServerProcess> {
  const server = new ServerProcess({ BEACON_PORT: '0', BEACON_GATEWAY_PORT: '0', ...env }, descriptors)
  await server.ready()
  return server
}

export function makeDataFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'beacon-e2e-'))
}

/** Every process of the PostgreSQL that works in a data folder. */
export function postgresProcesses(folder: string): number[] {
  const listing = execFileSync('ps', ['-ww', '-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
  const all = [...listing.matchAll(/^\s*(\d+)\s+(\d+)\s+(.*)$/gm)].map(([, pid, parent, args = '']) => ({
    pid: Number(pid),
    parent: Number(parent),
    args,
  }))
  const masters = all
    .filter(({ args }) => args.includes('postgres -D') && args.includes(folder))
    .map(({ pid }) => pid)
  return [...masters, ...all.filter(({ parent }) => masters.includes(parent)).map(({ pid }) => pid)]
}

export function killPostgres(folder: string): number {
  const pids = postgresProcesses(folder)
  for (const pid of pids)
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // a child that went with its parent
    }
  return pids.length
}

/** Removes a data folder, and the PostgreSQL that a killed server may have left in it. */
export async function removeDataFolder(folder: string): Promise<void> {
  killPostgres(folder)
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
}

/** The address of the database in a data folder, for looking behind the server's back. */
export async function embeddedUrl(folder: string): Promise<string> {
  const password = (await readFile(join(folder, 'postgres-password'), 'utf8')).trim()
  const sockets = encodeURIComponent(join(folder, 'postgres', 'run'))
  return `postgresql://beacon:${password}@/beacon?host=${sockets}&sslmode=disable`
}
