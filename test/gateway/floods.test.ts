import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { frameOf, OPCODE, RawPeer } from '../support/raw-peer.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'
import { LISTENING } from '../transport/real-engines.ts'
import { connect, startGateway, stopGateway } from './support.ts'

/** How far the clock of the gateway goes with each look: slowly enough for the database to keep up. */
const STEP_MS = 30
/** Where only the writer's waiting for company is to pass. */
const LINGER_STEP_MS = 1
/** Heartbeats that a robot may send at once, after its hello. */
const TAKEN = 2_000

let db: TestDatabase
let fleet: TestFleet
beforeAll(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
})
afterAll(() => db.drop())

async function start() {
  const clock = new ManualClock(Date.now())
  const running = await startGateway(db.database, clock)
  onTestFinished(() => stopGateway(running, clock))
  return { clock, running }
}

const storedSeqs = async (robotId: string) => {
  const rows = await db.database
    .selectFrom('heartbeats')
    .select('seq')
    .where('robot_id', '=', robotId)
    .orderBy('seq')
    .execute()
  return rows.map((row) => row.seq)
}

/** How its session ended, once that is on its timeline. */
function ending(robotId: string) {
  return eventually(() =>
    db.database
      .selectFrom('robot_events')
      .select('data')
      .where('robot_id', '=', robotId)
      .where('code', '=', 'disconnected')
      .executeTakeFirst(),
  )
}

interface Said {
  readonly type: string
  readonly seq?: number
  readonly ids?: readonly string[]
}

/** Everything that the server says until it closes, and how it closes. */
async function hearOut(peer: RawPeer) {
  const frames: Said[] = []
  for (;;) {
    const ended = peer.ended.then(() => new Promise<undefined>((resolve) => setImmediate(resolve, undefined)))
    const frame = await Promise.race([peer.frame(), ended])
    if (frame === undefined) return { frames, code: 1006, reason: '' }
    const { opcode, payload } = frame
    if (opcode === OPCODE.close)
      return { frames, code: payload.readUInt16BE(0), reason: payload.toString('utf8', 2) }
    frames.push(JSON.parse(payload.toString()) as Said)
  }
}

describe.each(LISTENING)('a robot that sends 10,000 heartbeats at once, on $name,', (engine) => {
  it('is sent away, with an acknowledgement of all that was stored', { timeout: 60_000 }, async () => {
    const { clock, running } = await start()
    const { port, stop } = await engine.listen({ clock, admit: (request) => running.gateway.admit(request) })
    onTestFinished(() => stop())
    const robot = await insertRobot(db.database, fleet)
    const peer = new RawPeer(port)
    onTestFinished(() => void peer.socket.destroy())
    await peer.upgrade([`Authorization: ${robot.authorization}`])
    peer.write(frameOf(OPCODE.text, '{"type":"hello","protocol":1,"agent":{"version":"test"}}'))
    expect(JSON.parse((await peer.frame()).payload.toString())).toMatchObject({ type: 'welcome' })

    const at = new Date(clock.now()).toISOString()
    const id = '00000000-0000-7000-8000-000000000001'
    const frames = Array.from({ length: 10_000 }, (_, index) =>
      frameOf(OPCODE.text, `{"type":"heartbeat","seq":${index + 1},"at":"${at}"}`),
    )
    const event = { type: 'event', id, at, level: 'info', code: 'flooding', message: 'here it comes' }
    peer.write(Buffer.concat([frameOf(OPCODE.text, JSON.stringify(event)), ...frames]))
    const heard = hearOut(peer)
    let isOver = false
    void heard.then(() => {
      isOver = true
    })
    // TCP holds it back, until it has been held back for too long; what is held in memory is too much at once.
    await eventually(() => {
      clock.advance(engine.holdsInMemory ? LINGER_STEP_MS : STEP_MS)
      return isOver
    }, 'the end')

    const { frames: said, code, reason } = await heard
    expect({ code, reason }).toEqual({ code: 4004, reason: 'too_many_frames' })
    const stored = await storedSeqs(robot.id)
    expect(stored.length).toBeGreaterThanOrEqual(TAKEN - 1)
    expect(stored.length).toBeLessThan(10_000)
    expect(stored).toEqual(stored.map((_, index) => index + 1))
    const acknowledged = said.filter((frame) => frame.type === 'ack').map((frame) => frame.seq)
    expect(acknowledged.at(-1)).toBe(stored.length)
    expect(said).toContainEqual({ type: 'event_ack', ids: [id] })
    expect((await ending(robot.id)).data).toMatchObject({ close_code: 4004, closed_by: 'server' })
  })
})

describe('a robot that is sent away for what it sends', () => {
  it('does not wait for a database that does not answer', async () => {
    const { clock, running } = await start()
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    const held = await db.database.startTransaction().execute()
    await sql`LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE`.execute(held)
    for (let seq = 1; seq <= 2_100; seq += 1) link.beat(seq)
    expect(link.end.paused).toBe(true)
    link.end.handler!.overflowed()
    // Heard no more, and held back for good.
    link.end.handler!.text('{"type":"bye"}')
    clock.advance(2_900)
    expect(link.end.isOpen).toBe(true)
    expect(link.end.paused).toBe(true)
    link.end.handler!.overflowed()
    clock.advance(100)
    expect(await link.end.closed).toEqual({ code: 4004, reason: 'too_many_frames' })
    await held.rollback().execute()
    await eventually(async () => {
      clock.advance(5)
      return (await storedSeqs(robot.id)).length >= TAKEN
    })
  })

  it('may leave by itself before', async () => {
    const { clock, running } = await start()
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    for (let seq = 1; seq <= 2_100; seq += 1) link.beat(seq)
    link.end.handler!.overflowed()
    link.end.handler!.closed(1006, '')
    expect((await ending(robot.id)).data).toMatchObject({ close_code: 1006, closed_by: 'network' })
    await eventually(async () => (await storedSeqs(robot.id)).length >= TAKEN)
  })
})
