import { readdir, readFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type Bystanders, startBystanders } from './bystanders.ts'
import { type EnrollmentKey, mintToken } from './independent/operator.ts'
import { exchange, frameOf, opcodes, RawSocket, statusOf, upgradeRequest } from './independent/raw.ts'
import { enrol, type Machine, newMachine, Session } from './independent/robot.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const FRAME_LIMIT = 16 * 1024

let scene: Scene
let base: string
let key: EnrollmentKey
let bystanders: Bystanders

beforeAll(async () => {
  scene = await startScene()
  base = scene.servers[0]!.url
  key = await scene.operator.key(scene.site, scene.fleet, { max_uses: 1_000 })
  bystanders = await startBystanders(scene)
})
afterEach(() => bystanders.areWell())
afterAll(async () => {
  await bystanders?.stop()
  await scene?.end()
})

interface Rogue {
  readonly id: string
  readonly token: string
  readonly machine: Machine
}

async function enrolRogue(): Promise<Rogue> {
  const machine = newMachine()
  const { body } = await enrol(base, key.key_value, { machine })
  return { id: body.robot_id, token: body.robot_token!, machine }
}

async function greeted(rogue: Rogue): Promise<Session> {
  const session = await Session.open(base, rogue.token)
  session.hello(rogue.machine)
  await session.welcome()
  return session
}

/** A socket after a proper upgrade, for frames that no library would send. */
async function upgraded(rogue: Rogue): Promise<RawSocket> {
  const socket = await RawSocket.open(base)
  socket.write(upgradeRequest(rogue.token))
  expect(await socket.until(() => socket.text.includes('\r\n\r\n'), 5_000)).toBe('met')
  expect(statusOf(socket.text)).toBe(101)
  return socket
}

const hello = (machine: Machine, more = {}) =>
  JSON.stringify({ type: 'hello', protocol: 1, agent: {}, machine_id: machine.machine_id, ...more })

const seqsOf = async (id: string) => (await storedHeartbeats(scene.database.pool, id)).map((row) => row.seq)
const errorsOf = (session: Session) => session.frames.filter((frame) => frame.type === 'error')

/** The session still takes heartbeats, and keeps them, once. */
async function livesOn(session: Session, rogue: Rogue, seq: number): Promise<void> {
  session.heartbeat(seq)
  await session.acked(seq)
  expect((await seqsOf(rogue.id)).filter((stored) => stored === seq)).toEqual([seq])
  session.socket.terminate()
}

describe('upgrades', () => {
  test.each([
    ['without a subprotocol', { 'Sec-WebSocket-Protocol': null }, [400]],
    ['with a subprotocol of another version', { 'Sec-WebSocket-Protocol': 'beacon.v2' }, [400]],
    ['with a subprotocol that is none', { 'Sec-WebSocket-Protocol': ',,; beacon.v1' }, [400]],
    ['of another WebSocket version', { 'Sec-WebSocket-Version': '7' }, [400, 426]],
    ['without a key', { 'Sec-WebSocket-Key': null }, [400]],
    ['with a key that is none', { 'Sec-WebSocket-Key': 'short' }, [400]],
    ['to another protocol', { Upgrade: 'h2c' }, [400, 404, 426]],
    ['without Upgrade', { Upgrade: null, Connection: null }, [400, 426]],
  ])('%s are refused', async (_, headers, statuses) => {
    const { token } = await enrolRogue()
    const { status, text } = await exchange(base, upgradeRequest(token, headers))
    expect(statuses).toContain(status)
    expect(text).not.toContain(token)
  })

  test('from elsewhere than robots come need a token like all others', async () => {
    const rogue = await enrolRogue()
    for (const origin of ['http://evil.example', 'null', '', 'file://', 'x'.repeat(4_000)]) {
      expect((await exchange(base, upgradeRequest(null, { Origin: origin }))).status).toBe(401)
      expect([101, 403]).toContain(
        (await exchange(base, upgradeRequest(rogue.token, { Origin: origin }))).status,
      )
    }
  })

  test('at other addresses are 404, with queries no way in', async () => {
    const { token } = await enrolRogue()
    for (const path of ['/', '/agent/ws/', '/agent/ws/x', '/agent//ws', '/AGENT/WS', '/api/live'])
      expect((await exchange(base, upgradeRequest(token).replace('/agent/ws', path))).status, path).toBe(404)
    const query = upgradeRequest(null).replace('/agent/ws', `/agent/ws?token=${token}&access_token=${token}`)
    expect((await exchange(base, query)).status).toBe(401)
  })

  test('with a credential of any other form are 401, and it is not said back', async () => {
    const { token } = await enrolRogue()
    const odd = [
      mintToken('rf_robot_'),
      scene.adminToken,
      key.key_value,
      `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}`,
      token.toUpperCase(),
      `${token} ${token}`,
      `${token}\xc3\xa4`,
      'r\xffbot',
      'x'.repeat(8_000),
      '',
    ]
    for (const value of odd) {
      const { status, text } = await exchange(base, upgradeRequest(value))
      expect(status, value.slice(0, 30)).toBe(401)
      if (value.length > 20) expect(text).not.toContain(value)
    }
    for (const bytes of [`${token}\0`, `${token}\rX: 1`])
      expect([400, 401]).toContain((await exchange(base, upgradeRequest(bytes))).status)
    const split = await exchange(base, upgradeRequest(`nonsense\r\nX-Injected: 1`))
    expect(split.status).toBe(401)
    expect(split.text).not.toContain('X-Injected')
  })

  test('that bring their first frames along lose none of them', async () => {
    const rogue = await enrolRogue()
    const beat = JSON.stringify({ type: 'heartbeat', seq: 1, at: new Date().toISOString() })
    const socket = await RawSocket.open(base)
    socket.write(
      Buffer.concat([Buffer.from(upgradeRequest(rogue.token)), frameOf(hello(rogue.machine)), frameOf(beat)]),
    )
    expect(await socket.until(() => socket.text.includes('"type":"ack"'), 5_000)).toBe('met')
    socket.close()
    await eventually(async () => (await seqsOf(rogue.id)).length > 0)
    await bystanders.areWell()
    expect(await seqsOf(rogue.id)).toEqual([1])
  })
})

describe('frames', () => {
  test('binary ones get an error, and the session lives', async () => {
    const rogue = await enrolRogue()
    const session = await greeted(rogue)
    session.socket.send(Buffer.from([0, 1, 2, 255]))
    await session.frame((frame) => frame.type === 'error')
    await livesOn(session, rogue, 7)
  })

  test('one in many pieces, with a few pings between them, is one', async () => {
    const rogue = await enrolRogue()
    const socket = await upgraded(rogue)
    const text = hello(rogue.machine)
    const size = 2
    for (let at = 0; at < text.length; at += size) {
      const fin = at + size >= text.length
      const opcode = at === 0 ? opcodes.text : opcodes.more
      socket.write(frameOf(text.slice(at, at + size), { opcode, fin }))
      if (at % 20 === 0) socket.write(frameOf('', { opcode: opcodes.ping }))
    }
    expect(await socket.until(() => socket.text.includes('"type":"welcome"'), 5_000)).toBe('met')
    socket.close()
  })

  test('over 16 KiB get an error, and the session lives; at 16 KiB they are taken', async () => {
    const rogue = await enrolRogue()
    const session = await greeted(rogue)
    const padded = (seq: number, bytes: number) => {
      const frame = { type: 'heartbeat', seq, at: new Date().toISOString(), padding: '' }
      return JSON.stringify({ ...frame, padding: 'p'.repeat(bytes - JSON.stringify(frame).length) })
    }
    session.socket.send(padded(1, FRAME_LIMIT + 1))
    await session.frame((frame) => frame.type === 'error')
    session.socket.send(padded(2, 100_000))
    await eventually(() => errorsOf(session).length === 2)
    // Fewer characters than the limit, more bytes.
    session.send({ type: 'heartbeat', seq: 3, at: new Date().toISOString(), padding: 'ä'.repeat(9_000) })
    await eventually(() => errorsOf(session).length === 3)
    session.socket.send(padded(4, FRAME_LIMIT))
    await session.acked(4)
    expect(await seqsOf(rogue.id)).toEqual([4])
    session.socket.terminate()
  })

  test('beyond what the engine buffers end the connection, whole, announced or in pieces', async () => {
    const rogue = await enrolRogue()
    const session = await greeted(rogue)
    session.socket.send('x'.repeat(2 * 1024 * 1024))
    expect([1009, 1006]).toContain((await session.closed).code)

    const announced = await upgraded(rogue)
    announced.write(frameOf('x', { claimedLength: 2 ** 40 }))
    expect(await announced.until(() => false, 5_000)).toBe('closed')

    const pieces = await upgraded(rogue)
    pieces.write(frameOf('x', { fin: false }))
    for (let sent = 0; sent < 200 && !pieces.ended; sent += 1)
      pieces.write(frameOf('x'.repeat(10_000), { opcode: opcodes.more, fin: false }))
    expect(await pieces.until(() => false, 5_000)).toBe('closed')
  })

  test.each([
    ['text that is not UTF-8', frameOf(Buffer.from([0x7b, 0xff, 0xfe, 0x7d]))],
    ['a frame that is not masked', frameOf('{}', { masked: false })],
    ['reserved bits', frameOf('{}', { rsv: 0x70 })],
    ['compression that was not agreed on', frameOf('{}', { rsv: 0x40 })],
    ['an opcode that does not exist', frameOf('{}', { opcode: 0x3 })],
    ['a piece of nothing', frameOf('{}', { opcode: opcodes.more })],
    ['a ping in pieces', frameOf('x', { opcode: opcodes.ping, fin: false })],
    ['a ping that is too long', frameOf('x'.repeat(126), { opcode: opcodes.ping })],
    ['a close with half a code', frameOf('x', { opcode: opcodes.close })],
    ['a close with a code that nobody may send', frameOf(Buffer.from([3, 237]), { opcode: opcodes.close })],
  ])('%s ends that connection and no other', async (_, bytes) => {
    const rogue = await enrolRogue()
    const socket = await upgraded(rogue)
    socket.write(frameOf(hello(rogue.machine)))
    expect(await socket.until(() => socket.text.includes('"welcome"'), 5_000)).toBe('met')
    socket.write(bytes)
    expect(await socket.until(() => false, 5_000)).toBe('closed')
    await livesOn(await greeted(rogue), rogue, 1)
  })

  test('what is not a frame gets an error; ten of them close the session with a code that says come back', async () => {
    const rogue = await enrolRogue()
    const session = await greeted(rogue)
    for (const text of [
      '',
      '{',
      'null',
      '[]',
      '"hello"',
      '{"type":1}',
      '{"no":"type"}',
      'NaN',
      '{"type":null}',
    ])
      session.socket.send(text)
    await eventually(() => errorsOf(session).length === 9)
    session.send({ type: 'unheard_of', data: {} })
    session.send({ type: '__proto__' })
    session.send({ type: 'constructor' })
    session.heartbeat(1)
    await session.acked(1)
    session.socket.send('tenth')
    const { code, reason } = await session.closed
    expect(errorsOf(session)).toHaveLength(10)
    for (const { code, message } of errorsOf(session)) {
      expect(code).toMatch(/^[a-z_]+$/)
      expect(message).toEqual(expect.any(String))
    }
    expect(code).toBeGreaterThanOrEqual(4000)
    expect(code).toBeLessThanOrEqual(4499)
    expect(reason).not.toBe('')
    expect(await seqsOf(rogue.id)).toEqual([1])
  })

  test('numbers, times and names that no heartbeat can hold are refused one by one', async () => {
    const now = new Date().toISOString()
    const beats = [
      `{"type":"heartbeat","seq":1e999,"at":"${now}"}`,
      `{"type":"heartbeat","seq":9007199254740993,"at":"${now}"}`,
      `{"type":"heartbeat","seq":-1,"at":"${now}"}`,
      `{"type":"heartbeat","seq":1.5,"at":"${now}"}`,
      `{"type":"heartbeat","seq":"1","at":"${now}"}`,
      `{"type":"heartbeat","at":"${now}"}`,
      '{"type":"heartbeat","seq":1,"at":"0001-01-01T00:00:00Z"}',
      '{"type":"heartbeat","seq":1,"at":"9999999-01-01T00:00:00Z"}',
      '{"type":"heartbeat","seq":1,"at":"+275760-09-13T00:00:00Z"}',
      '{"type":"heartbeat","seq":1,"at":"yesterday"}',
      '{"type":"heartbeat","seq":1,"at":1700000000}',
      '{"type":"heartbeat","seq":1,"at":"2026-02-30T00:00:00Z"}',
      ...[
        '"battery":{"charge":1.01}',
        '"battery":{"charge":1e999}',
        '"battery":{"charge":"full"}',
        '"pose":{"lat":91,"lon":0}',
        '"pose":{"frame":"map","x":1e999,"y":0,"theta":0}',
        '"metrics":{"Upper":1}',
        '"metrics":{"a":"1"}',
        '"metrics":{"a":1e999}',
        `"metrics":{${Array.from({ length: 65 }, (_, index) => `"m${index}":1`).join(',')}}`,
        '"mode":"a\\u0000b"',
        '"mode":"\\ud800"',
        '"health":"splendid"',
        `"network":${'{"a":'.repeat(50)}1${'}'.repeat(50)}`,
        '"network":{"a":"\\u0000"}',
        '"network":{"a\\u0000":1}',
        '"faults":[{"code":"x","level":"loud","message":"","since":"2026-01-01T00:00:00Z"}]',
        '"system":{"cpu":-0.1}',
      ].map((field) => `{"type":"heartbeat","seq":1,"at":"${now}",${field}}`),
    ]
    const rogue = await enrolRogue()
    for (let at = 0; at < beats.length; at += 9) {
      const group = beats.slice(at, at + 9)
      const session = await greeted(rogue)
      for (const [index, beat] of group.entries()) {
        session.socket.send(beat)
        await eventually(() => errorsOf(session).length === index + 1, beat)
      }
      expect(session.ended).toBeNull()
      session.socket.terminate()
    }
    expect(await seqsOf(rogue.id)).toEqual([])
    expect(await scene.operator.robot(rogue.id)).toMatchObject({ heartbeat: null, health: 'unknown' })
  })

  test('the ends of what a heartbeat can hold are kept as they came', async () => {
    const rogue = await enrolRogue()
    const session = await greeted(rogue)
    const metrics = { least: -1.7976931348623157e308, tiny: 5e-324, most: 1.7976931348623157e308, zero: -0 }
    session.heartbeat(0, { at: '1970-01-01T00:00:00Z' })
    session.heartbeat(1, { at: '9999-12-31T23:59:59.999Z', battery: { charge: 1 } })
    session.heartbeat(Number.MAX_SAFE_INTEGER, {
      metrics,
      network: JSON.parse('{"__proto__":{"a":1},"b":2}'),
    })
    await session.acked(Number.MAX_SAFE_INTEGER)
    expect(await seqsOf(rogue.id)).toEqual([0, 1, Number.MAX_SAFE_INTEGER])
    const { heartbeat } = await scene.operator.robot(rogue.id)
    expect(heartbeat).toMatchObject({ metrics: { ...metrics, zero: 0 }, network: { b: 2 } })
    expect((await scene.operator.call('GET', '/metrics/robots')).status).toBe(200)
    const all = await scene.operator.call(
      'GET',
      `/api/robots/${rogue.id}/heartbeats?from=1970-01-01T00:00:00Z&to=9999-12-31T23:59:59.999Z`,
    )
    expect(all.status).toBe(200)
    const steps = await scene.operator.call(
      'GET',
      `/api/robots/${rogue.id}/heartbeats?from=${new Date(Date.now() - 60_000).toISOString()}&step=1m`,
    )
    expect(steps.status).toBe(200)
    session.socket.terminate()
  })
})

describe('the order of things', () => {
  test('a heartbeat before the hello is not taken, and the hello still is', async () => {
    const rogue = await enrolRogue()
    const session = await Session.open(base, rogue.token)
    session.heartbeat(1)
    await session.frame((frame) => frame.type === 'error')
    session.hello(rogue.machine)
    await session.welcome()
    await livesOn(session, rogue, 2)
    expect(await seqsOf(rogue.id)).toEqual([2])
  })

  test('a second hello is an error, and the session stays the same', async () => {
    const rogue = await enrolRogue()
    const session = await greeted(rogue)
    session.hello(newMachine())
    await session.frame((frame) => frame.type === 'error')
    await livesOn(session, rogue, 1)
    expect(session.frames.filter((frame) => frame.type === 'welcome')).toHaveLength(1)
  })

  test('another protocol is refused for good', async () => {
    const rogue = await enrolRogue()
    const session = await Session.open(base, rogue.token)
    session.hello(rogue.machine, { protocol: 2 })
    expect((await session.closed).code).toBe(4503)
  })

  test('after bye nothing is taken', async () => {
    const rogue = await enrolRogue()
    const socket = await upgraded(rogue)
    const beat = (seq: number) =>
      frameOf(JSON.stringify({ type: 'heartbeat', seq, at: new Date().toISOString() }))
    socket.write(
      Buffer.concat([
        frameOf(hello(rogue.machine)),
        beat(1),
        frameOf('{"type":"bye","reason":"done"}'),
        beat(2),
        beat(3),
      ]),
    )
    await eventually(async () => (await scene.operator.robot(rogue.id)).connection === 'offline')
    await eventually(() => socket.text.includes('\u0003\u00e8bye'), 'the close frame')
    socket.close()
    await eventually(async () => (await seqsOf(rogue.id)).length > 0)
    await bystanders.areWell()
    expect(await seqsOf(rogue.id)).toEqual([1])
  })

  test('of 200 sockets of one robot the newest wins', async () => {
    const rogue = await enrolRogue()
    const sessions = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const session = await Session.open(base, rogue.token)
        session.hello(rogue.machine)
        return session
      }),
    )
    await eventually(() => sessions.filter((session) => session.ended === null).length === 1)
    const [winner] = sessions.filter((session) => session.ended === null)
    const { session_no } = await winner!.welcome()
    const numbers = sessions
      .flatMap((session) => session.frames.filter((frame) => frame.type === 'welcome'))
      .map((frame) => Number(frame.session_no))
      .sort((one, other) => one - other)
    expect(new Set(numbers).size).toBe(numbers.length)
    expect(numbers.at(-1)).toBe(session_no)
    for (const session of sessions) if (session !== winner) expect((await session.closed).code).toBe(4510)
    expect(await scene.operator.robot(rogue.id)).toMatchObject({ connection: 'online', session_no })
    await livesOn(winner!, rogue, 1)
    // One after the other, too.
    const last = await greeted(rogue)
    expect(Number((await last.welcome()).session_no)).toBeGreaterThan(Number(session_no))
    last.socket.terminate()
  })
})

describe('floods', () => {
  const residentMiB = async () => {
    const status = await readFile(`/proc/${scene.servers[0]!.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
  }

  test.each([
    ['unknown frames', () => frameOf('{"type":"noise"}')],
    ['heartbeats', () => frameOf(`{"type":"heartbeat","seq":1,"at":"${new Date().toISOString()}"}`)],
    ['pings', () => frameOf('x'.repeat(125), { opcode: opcodes.ping })],
    ['empty pieces', () => frameOf('', { opcode: opcodes.more, fin: false })],
  ])('of %s hold nobody else up, and cost the server little', async (what, make) => {
    const rogue = await enrolRogue()
    const socket = await upgraded(rogue)
    socket.write(frameOf(hello(rogue.machine)))
    expect(await socket.until(() => socket.text.includes('"welcome"'), 5_000)).toBe('met')
    if (what === 'empty pieces') socket.write(frameOf('', { fin: false }))
    const before = await residentMiB()
    // It sends all that the connection takes, and reads nothing of what comes back.
    socket.socket.pause()
    const many = Buffer.concat(Array.from({ length: 2_000 }, make))
    for (let round = 0; round < 20; round += 1) {
      for (let sent = 0; sent < 5 && socket.socket.writableLength < 1024 * 1024; sent += 1) socket.write(many)
      await bystanders.areWell()
    }
    expect((await residentMiB()) - before).toBeLessThan(150)
    socket.close()
    // Come to its senses, it is let in at once: nobody waits for the end of what it has sent.
    await livesOn(await greeted(rogue), rogue, 2)
  })
})

describe('what is left', () => {
  const gauges = async () => {
    const { text } = await scene.operator.call('GET', '/metrics')
    const value = (name: string) =>
      text
        .split('\n')
        .filter((line) => line.startsWith(name))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    return {
      sessions: value('beacon_sessions '),
      paused: value('beacon_sessions_paused'),
      waiting: value('beacon_queue_depth'),
    }
  }
  const descriptors = async () => (await readdir(`/proc/${scene.servers[0]!.pid}/fd`)).length

  test('of sockets that give up at every step: nothing', async () => {
    const before = await descriptors()
    const rogues = [await enrolRogue(), await enrolRogue()]
    await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const rogue = rogues[index % 2]!
        const socket = await RawSocket.open(base)
        const upgrade = Buffer.from(upgradeRequest(rogue.token))
        const said = Buffer.concat([upgrade, frameOf(hello(rogue.machine)), frameOf('{"type":"bye"}')])
        // Cut in the middle of the request, of the hello, after it, after the bye; at once or in order.
        socket.socket.write(said.subarray(0, (said.length * (index % 10)) / 9))
        if (index % 3 === 0) socket.socket.resetAndDestroy()
        else if (index % 3 === 1) socket.socket.end()
        else await socket.until(() => socket.received.length > 0, 50)
        socket.close()
      }),
    )
    const { robots } = bystanders
    await eventually(async () => {
      const { sessions, paused, waiting } = await gauges()
      return sessions === robots.length && paused === 0 && waiting === 0
    }, 'the end of all other sessions')
    await eventually(async () => (await descriptors()) <= before + 5, 'the end of all other sockets')
    for (const rogue of rogues) await (await greeted(rogue)).socket.terminate()
  })
})
