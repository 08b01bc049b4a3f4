import { connect, type Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { BeaconError } from '../../src/errors.ts'
import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import type { Admission, UpgradeRequest } from '../../src/transport/transport.ts'
import { eventually } from '../support/eventually.ts'
import { ALL } from './real-engines.ts'

/** A client that asks for a session, and an engine whose question about it stays open until the test answers. */
async function asking(engine: (typeof ALL)[number]) {
  const asked: UpgradeRequest[] = []
  let answer: (admission: Admission) => void = () => {}
  const listener = await engine.listen({
    admit: (request) => {
      asked.push(request)
      return new Promise((resolve) => {
        answer = resolve
      })
    },
  })
  onTestFinished(() => listener.stop())
  const client: Socket = connect(listener.port, '127.0.0.1')
  client.on('error', () => {})
  client.write(
    [
      'GET /agent/ws HTTP/1.1',
      'Host: test',
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      'Sec-WebSocket-Version: 13',
      `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
      '\r\n',
    ].join('\r\n'),
  )
  onTestFinished(() => void client.destroy())
  const request = await eventually(() => asked[0], 'the question')
  return { client, request, answer: (admission: Admission) => answer(admission) }
}

describe.each(ALL.map((engine) => [engine.name, engine] as const))('%s', (_, engine) => {
  it('knows that a client waits', async () => {
    const { client, request, answer } = await asking(engine)
    expect(request.isGone?.()).toBe(false)
    let text = ''
    client.on('data', (chunk) => {
      text += chunk.toString()
    })
    answer({ kind: 'refuse', error: new BeaconError('overloaded', undefined, { retryAfterSeconds: 7 }) })
    await eventually(() => text.includes('HTTP/1.1 503') && /retry-after: 7\r\n/i.test(text), 'the refusal')
  })

  for (const [how, leave] of [
    ['hangs up', (client: Socket) => client.destroy()],
    ['breaks off', (client: Socket) => client.resetAndDestroy()],
  ] as const)
    it(`knows that a client ${how} while it waits, and is not upset by an answer`, async () => {
      const { client, request, answer } = await asking(engine)
      leave(client)
      await eventually(() => request.isGone?.() === true, 'the engine to notice')
      answer({ kind: 'refuse', error: new BeaconError('overloaded') })
    })
})
