import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { RobotEventFrame } from '../../../src/protocol/frames.ts'
import { eventually } from '../../support/eventually.ts'
import { type AgentProcess, KEY, TestRobot } from '../support/agent-process.ts'
import { ControlPlane, startControlPlane } from '../support/control-plane.ts'

const mount = (...args: string[]) => spawnSync('mount', args, { stdio: 'ignore' }).status === 0

interface Disk {
  fill(agent: AgentProcess): void
  empty(agent: AgentProcess): void
}

/** A small disk of its own for whoever may mount one; else the agent's process may write no more, which the system refuses alike. */
function smallDisk(folder: string): Disk {
  if (process.getuid?.() === 0 && mount('-t', 'tmpfs', '-o', 'size=512k', 'none', folder)) {
    onTestFinished(() => void spawnSync('umount', ['-l', folder]))
    const ballast = join(folder, 'ballast')
    return {
      fill() {
        const { bavail, bsize } = statfsSync(folder)
        writeFileSync(ballast, Buffer.alloc(bavail * bsize))
        expect(statfsSync(folder).bavail).toBe(0)
      },
      empty: () => rmSync(ballast),
    }
  }
  const limit = (agent: AgentProcess, bytes: string) =>
    void execFileSync('prlimit', ['--pid', String(agent.pid), `--fsize=${bytes}:`])
  return { fill: (agent) => limit(agent, '0'), empty: (agent) => limit(agent, 'unlimited') }
}

class RobotOnSmallDisk extends TestRobot {
  readonly place = join(this.folder, 'disk')
  override readonly config = join(this.place, 'agent.toml')

  /** The numbers of what waits on the disk. */
  waits(): string[] {
    try {
      return readdirSync(`${this.config}.spool`)
    } catch {
      return []
    }
  }
}

test('a disk that is full while the server is away costs the oldest that do not fit into memory, and the server is told how many', {
  timeout: 90_000,
}, async () => {
  const robot = new RobotOnSmallDisk()
  mkdirSync(robot.place)
  const disk = smallDisk(robot.place)
  const server = await startControlPlane()
  const environment = { BEACON_CONFIG: robot.config, BEACON_SPOOL_MB: '0.1' }
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url], environment)
  const session = await server.sessions.next()
  await session.heartbeats.first(1)
  for (let number = 0; number < 20; number++) {
    const { code } = await robot.command(...['fault', 'raise', 'x'.repeat(400), '--code', `filler_${number}`])
    expect(code).toBe(0)
  }
  const { port } = server
  await server.stop()
  const before = session.heartbeats.all.at(-1)!.seq
  await eventually(() => robot.waits().length > 0, 'heartbeats on the disk')
  disk.fill(agent)
  await agent.says(/cannot keep what waits for the server/)
  await agent.says(/heartbeats are lost so far/)
  const offline = await robot.status()
  expect(offline!.link).toMatchObject({ dropped_unreported: offline!.link!.dropped })

  const again = new ControlPlane()
  again.onEvent = (event, to) => to.send({ type: 'event_ack', ids: [event.id] })
  await again.listen(port)
  try {
    const next = await again.sessions.next()
    const event = (await next.frames.next(({ type }) => type === 'event')) as unknown as RobotEventFrame
    await eventually(async () => {
      const { link } = (await robot.status())!
      return link!.backlog === 0 && link!.dropped_unreported === 0
    }, 'all to have arrived')
    // One process counts without a gap: what is missing is lost.
    const seqs = next.heartbeats.all.map(({ seq }) => seq)
    expect(new Set(seqs).size).toBe(seqs.length)
    const [oldest, newest] = [Math.min(...seqs), Math.max(...seqs)]
    const missing = newest - before - seqs.filter((seq) => seq > before).length
    expect(event).toMatchObject({ code: 'agent.heartbeats_dropped', level: 'warn' })
    expect(event.data!.dropped).toBe(missing)
    expect(Date.parse(event.data!.from as string)).toBeLessThan(Date.parse(event.data!.to as string))
    expect(oldest).toBeGreaterThan(before)
    expect(next.frames.all.filter(({ type }) => type === 'event')).toHaveLength(1)
    disk.empty(agent)
    await agent.says(/can be written again/)
    expect(await agent.stop()).toBe(0)
  } finally {
    await again.stop()
  }
})
