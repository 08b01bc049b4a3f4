import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { beforeEach, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { FaultyNetwork } from './faulty-network.ts'

// What the tests over a faulty network rest on: that its faults are there.

let network: FaultyNetwork
let client: Socket
let server: Socket

beforeEach(async () => {
  const listener = createServer().listen(0, '127.0.0.1')
  await once(listener, 'listening')
  network = await FaultyNetwork.before(`http://127.0.0.1:${(listener.address() as AddressInfo).port}`)
  const accepted = once(listener, 'connection')
  client = reach()
  server = (await accepted)[0] as Socket
  return async () => {
    client.destroy()
    await network.stop()
    listener.close()
  }
})

function reach(): Socket {
  const socket = connect(Number(new URL(network.url).port), '127.0.0.1')
  socket.on('error', () => {})
  return socket
}

/** Collects what arrives. */
function received(socket: Socket): { readonly length: number; readonly ended: string | undefined } {
  let length = 0
  let ended: string | undefined
  socket.on('data', (chunk: Buffer) => {
    length += chunk.length
  })
  socket.on('end', () => {
    ended ??= 'fin'
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    ended ??= error.code
  })
  return {
    get length() {
      return length
    },
    get ended() {
      return ended
    },
  }
}

test('passes everything on, in order, with its end', async () => {
  let text = ''
  server.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  const at = received(server)
  for (let number = 0; number < 500; number += 1) client.write(`${number};`)
  client.end()
  await eventually(() => at.ended === 'fin')
  expect(text).toBe(Array.from({ length: 500 }, (_, number) => `${number};`).join(''))
})

test('throttles to so many bytes a second, and makes the sender wait', async () => {
  network.throttle(200_000)
  const at = received(server)
  const startedAt = performance.now()
  client.write(Buffer.alloc(100_000))
  await eventually(() => at.length === 100_000)
  const tookMs = performance.now() - startedAt
  expect(tookMs).toBeGreaterThan(400)
  expect(tookMs).toBeLessThan(2_000)
})

test('delays each way, and keeps the order', async () => {
  network.delay(150)
  const startedAt = performance.now()
  server.on('data', (chunk: Buffer) => server.write(chunk))
  const back = received(client)
  client.write('there and back')
  await eventually(() => back.length === 14)
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(300)
})

test.each([
  ['reset', 'ECONNRESET'],
  ['fin', 'fin'],
] as const)('cuts with %s at both ends', async (how, ended) => {
  const ends = [received(client), received(server)]
  network.cut(how)
  await eventually(() => ends.every((end) => end.ended === ended))
})

test('cuts inside a piece of data', async () => {
  const [atClient, atServer] = [received(client), received(server)]
  network.cutInside('to_server')
  client.write(Buffer.alloc(100))
  await eventually(() => atServer.ended === 'fin' && atClient.ended === 'ECONNRESET')
  expect(atServer.length).toBe(50)
})

test('loses one way of a connection, with its end, and leaves the other and new ones', async () => {
  const [atClient, atServer] = [received(client), received(server)]
  network.halfOpen('to_server')
  client.write('lost')
  server.write('heard')
  await eventually(() => atClient.length === 5)
  client.destroy()
  await eventually(() => network.connections === 0)
  expect(atServer).toMatchObject({ length: 0, ended: undefined })
  const next = reach()
  await once(next, 'connect')
  await eventually(() => network.connections === 1)
  next.destroy()
})

test('holds what is sent until it is restored', async () => {
  const at = received(server)
  network.hold()
  client.write('first')
  const door = reach()
  await once(door, 'connect')
  expect(at.length).toBe(0)
  network.restore()
  await eventually(() => at.length === 5)
  door.destroy()
})

test('resets new connections, or leaves them unanswered', async () => {
  network.refuse()
  const refused = received(reach())
  await eventually(() => refused.ended === 'ECONNRESET')
  network.blackHole()
  const silent = reach()
  const at = received(silent)
  await once(silent, 'connect')
  silent.write('hello?')
  expect(network.connections).toBe(1)
  expect(at.ended).toBeUndefined()
  silent.destroy()
})
