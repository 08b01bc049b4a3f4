import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { get } from 'node:http'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { enrol, newMachine, Session, UpgradeRefusedError } from './independent/robot.ts'
import { startScene } from './scene.ts'

const DESCRIPTORS = 1024
const SILENT = 2 * DESCRIPTORS

/** Connections that ask for nothing; those that are refused or hung up on are of no interest. */
async function openSilent(url: URL, count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect(Number(url.port), url.hostname))
  await Promise.all(
    sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => {})),
  )
  for (const socket of sockets) socket.on('error', () => {})
  return sockets
}

/** How a new connection fares: an answer's status, or the code of its failure. */
function knock(url: URL): Promise<number | string> {
  return new Promise((resolve) => {
    const request = get(new URL('/healthz', url), { agent: false, timeout: 2_000 }, (response) => {
      response.resume()
      resolve(response.statusCode!)
    })
    request.on('timeout', () => request.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })))
    request.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.name))
  })
}

/** Undefined for a robot that was refused for want of descriptors; throws whatever else it was. */
function isToldToComeBack(error: unknown): undefined {
  if (!(error instanceof UpgradeRefusedError) || error.status !== 503) throw error
}

test.each([
  ['ws', /^(ECONNRESET|EPIPE)$/],
  // Nobody listens: with no descriptor left this engine would ask for connections without a pause.
  ['uws', /^ECONNREFUSED$/],
] as const)(
  '%s: more silent connections than descriptors harm no robot that is connected, and are over when they are gone',
  async (engine, refused) => {
    const scene = await startScene({
      descriptors: DESCRIPTORS,
      env: { BEACON_GATEWAY_ENGINE: engine, BEACON_HEARTBEAT_SECONDS: '30' },
    })
    onTestFinished(() => scene.end())
    const [server] = scene.servers
    const { key_value } = await scene.operator.key(scene.site, scene.fleet)
    const machine = newMachine()
    const { body } = await enrol(server!.url, key_value, { machine })
    const session = await Session.open(server!.gatewayUrl, body.robot_token!)
    session.hello(machine)
    await session.welcome()

    const port = new URL(server!.gatewayUrl.replace('ws', 'http'))
    const silent = await openSilent(port, SILENT)
    onTestFinished(() => {
      for (const socket of silent) socket.destroy()
    })
    await eventually(async () => refused.test(String(await knock(port))), 'the end of new connections')
    for (let seq = 1; seq <= 20; seq++) {
      session.heartbeat(seq)
      await session.acked(seq)
    }
    // There are some left for the database and for files; and here for the server's other port.
    const open = await readdir(`/proc/${server!.pid}/fd`)
    if (engine === 'ws') expect(open.length).toBeLessThan(DESCRIPTORS - 8)
    else expect(await knock(new URL(server!.url))).toBe(200)

    for (const socket of silent) socket.destroy()
    await eventually(async () => (await knock(port)) === 200, 'new connections to be taken again')
    // What is left is counted twice a second; until then robots are told to come back.
    const again = await eventually(
      () => Session.open(server!.gatewayUrl, body.robot_token!).catch(isToldToComeBack),
      'a session',
    )
    again.hello(machine)
    await again.welcome()
    expect((await session.closed).code).toBe(4510)
    again.socket.terminate()
  },
)
