import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { KEY, TestRobot } from './support/agent-process.ts'
import { ControlPlane, startControlPlane } from './support/control-plane.ts'

/** The texts of the heartbeats that lie in a robot's spool. */
function spooled(robot: TestRobot): Map<number, string> {
  const folder = `${robot.config}.spool`
  const found = new Map<number, string>()
  for (const file of readdirSync(folder).sort())
    for (const line of readFileSync(join(folder, file), 'utf8').split('\n')) {
      const [, no, text] = /^\S+ e (\d+) (.*)$/.exec(line) ?? []
      if (no) found.set(Number(no), text!)
    }
  return found
}

test('what it measured while it was offline survives SIGKILL, and arrives as it was written, before anything is new', async () => {
  const server = await startControlPlane()
  const robot = new TestRobot()
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
  const session = await server.sessions.next()
  await session.heartbeats.first(3)
  const { port } = server
  await server.stop()
  await eventually(() => {
    try {
      return spooled(robot).size >= 20
    } catch {
      return false
    }
  }, 'twenty heartbeats on disk')
  agent.kill('SIGKILL')
  await agent.exited

  const waiting = spooled(robot)
  const again = await new ControlPlane().listen(port)
  try {
    const restarted = robot.run()
    await restarted.says(/\d+ heartbeats of before wait for the server/)
    const next = await again.sessions.next()
    const oldest = Math.min(...waiting.keys())
    expect(await next.hello()).toMatchObject({ resume_seq: oldest })
    await eventually(
      () => [...waiting.keys()].every((seq) => next.heartbeats.all.some((beat) => beat.seq === seq)),
      'all that waited',
    )
    for (const beat of next.heartbeats.all.filter(({ seq }) => waiting.has(seq)))
      expect(beat.at).toBe(JSON.parse(waiting.get(beat.seq)!).at)
    // None of those that were acknowledged before comes again.
    const acknowledged = session.heartbeats.all.map(({ seq }) => seq).filter((seq) => seq < oldest)
    expect(acknowledged.length).toBeGreaterThan(0)
    expect(next.heartbeats.all.some(({ seq }) => acknowledged.includes(seq))).toBe(false)
    // Once all is acknowledged, nothing is left on the disk.
    await eventually(() => readdirSync(`${robot.config}.spool`).length === 0, 'an empty spool')
    expect(await restarted.stop()).toBe(0)
  } finally {
    await again.stop()
  }
})
