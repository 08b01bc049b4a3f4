import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { AgentStatus, LinkStatus } from '../../agent/status.ts'
import { packageRoot } from '../../src/package.ts'
import type { BeaconServer } from './beacon-server.ts'
import { withConnection } from './database.ts'
import { makeEnrollmentKey } from './fleet-operator.ts'
import { unlessInterrupted } from './interrupt.ts'
import { nodeOfItsOwn, RobotProcess } from './robot-process.ts'
import { RobotSoftware } from './robot-software.ts'

/** As installed on a robot, and as `beacon agent` in a checkout. */
export const PROGRAMS = {
  bundle: [join(packageRoot, 'dist/install/beacon-agent.mjs')],
  dist: [join(packageRoot, 'bin/beacon.js'), 'agent'],
} as const

const HEAP_PROBE = new URL('../programs/heap-probe.js', import.meta.url).href

export function heapFileOf({ folder }: Pick<RunningAgent, 'folder'>): string {
  return join(folder, 'heap')
}

const PATIENCE_MS = 30_000
const LOOK_EVERY_MS = 100

export interface AgentWish {
  readonly name: string
  readonly node: string
  readonly program: keyof typeof PROGRAMS
  /** Where it finds its server, in this run. */
  readonly server: string
  readonly intervalSeconds: number
  readonly settings?: Readonly<Record<string, string>>
  /** It is to tell its live heap (see programs/heap-probe.ts). */
  readonly isProbed?: boolean
  /** Put before the command: what watches it. */
  readonly watchedBy?: (folder: string) => readonly string[]
}

/** An enrolled agent at work, with software that talks to it. */
export interface RunningAgent {
  readonly name: string
  readonly robotId: string
  readonly folder: string
  readonly node: string
  readonly process: RobotProcess
}

export interface Robots {
  /** Enrols an agent, and starts it anew: what a robot does once in its life is not in what is measured. */
  start(wish: AgentWish): Promise<RunningAgent>
  /** Another process, in a folder and with a Node of its own. */
  startOther(name: string, node: string, args: readonly string[]): Promise<RobotProcess>
}

/** Runs the work, which may start robots, and ends them afterwards. */
export async function withRobots<Result>(
  databaseUrl: string,
  server: BeaconServer,
  work: (robots: Robots) => Promise<Result>,
): Promise<Result> {
  for (const [program] of Object.values(PROGRAMS))
    if (!existsSync(program)) throw new Error(`${program} is not there: npm run build makes it`)
  const root = mkdtempSync(join(tmpdir(), 'beacon-robots-'))
  const processes: RobotProcess[] = []
  const software: RobotSoftware[] = []
  let over = false
  const key = await makeEnrollmentKey(server)
  const direct = `http://127.0.0.1:${server.port}`

  const folderOf = (name: string) => {
    const folder = join(root, name.replaceAll(/\W+/g, '-'))
    mkdirSync(folder)
    return folder
  }
  const begin = (...started: ConstructorParameters<typeof RobotProcess>) => {
    // Interrupted work knows nothing of it, and goes on until it meets something that fails.
    if (over) throw new Error('it is too late to start another process')
    const begun = new RobotProcess(...started)
    processes.push(begun)
    return begun
  }

  async function start(wish: AgentWish): Promise<RunningAgent> {
    const folder = folderOf(wish.name)
    const [node, socket] = [nodeOfItsOwn(wish.node, folder), join(folder, 'agent.sock')]
    const run = (address: string) => [
      ...(wish.watchedBy?.(folder) ?? []),
      ...[node, ...PROGRAMS[wish.program], 'run', '--server', address],
      ...['--config', join(folder, 'agent.toml'), '--heartbeat-seconds', String(wish.intervalSeconds)],
    ]
    const name = `${wish.name} ${randomUUID().slice(0, 8)}`
    const settings = { BEACON_AGENT_SOCKET: socket, BEACON_NAME: name, ...wish.settings }
    const probe = { NODE_OPTIONS: `--import ${HEAP_PROBE}`, BENCH_HEAP_FILE: heapFileOf({ folder }) }
    const enrolling = begin(run(direct), folder, { ...settings, BEACON_ENROLLMENT_KEY: key })
    const robotId = await robotNamed(databaseUrl, name)
    await enrolling.stop()
    const process = begin(run(wish.server), folder, { ...settings, ...(wish.isProbed ? probe : {}) })
    await until(() => existsSync(socket), `${wish.name} listens to the robot's software`)
    software.push(new RobotSoftware(socket))
    return { name: wish.name, robotId, folder, node, process }
  }

  async function startOther(name: string, node: string, args: readonly string[]): Promise<RobotProcess> {
    const folder = folderOf(name)
    return begin([nodeOfItsOwn(node, folder), ...args], folder)
  }

  try {
    return await unlessInterrupted(() => work({ start, startOther }))
  } finally {
    over = true
    for (const each of software) each.stop()
    await Promise.all(processes.map((process) => process.stop()))
    rmSync(root, { recursive: true, force: true })
  }
}

/** Waits for the robot of this name to have a heartbeat in PostgreSQL. */
async function robotNamed(databaseUrl: string, name: string): Promise<string> {
  let id: string | undefined
  await until(async () => {
    id = await withConnection(databaseUrl, async (connection) => {
      const { rows } = await connection.query<{ id: string }>(
        `SELECT id FROM robots JOIN robot_status ON robot_id = id WHERE name = $1 AND heartbeat_seq IS NOT NULL`,
        [name],
      )
      return rows[0]?.id
    })
    return id !== undefined
  }, `${name} is enrolled and heard`)
  return id!
}

/** Waits until it is so; throws when it takes too long. */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  what: string,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  for (const end = performance.now() + patienceMs; !(await isSo()); await sleep(LOOK_EVERY_MS))
    if (performance.now() > end) throw new Error(`it takes too long until ${what}`)
}

/** What a running agent tells of its connection. */
export async function statusOf({ node, folder }: RunningAgent): Promise<LinkStatus> {
  const { stdout } = await promisify(execFile)(node, [
    ...PROGRAMS.bundle,
    ...['status', '--json', '--config', join(folder, 'agent.toml')],
  ])
  const { link } = JSON.parse(stdout) as AgentStatus
  if (!link) throw new Error(`the agent in ${folder} does not run`)
  return link
}
