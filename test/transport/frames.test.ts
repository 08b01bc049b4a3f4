import { afterEach, describe, expect, it } from 'vitest'
import type { CloseCause } from '../../src/protocol/close-codes.ts'
import { BREACH, MAX_MESSAGE_BYTES } from '../../src/transport/transport.ts'
import { eventually } from '../support/eventually.ts'
import { frameOf, OPCODE, RawPeer } from '../support/raw-peer.ts'
import { ALL } from './real-engines.ts'
import { Recorder } from './recorder.ts'

describe.each(ALL)('$name, byte by byte', (engine) => {
  let stop: (() => Promise<void>) | undefined
  const peers: RawPeer[] = []
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.socket.destroy()
    await stop?.()
    stop = undefined
  })

  async function open() {
    const recorder = new Recorder()
    const { port, stop: stopListening } = await engine.listen({
      admit: async () => ({ kind: 'accept', open: (socket) => recorder.opened(socket) }),
    })
    stop = stopListening
    const peer = new RawPeer(port)
    peers.push(peer)
    const head = await peer.upgrade(['Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits'])
    await eventually(() => recorder.socket)
    return { peer, recorder, head, socket: recorder.socket }
  }

  /** What a robot gets for breaking the protocol: a close frame, or, as uWebSockets does, an end without a word. */
  async function expectBreach(bytes: readonly Buffer[], code: number, reason: string) {
    const { peer, recorder } = await open()
    for (const part of bytes) peer.write(part)
    const frame = await peer.closeFrame()
    if (frame !== undefined || !engine.holdsInMemory) expect(frame?.code).toBe(code)
    await recorder.until(() => recorder.ends.length > 0)
    expect(recorder.ends).toEqual([{ code, reason }])
    expect(recorder.texts).toEqual([])
    return frame
  }

  it('agrees to the subprotocol and to no extension', async () => {
    const { head } = await open()
    expect(head).toMatch(/^HTTP\/1\.1 101 /)
    expect(head.toLowerCase()).toContain('\r\nsec-websocket-protocol: beacon.v1\r\n')
    expect(head).toContain('s3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
    expect(head.toLowerCase()).not.toContain('sec-websocket-extensions')
  })

  it('takes frames however TCP cuts them', async () => {
    const { peer, recorder } = await open()
    const bytes = Buffer.concat([
      frameOf(OPCODE.text, 'short'),
      frameOf(OPCODE.text, `medium ${'x'.repeat(500)}`),
      frameOf(OPCODE.text, `long ${'ü'.repeat(40_000)}`),
      frameOf(OPCODE.text, ''),
    ])
    peer.socket.setNoDelay(true)
    for (let at = 0; at < 700; at += 7) {
      peer.write(bytes.subarray(at, at + 7))
      await new Promise((resolve) => setImmediate(resolve))
    }
    peer.write(bytes.subarray(700))
    await recorder.until(() => recorder.texts.length === 4)
    expect(recorder.texts.map((text) => text.length)).toEqual([5, 507, 40_005, 0])
  })

  it('puts fragments together, with control frames between them', async () => {
    const { peer, recorder } = await open()
    const [half, rest] = [Buffer.from('{"ü":1}').subarray(0, 3), Buffer.from('{"ü":1}').subarray(3)]
    peer.write(frameOf(OPCODE.text, half, { final: false }))
    peer.write(frameOf(OPCODE.ping, 'are you there'))
    peer.write(frameOf(OPCODE.continuation, '', { final: false }))
    peer.write(frameOf(OPCODE.continuation, rest))
    expect(await peer.frame()).toEqual({ opcode: OPCODE.pong, payload: Buffer.from('are you there') })
    await recorder.until(() => recorder.texts.length === 1)
    expect(recorder.texts).toEqual(['{"ü":1}'])
  })

  it('keeps a byte order mark, and says nothing of pongs', async () => {
    const { peer, recorder } = await open()
    peer.write(frameOf(OPCODE.pong, 'unasked'))
    peer.write(frameOf(OPCODE.text, '\ufeffmarked'))
    peer.write(frameOf(OPCODE.binary, new Uint8Array([0xff, 0xfe])))
    await recorder.until(() => recorder.binaries === 1)
    expect(recorder.texts).toEqual(['\ufeffmarked'])
  })

  it('takes a message as large as may be', async () => {
    const { peer, recorder } = await open()
    peer.write(frameOf(OPCODE.text, 'x'.repeat(MAX_MESSAGE_BYTES)))
    await recorder.until(() => recorder.texts.length === 1)
    expect(recorder.texts[0]).toHaveLength(MAX_MESSAGE_BYTES)
  })

  it('closes with 1009 for a message that is larger', async () => {
    const frame = await expectBreach(
      [frameOf(OPCODE.text, 'x'.repeat(MAX_MESSAGE_BYTES + 1))],
      1009,
      'message_too_big',
    )
    expect(frame?.code).toBe(1009)
  })

  it('closes with 1009 for fragments that are larger together', async () => {
    const part = 'x'.repeat(MAX_MESSAGE_BYTES / 2 + 1)
    const frame = await expectBreach(
      [frameOf(OPCODE.text, part, { final: false }), frameOf(OPCODE.continuation, part)],
      1009,
      'message_too_big',
    )
    expect(frame?.code).toBe(1009)
  })

  it('ends it for a message that only claims to be enormous', async () => {
    await expectBreach([frameOf(OPCODE.text, 'x', { length: 2 ** 31 - 1 })], 1009, 'message_too_big')
  })

  it('ends it for text that is not UTF-8', async () => {
    await expectBreach([frameOf(OPCODE.text, new Uint8Array([0x61, 0xc3, 0x28]))], 1007, 'invalid_utf8')
  })

  it('ends it for text whose fragments are not UTF-8 together', async () => {
    await expectBreach(
      [
        frameOf(OPCODE.text, new Uint8Array([0x61, 0xe2, 0x82]), { final: false }),
        frameOf(OPCODE.continuation, new Uint8Array([0x61])),
      ],
      1007,
      'invalid_utf8',
    )
  })

  it.each<[string, Buffer[]]>([
    ['reserved bits', [frameOf(OPCODE.text, 'x', { reserved: 0x20 })]],
    ['compression that nobody agreed to', [frameOf(OPCODE.text, 'x', { reserved: 0x40 })]],
    ['an opcode that means nothing', [frameOf(0x3, 'x')]],
    ['a fragmented ping', [frameOf(OPCODE.ping, 'x', { final: false })]],
    ['a ping that is too long', [frameOf(OPCODE.ping, 'x'.repeat(126))]],
    ['a continuation of nothing', [frameOf(OPCODE.continuation, 'x')]],
    [
      'a message within another',
      [frameOf(OPCODE.text, 'x', { final: false }), frameOf(OPCODE.text, 'y', { final: false })],
    ],
  ])('ends it for %s', async (_what, bytes) => {
    await expectBreach(bytes, 1002, 'protocol_error')
  })

  it('answers a close frame with the same, and tells what it said', async () => {
    const { peer, recorder } = await open()
    peer.write(frameOf(OPCODE.close, Buffer.concat([Buffer.from([0x10, 0x1b]), Buffer.from('tschüs')])))
    expect(await peer.closeFrame()).toEqual({ code: 4123, reason: 'tschüs' })
    await peer.ended
    await recorder.until(() => recorder.ends.length === 1)
    expect(recorder.ends).toEqual([{ code: 4123, reason: 'tschüs' }])
  })

  it('tells 1005 for a close frame without a code, and 1006 for an end without one', async () => {
    const first = await open()
    first.peer.write(frameOf(OPCODE.close))
    await first.recorder.until(() => first.recorder.ends.length === 1)
    expect(first.recorder.ends).toEqual([{ code: 1005, reason: '' }])
    await stop?.()
    const second = await open()
    second.peer.socket.end()
    await second.recorder.until(() => second.recorder.ends.length === 1)
    expect(second.recorder.ends).toEqual([{ code: 1006, reason: '' }])
  })

  const closing = (code: number, reason: string | Uint8Array = '') =>
    frameOf(
      OPCODE.close,
      Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason as string)]),
    )

  it.each([999, 1005, 1006, 1015, 2999, 5000])(
    'tells of a close frame with %i as of a breach',
    async (code) => {
      await expectEnd(closing(code), BREACH.protocol)
    },
  )

  it('tells of a close frame whose reason is no UTF-8 as of a breach', async () => {
    const told = engine.holdsInMemory ? BREACH.protocol : BREACH.invalidText
    await expectEnd(closing(1000, new Uint8Array([0xff])), told)
  })

  it('tells of a close frame that ends within its code', async () => {
    const told = engine.holdsInMemory ? { code: 1005, reason: '' } : BREACH.protocol
    await expectEnd(frameOf(OPCODE.close, new Uint8Array([3])), told)
  })

  it.each([1012, 3000, 3999])('takes a close frame with %i, or with uws for a breach', async (code) => {
    const told = engine.holdsInMemory ? BREACH.protocol : { code, reason: '' }
    await expectEnd(closing(code), told)
  })

  /** A close frame is answered with the code that is told of; a breach with uws by an empty one. */
  async function expectEnd(frame: Buffer, told: CloseCause) {
    const { peer, recorder } = await open()
    peer.write(frame)
    const { opcode, payload } = await peer.frame()
    expect(opcode).toBe(OPCODE.close)
    if (engine.holdsInMemory) expect(payload).toHaveLength(0)
    else expect(payload.readUInt16BE(0)).toBe(told.code)
    await recorder.until(() => recorder.ends.length === 1)
    expect(recorder.ends).toEqual([told])
  }

  it('lets nothing unmasked pass for what it says', async () => {
    const { peer, recorder } = await open()
    peer.write(frameOf(OPCODE.text, '{"type":"hello"}', { masked: false }))
    if (engine.holdsInMemory) {
      // It takes the first bytes for the mask, and waits for as many more.
      peer.write(frameOf(OPCODE.text, '{"type":"bye"}', { masked: false }))
    }
    await recorder.until(() => recorder.ends.length === 1)
    expect(recorder.texts).toEqual([])
    expect([BREACH.protocol, BREACH.invalidText]).toContainEqual(recorder.ends[0])
  })

  it('ends it for fragments without end', async () => {
    const part = 'x'.repeat(1_000)
    const more = frameOf(OPCODE.continuation, part, { final: false })
    await expectBreach(
      [
        frameOf(OPCODE.text, part, { final: false }),
        Buffer.concat(Array.from({ length: 1_100 }, () => more)),
      ],
      1009,
      'message_too_big',
    )
  })

  it('sends long and short frames whole, and says how much waits', async () => {
    const { peer, socket } = await open()
    const texts = ['short', 'm'.repeat(200), `${'l'.repeat(70_000)}ü`, 'ü', '']
    for (const text of texts) socket.send(text)
    for (const text of texts)
      expect(await peer.frame()).toEqual({ opcode: OPCODE.text, payload: Buffer.from(text) })
    await eventually(() => socket.bufferedBytes() === 0)
  })
})
