import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { loadState, saveState } from '../../../agent/state-file.ts'
import { eventually } from '../../support/eventually.ts'
import { AgentProcess, KEY, placesAt, TestRobot, temporaryFolder } from '../support/agent-process.ts'
import { type ControlPlane, type RobotSession, startControlPlane } from '../support/control-plane.ts'
import { IDENTITY } from './states.ts'

const REFILL_MS = 10

const isRoot = process.getuid?.() === 0

function succeeds(program: string, args: readonly string[]): boolean {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0
}

/** Mounts something for one test; undefined where nobody may. */
function mounted(folder: string, options: readonly string[]): string | undefined {
  if (!isRoot || !succeeds('mount', [...options, folder])) return undefined
  onTestFinished(() => void succeeds('umount', ['-l', folder]))
  return folder
}

/** A disk that can be filled, and emptied again, while an agent works on it. */
interface Fillable {
  readonly name: string
  /** Answers with the folder and what it takes to fill it; undefined: not on this machine. */
  readonly make: () =>
    | { readonly folder: string; fill(agent: AgentProcess): void; empty(agent: AgentProcess): void }
    | undefined
}

const SMALL_DISK: Fillable = {
  name: 'a small disk that others fill',
  make() {
    const folder = mounted(temporaryFolder(), ['-t', 'tmpfs', '-o', 'size=128k', 'none'])
    if (folder === undefined) return undefined
    const ballast = join(folder, 'ballast')
    let filling: ReturnType<typeof setInterval> | undefined
    const stop = () => clearInterval(filling)
    onTestFinished(stop)
    return {
      folder,
      fill() {
        const takeAll = () => {
          const { bavail, bsize } = statfsSync(folder)
          if (bavail > 0) appendFileSync(ballast, Buffer.alloc(bavail * bsize))
        }
        takeAll()
        expect(statfsSync(folder).bavail).toBe(0)
        // What the agent itself removes is room, too, until others take it.
        filling = setInterval(takeAll, REFILL_MS)
      },
      empty() {
        stop()
        rmSync(ballast)
      },
    }
  },
}

/** What a process may write at most into a file; the system refuses as it does on a full disk, with another code. */
const LIMIT: Fillable = {
  name: 'a process that may write nothing more',
  make() {
    const limit = (agent: AgentProcess, bytes: string) =>
      execFileSync('prlimit', ['--pid', String(agent.pid), `--fsize=${bytes}:`])
    return {
      folder: temporaryFolder(),
      fill: (agent) => limit(agent, '0'),
      empty: (agent) => limit(agent, 'unlimited'),
    }
  },
}

const disks = [SMALL_DISK, LIMIT].filter(({ name, make }) => {
  if (name === LIMIT.name) return true
  const probe = temporaryProbe()
  const isPossible = isRoot && succeeds('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', probe])
  if (isPossible) succeeds('umount', ['-l', probe])
  rmSync(probe, { recursive: true })
  if (!isPossible) process.stderr.write(`LEFT OUT: ${name}: it takes root who may mount\n`)
  return isPossible && make !== undefined
})

function temporaryProbe(): string {
  return execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim()
}

const nextSession = (server: ControlPlane): Promise<RobotSession> =>
  server.sessions.next(undefined, server.sessions.all.length)

function runAt(folder: string, args: readonly string[]): AgentProcess {
  const agent = new AgentProcess(['run', ...args], {
    BEACON_CONFIG: join(folder, 'agent.toml'),
    BEACON_AGENT_SOCKET: 'off',
  })
  onTestFinished(async () => {
    agent.kill('SIGKILL')
    await agent.exited
  })
  return agent
}

describe.each(disks)('on $name', ({ make }) => {
  test('an agent goes on in memory, says so once, and keeps all when there is room again', {
    timeout: 90_000,
  }, async () => {
    const server = await startControlPlane()
    const { folder, fill, empty } = make()!
    const first = nextSession(server)
    const agent = runAt(folder, ['--enrollment-key', KEY, '--server', server.url])
    let session = await first
    await session.heartbeats.first(2)
    fill(agent)
    const begun = agent.log.all.length

    // Whatever is to be written now: the count of sessions, three times, another name, the heartbeats that wait, a token.
    for (let turn = 0; turn < 3; turn++) {
      const again = nextSession(server)
      session.close(1012, 'service_restart; reconnect_in_ms=1')
      session = await again
      await session.heartbeats.first(1)
    }
    server.isAcknowledging = false
    session.send({ type: 'rotate_token', reason: 'operator' })
    await agent.says(/no new token, for it could not be kept: cannot write .*agent\.toml: /)
    await agent.says(/cannot keep what waits for the server in .*It waits in memory for now/)
    await session.heartbeats.first(session.heartbeats.all.length + 5)
    const lines = agent.log.all.slice(begun)
    expect(lines.filter((line) => line.includes('agent.toml.session'))).toHaveLength(1)
    expect(lines.filter((line) => line.includes('cannot keep what waits'))).toHaveLength(1)
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([])
    // An old number would make it look like a copy of itself.
    expect(readdirSync(folder)).not.toContain('agent.toml.session')
    expect(loadState(placesAt(join(folder, 'agent.toml'))).isFromCopy).toBe(false)

    empty(agent)
    session.send({ type: 'rotate_token', reason: 'operator' })
    await session.frames.next((frame) => frame.type === 'token_rotated')
    expect(loadState(placesAt(join(folder, 'agent.toml'))).state.identity?.nextToken).toMatch(/^rf_robot_/)
    const again = nextSession(server)
    session.close(1012, 'service_restart; reconnect_in_ms=1')
    session = await again
    await eventually(() => readdirSync(folder).includes('agent.toml.session'))
    const waiting = session.heartbeats.all.length
    await session.heartbeats.first(waiting + 1)
    // Killed, not stopped: what it kept in memory is on the disk by itself, within half a minute.
    if (make === disks[0]!.make) await agent.says(/can be written again/)
    agent.kill('SIGKILL')
    await agent.exited
    expect(readFileSync(join(folder, 'agent.toml.session'), 'utf8')).toMatch(/ 5\n$/)
  })

  test('an enrolment ends before the claim is sent, with the reason', async () => {
    const server = await startControlPlane()
    const { folder, fill } = make()!
    const running = runAt(folder, ['--enrollment-key', KEY, '--server', server.url])
    fill(running)
    expect(await running.exited).toBe(1)
    expect(running.logText).toMatch(/cannot write .*agent\.toml: (there is no room left on the disk|.*EFBIG)/)
    expect(server.claims.all).toEqual([])
    expect(readdirSync(folder).filter((name) => name.includes('agent.toml'))).toEqual([])
  })
})

describe('where it may not write', () => {
  test('a read-only folder: it says so and ends with 1, and nothing is sent', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const enrolling = robot.run(['--enrollment-key', KEY, '--server', server.url])
    await (await server.sessions.next()).heartbeats.first(1)
    expect(await enrolling.stop()).toBe(0)
    const before = readFileSync(robot.config, 'utf8')
    const agent = closed(robot.folder, () => robot.run(['--server', server.url]))
    expect(await agent.exited).toBe(1)
    expect(agent.logText).toMatch(
      /cannot make a local socket in .*: (its file system is read-only \(EROFS\)|this user may not)/,
    )
    expect(server.upgrades.all).toHaveLength(1)
    expect(readFileSync(robot.config, 'utf8')).toBe(before)
  })

  test('agent.toml of another user: it says whose it is, and does not go back to the copy', () => {
    const folder = temporaryFolder()
    const places = placesAt(join(folder, 'agent.toml'))
    saveState(places, { settings: {}, others: {}, identity: IDENTITY })
    saveState(places, { settings: {}, others: {}, identity: { ...IDENTITY, name: 'newer' } })
    const { code, err } = asSomebody(folder, () => chmodSync(places.config, 0), ['status'], places.config)
    expect(err).toMatch(/^error: cannot read .*agent\.toml: this user may not \(EACCES/m)
    if (isRoot) expect(err).toMatch(/it belongs to user 0, and this runs as user 65534/)
    expect(code).toBe(1)
  })

  test('a folder of another user: it says so and ends with 1', async () => {
    const folder = join(temporaryFolder(), 'theirs')
    mkdirSync(folder)
    const config = join(folder, 'agent.toml')
    const { code, err } = asSomebody(
      folder,
      () => {
        if (isRoot) chownSync(folder, 0, 0)
        chmodSync(folder, isRoot ? 0o755 : 0o555)
      },
      ['run', '--enrollment-key', KEY, '--server', 'http://127.0.0.1:1'],
      config,
    )
    expect(err).toMatch(/cannot make a local socket in .*theirs: this user may not \(EACCES/)
    expect(code).toBe(1)
  })
})

/** Starts an agent that finds its folder read-only: by a mount for root, by its mode for others. */
function closed(folder: string, start: () => AgentProcess): AgentProcess {
  if (isRoot && mounted(folder, ['--bind', folder])) {
    execFileSync('mount', ['-o', 'remount,bind,ro', folder])
    return start()
  }
  chmodSync(folder, 0o500)
  onTestFinished(() => chmodSync(folder, 0o700))
  return start()
}

const NOBODY = 65_534

/**
 * Runs the agent on a folder of its own in which `spoil` was done. As root it runs as a user who owns the folder, unless
 * `spoil` gives that away, and from a copy of the one file that robots get, for the checkout may be closed to that user.
 */
function asSomebody(folder: string, spoil: () => void, args: readonly string[], config: string) {
  const program = join(temporaryFolder(), 'beacon-agent.mjs')
  copyFileSync(join(import.meta.dirname, '../../../dist/install/beacon-agent.mjs'), program)
  for (const path of [dirname(program), dirname(config), dirname(folder)])
    if (path !== tmpdir()) chmodSync(path, 0o755)
  if (isRoot) chownSync(folder, NOBODY, NOBODY)
  spoil()
  const { status, stderr } = spawnSync(process.execPath, [program, ...args], {
    env: { PATH: process.env.PATH, BEACON_CONFIG: config, BEACON_AGENT_SOCKET: 'off', HOME: '/nonexistent' },
    encoding: 'utf8',
    timeout: 20_000,
    cwd: '/',
    ...(isRoot ? { uid: NOBODY, gid: NOBODY } : {}),
  })
  return { code: status, err: stderr }
}
