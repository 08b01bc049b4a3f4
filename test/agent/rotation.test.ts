import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hashToken } from '../../src/protocol/tokens.ts'
import { type AgentProcess, KEY, TestRobot } from './support/agent-process.ts'
import {
  type ControlPlane,
  hashOfBearer,
  problem,
  type RobotSession,
  startControlPlane,
} from './support/control-plane.ts'

const hashOf = (token: string) => hashToken(token).toString('hex')

/** A control plane that keeps a robot's tokens as the real one does, in as far as a robot can tell. */
class TokenBook {
  current = ''
  next: string | undefined
  /** Set: what robots say of new tokens is lost on the way. */
  isDeafForTokens = false
  /** Set: what they are told of them is. */
  isMuteForTokens = false

  attach(plane: ControlPlane): void {
    plane.onHello = (session) => {
      const hash = hashOfBearer(plane.upgrades.all.at(-1)?.authorization)
      if (hash === this.next) {
        this.current = hash
        this.next = undefined
      }
      if (hash === this.current) session.welcome()
      else session.close(4501, 'token_revoked')
      void this.#listen(session)
    }
  }

  async #listen(session: RobotSession): Promise<void> {
    const frame = await session.frames.next(({ type }) => type === 'token_rotated')
    if (this.isDeafForTokens) return
    this.next = String(frame.token_hash)
    if (!this.isMuteForTokens) session.send({ type: 'token_rotation_ack', token_hash: this.next })
  }
}

interface Running {
  readonly server: ControlPlane
  readonly book: TokenBook
  readonly robot: TestRobot
  readonly agent: AgentProcess
  readonly session: RobotSession
  readonly flags: readonly string[]
}

async function connected(): Promise<Running> {
  const server = await startControlPlane()
  const book = new TokenBook()
  book.attach(server)
  const robot = new TestRobot()
  const flags = ['--enrollment-key', KEY, '--server', server.url]
  const claimed = server.claims.next().then((claim) => {
    book.current = claim.body.token_hash
  })
  const agent = robot.run(flags)
  await claimed
  const session = await server.sessions.next()
  await session.heartbeats.first(1)
  return { server, book, robot, agent, session, flags }
}

const nthSession = async (server: ControlPlane, number: number) =>
  (await server.sessions.first(number))[number - 1]!

describe('asked for a new token', () => {
  test('the agent makes one, writes it down, tells its hash, and comes back with it at once', async () => {
    const { server, book, robot, agent, session } = await connected()
    const before = robot.state().identity!
    session.send({ type: 'rotate_token', reason: 'operator' })
    const named = await session.frames.next(({ type }) => type === 'token_rotated')
    expect(Object.keys(named).sort()).toEqual(['token_hash', 'type'])

    expect(await session.closed).toMatchObject({ code: 1000 })
    const closedAt = performance.now()
    const second = await nthSession(server, 2)
    expect(second.openedAt - closedAt).toBeLessThan(1_000)
    await agent.says(/the one before is void/)
    const after = robot.state().identity!
    expect(hashOf(after.robotToken)).toBe(named.token_hash)
    expect(after.robotToken).not.toBe(before.robotToken)
    expect(after.nextToken).toBeUndefined()
    expect(Date.parse(after.tokenMadeAt!)).toBeGreaterThanOrEqual(Date.parse(before.tokenMadeAt!))
    expect(book.current).toBe(named.token_hash)
    // No goodbye: it would make the robot offline.
    expect(session.frames.all.map(({ type }) => type)).not.toContain('bye')
  })

  test('no heartbeat is lost over it, and none is sent twice without need', async () => {
    const { server, session } = await connected()
    await session.heartbeats.first(3)
    session.send({ type: 'rotate_token', reason: 'age' })
    const second = await nthSession(server, 2)
    await second.heartbeats.first(3)
    const seqs = [...session.heartbeats.all, ...second.heartbeats.all].map(({ seq }) => seq)
    const unique = [...new Set(seqs)].sort((one, other) => one - other)
    expect(unique).toEqual(unique.map((_, index) => unique[0]! + index))
    expect(seqs.length - unique.length).toBeLessThanOrEqual(1)
  })

  test('twice in one session, it names the same token', async () => {
    const { book, session } = await connected()
    book.isDeafForTokens = true
    session.send({ type: 'rotate_token', reason: 'operator' })
    session.send({ type: 'rotate_token', reason: 'operator' })
    const named = () => session.frames.all.filter(({ type }) => type === 'token_rotated')
    await session.frames.next(() => named().length === 2)
    expect(new Set(named().map((frame) => frame.token_hash)).size).toBe(1)
  })

  test('and the confirmation of a token that is not its own changes nothing', async () => {
    const { server, session } = await connected()
    session.send({ type: 'token_rotation_ack', token_hash: 'ab'.repeat(32) })
    await session.heartbeats.first(session.heartbeats.all.length + 3)
    expect(server.sessions.all).toHaveLength(1)
  })

  test('it tells in its status when its token was made', async () => {
    const { robot } = await connected()
    const status = await robot.status()
    expect(Date.parse(status!.token_made_at!)).toBeGreaterThan(Date.now() - 60_000)
  })
})

describe('killed in the middle, it connects again', () => {
  async function again({ robot, agent, flags, server }: Running): Promise<RobotSession> {
    agent.kill('SIGKILL')
    await agent.exited
    const count = server.sessions.all.length
    const next = robot.run(flags)
    await next.says(/connected as/)
    const session = server.sessions.all.at(-1)!
    expect(server.sessions.all.length).toBeGreaterThan(count)
    await session.heartbeats.first(1)
    expect(server.claims.all).toHaveLength(1)
    return session
  }

  test('before the server heard of the new token: with the old one, and the new one is given up', async () => {
    const running = await connected()
    const { book, session, robot } = running
    book.isDeafForTokens = true
    const old = book.current
    session.send({ type: 'rotate_token', reason: 'operator' })
    await session.frames.next(({ type }) => type === 'token_rotated')
    expect(robot.state().identity!.nextToken).toBeDefined()

    await again(running)
    expect(hashOf(robot.state().identity!.robotToken)).toBe(old)
    expect(robot.state().identity!.nextToken).toBeUndefined()
  })

  test('before it heard that the server has the new token: with the new one', async () => {
    const running = await connected()
    const { book, session, robot } = running
    book.isMuteForTokens = true
    session.send({ type: 'rotate_token', reason: 'operator' })
    const named = await session.frames.next(({ type }) => type === 'token_rotated')

    await again(running)
    expect(book.current).toBe(named.token_hash)
    expect(hashOf(robot.state().identity!.robotToken)).toBe(named.token_hash)
  })

  test('before it wrote down that the new token had opened a session: with the new one', async () => {
    const running = await connected()
    const { server, book, session, robot, agent } = running
    const welcome = server.onHello
    // The old one is void from here on, and the robot does not hear it.
    server.onHello = () => {
      if (book.next !== undefined) book.current = book.next
      book.next = undefined
    }
    session.send({ type: 'rotate_token', reason: 'operator' })
    const named = await session.frames.next(({ type }) => type === 'token_rotated')
    await (await nthSession(server, 2)).hello()
    agent.kill('SIGKILL')
    await agent.exited
    expect(hashOf(robot.state().identity!.nextToken!)).toBe(named.token_hash)
    server.onHello = welcome

    await again(running)
    expect(hashOf(robot.state().identity!.robotToken)).toBe(named.token_hash)
  })

  test('also when the file is gone, from its copy', async () => {
    const running = await connected()
    const { book, session, robot, agent } = running
    book.isMuteForTokens = true
    session.send({ type: 'rotate_token', reason: 'operator' })
    const named = await session.frames.next(({ type }) => type === 'token_rotated')
    agent.kill('SIGKILL')
    await agent.exited
    // The server has used the new token up by now; the file that is left was written before the robot knew.
    book.current = String(named.token_hash)
    book.next = undefined
    rmSync(robot.config)
    expect(existsSync(`${robot.config}.bak`)).toBe(true)

    await again(running)
    expect(hashOf(robot.state().identity!.robotToken)).toBe(named.token_hash)
  })
})

test('a token that cannot be kept is not made: the old one goes on', async () => {
  const { book, session, robot, agent } = await connected()
  // A folder in the place where the new file would be written first.
  const old = book.current
  mkdirSync(join(robot.folder, `agent.toml.${agent.pid}.tmp`, 'in the way'), { recursive: true })
  session.send({ type: 'rotate_token', reason: 'operator' })
  await agent.says(/no new token, for it could not be kept/)
  await session.heartbeats.first(session.heartbeats.all.length + 2)
  expect(session.frames.all.map(({ type }) => type)).not.toContain('token_rotated')
  expect(hashOf(robot.state().identity!.robotToken)).toBe(old)
})

test('when both are refused, both are kept', async () => {
  const { server, book, session, robot, agent } = await connected()
  book.isMuteForTokens = true
  session.send({ type: 'rotate_token', reason: 'operator' })
  await session.frames.next(({ type }) => type === 'token_rotated')
  const kept = robot.state().identity!
  server.onUpgrade = () => problem(401, 'invalid_token', 'nobody has this token')
  session.vanish()
  expect(await agent.exited).toBe(3)
  expect(robot.state().identity).toEqual(kept)
  const tried = server.upgrades.all.slice(1).map(({ authorization }) => hashOfBearer(authorization))
  expect(tried).toEqual([hashOf(kept.nextToken!), hashOf(kept.robotToken)])
})
