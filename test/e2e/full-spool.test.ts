import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { askAgent } from '../../agent/local/client.ts'
import { systemClock } from '../../agent/runtime.ts'
import { encodeLine } from '../../agent/spool/lines.ts'
import { eventually } from '../support/eventually.ts'
import { type BackgroundCommand, beacon, startBeacon } from './beacon-command.ts'
import { type Scene, startScene } from './scene.ts'

let scene: Scene
let home: string
const agents: BackgroundCommand[] = []

beforeAll(async () => {
  scene = await startScene()
  home = await mkdtemp(join(tmpdir(), 'beacon-full-'))
})
afterAll(async () => {
  for (const agent of agents) await agent.kill()
  await rm(home, { recursive: true, force: true })
  await scene?.end()
})

let spoolMb = '0.1'
const env = () => ({ BEACON_CONFIG: join(home, 'agent.toml'), HOME: home, BEACON_SPOOL_MB: spoolMb })

function startAgent(...args: string[]): BackgroundCommand {
  const agent = startBeacon(['agent', 'run', ...args], env())
  agents.push(agent)
  return agent
}

/** The heartbeats that lie in the spool now: times by numbers. */
function spooled(): Map<number, number> {
  const found = new Map<number, number>()
  const folder = join(home, 'agent.toml.spool')
  try {
    for (const file of readdirSync(folder))
      for (const [, seq, at] of readFileSync(join(folder, file), 'utf8').matchAll(
        /^\S+ e (\d+) [^{]*\{.*?"at":"([^"]+)".*$/gm,
      ))
        found.set(Number(seq), Date.parse(at!))
  } catch {
    // A file that went while it was looked at: the next look has what there is.
  }
  return found
}

interface Status {
  readonly link: { readonly backlog: number; readonly dropped: number; readonly dropped_unreported: number }
}
async function status(): Promise<Status['link']> {
  const { stdout } = await beacon(['agent', 'status', '--json'], { env: env() })
  return (JSON.parse(stdout) as Status).link
}

interface TimelineEvent {
  readonly code: string
  readonly level: string
  readonly data: { readonly dropped: number; readonly from: string; readonly to: string }
}

test('a spool that overflows while the server is away, with the agent killed in it: what is left arrives once, what is lost is told once', {
  timeout: 180_000,
}, async () => {
  const { pool } = scene.database
  const key = await scene.operator.key(scene.site, scene.fleet)
  const { url, ports } = scene.servers[0]!
  let agent = startAgent('--enrollment-key', key.key_value, '--server', url)
  const { id } = await eventually(async () => {
    const robots = await scene.operator.list<{ id: string; heartbeat: unknown }>('/api/robots')
    return robots.find((robot) => robot.heartbeat)
  }, 'a robot that beats')
  // Large heartbeats fill the ring soon.
  for (let number = 0; number < 20; number++) {
    const raise = { code: `filler_${number}`, message: 'x'.repeat(400) }
    await askAgent(join(home, 'agent.toml.sock'), { fault: { raise } }, systemClock)
  }

  await scene.servers[0]!.kill9()
  const stored = async () => {
    const { rows } = await pool.query(
      'SELECT seq::float8 AS seq, at, received_at FROM heartbeats WHERE robot_id = $1 ORDER BY seq',
      [id],
    )
    return rows as { seq: number; at: Date; received_at: Date }[]
  }
  // One whose acknowledgement took long still stands in a file, and waits for nothing.
  const before = new Set((await stored()).map(({ seq }) => seq))
  const made = new Map<number, number>()
  const look = () => {
    for (const [seq, at] of spooled()) if (!before.has(seq)) made.set(seq, at)
    return made.size
  }
  await eventually(() => look() >= 4, 'heartbeats that wait')
  await agent.kill()
  look()
  agent = startAgent()
  // Until the first of the second process are lost, too.
  await eventually(() => {
    look()
    return !spooled().has([...made.keys()][5]!) && made.size > 8
  }, 'an overflow')
  const offline = await status()
  expect(offline.dropped).toBeGreaterThan(0)
  expect(offline.dropped_unreported).toBe(offline.dropped)
  const text = (await beacon(['agent', 'status'], { env: env() })).stdout
  expect(text).toMatch(/backlog: .* lost, of which the server is still to be told of \d+/)
  await agent.kill()
  look()

  await scene.addServer(ports)
  agent = startAgent()
  // What is made from now on goes beside the backlog, and may arrive before the end of it.
  // What is lost while a loss is being told is told a minute later.
  const isEmpty = () => readdirSync(join(home, 'agent.toml.spool')).length === 0
  let isOver = false
  for (let patience = 0; patience < 5 && !isOver; patience += 1)
    isOver = await eventually(isEmpty, 'an empty spool').catch(() => false)
  expect(isOver).toBe(true)
  expect(await status()).toMatchObject({ backlog: expect.any(Number), dropped_unreported: 0 })
  expect(await agent.stop()).toBe(0)

  const rows = await stored()
  expect(new Set(rows.map(({ seq }) => seq)).size).toBe(rows.length)
  const arrived = new Set(rows.map(({ seq }) => seq))
  const lost = [...made.keys()].filter((seq) => !arrived.has(seq)).sort((one, other) => one - other)
  const late = rows.filter(({ seq }) => made.has(seq))
  expect(lost.length).toBeGreaterThan(0)
  // The oldest are lost, and what is left keeps its own time and its order.
  expect(lost.at(-1)).toBeLessThan(late[0]!.seq)
  for (const { seq, at } of late) expect(at.getTime()).toBe(made.get(seq))
  const receipts = late.map(({ received_at }) => received_at.getTime())
  expect(receipts).toEqual([...receipts].sort((one, other) => one - other))

  const timeline = await scene.operator.list<TimelineEvent>(`/api/robots/${id}/events`)
  const told = timeline.filter(({ code }) => code === 'agent.heartbeats_dropped')
  expect(told.reduce((sum, { data }) => sum + data.dropped, 0)).toBe(lost.length)
  expect(told[0]!.level).toBe('warn')
  // The newest first.
  expect(Date.parse(told.at(-1)!.data.from)).toBe(made.get(lost[0]!))
  expect(Date.parse(told[0]!.data.to)).toBe(made.get(lost.at(-1)!))
})

/** Leaves so many heartbeats in the spool, as hours without a network do. Answers with their numbers, which are times. */
function leaveWaiting(id: string, count: number, until: number, stepMs: number): number[] {
  const seqs = Array.from({ length: count }, (_, index) => until - (count - index) * stepMs)
  const folder = join(home, 'agent.toml.spool')
  const lines = seqs.map((seq) => {
    const text = JSON.stringify({ type: 'heartbeat', seq, at: new Date(seq).toISOString(), health: 'ok' })
    return encodeLine(id, { kind: 'entry', no: seq, text })
  })
  mkdirSync(folder, { recursive: true })
  const name = `heartbeats-${crc32(id).toString(16).padStart(8, '0')}-0000009999.log`
  writeFileSync(join(folder, name), Buffer.concat(lines))
  return seqs
}

async function theRobot(): Promise<string> {
  const [robot] = await scene.operator.list<{ id: string }>('/api/robots')
  return robot!.id
}

test('a long backlog holds back no heartbeat that is made meanwhile', { timeout: 120_000 }, async () => {
  const { pool } = scene.database
  const id = await theRobot()
  const count = 250
  const late = new Set(leaveWaiting(id, count, Date.now() - 60_000, 10_000))
  const startedAt = Date.now()
  const agent = startAgent()
  const rows = await eventually(async () => {
    const found = await pool.query(
      `SELECT seq::float8 AS seq, at, received_at FROM heartbeats
        WHERE robot_id = $1 AND received_at >= $2 ORDER BY received_at, seq`,
      [id, new Date(startedAt)],
    )
    const all = found.rows as { seq: number; at: Date; received_at: Date }[]
    return all.filter(({ seq }) => late.has(seq)).length === count ? all : undefined
  }, 'the backlog')
  expect(await agent.stop()).toBe(0)
  const receipts = rows.filter(({ seq }) => late.has(seq)).map((row) => row.received_at.getTime())
  // 250 at 50 a second take five seconds, in which it beats twice a second.
  const meanwhile = rows.filter(
    ({ seq, at, received_at }) =>
      !late.has(seq) && at.getTime() > receipts[0]! && received_at.getTime() < receipts.at(-1)! - 500,
  )
  expect(meanwhile.length).toBeGreaterThanOrEqual(4)
  for (const { at, received_at } of meanwhile)
    expect(received_at.getTime() - at.getTime()).toBeLessThan(1_500)
})

test('an agent that is stopped in the middle of a backlog says what is left, and sends that at its next start, all of it once', {
  timeout: 120_000,
}, async () => {
  const { pool } = scene.database
  const id = await theRobot()
  const count = 300
  // Numbers only grow: above those of before, below those of the agent that starts now.
  const seqs = leaveWaiting(id, count, Date.now(), 1)
  const stored = async () => {
    const { rows } = await pool.query(
      'SELECT seq::float8 AS seq FROM heartbeats WHERE robot_id = $1 AND seq = ANY ($2::bigint[]) ORDER BY seq',
      [id, seqs],
    )
    return rows.map(({ seq }) => seq as number)
  }
  spoolMb = '16'
  const stopped = startAgent()
  await eventually(async () => (await stored()).length >= 30, 'some of the backlog')
  expect(await stopped.stop()).toBe(0)
  const [, left] = /stopped; (\d+) heartbeats were not acknowledged/.exec(stopped.output) ?? []
  expect(Number(left)).toBeGreaterThan(100)
  expect((await stored()).length).toBeLessThan(count)

  const agent = startAgent()
  await eventually(async () => (await stored()).length >= count, 'all of the backlog')
  expect(await status()).toMatchObject({ dropped: 0, dropped_unreported: 0 })
  expect(await agent.stop()).toBe(0)
  expect(await stored()).toEqual(seqs)
})
