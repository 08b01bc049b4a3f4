import { createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { createLog } from '../../src/observe/log.ts'
import { type ReservedPort, reservePort } from '../../src/processes/port.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'

const HOST = '127.0.0.1'
const log = createLog('silent')
const held: { release(): Promise<void> }[] = []

afterEach(async () => {
  for (const each of held.splice(0)) await each.release()
})

async function reserve(port: number, clock = new ManualClock()): Promise<ReservedPort> {
  const reserved = await reservePort({ host: HOST, port, clock, log })
  held.push(reserved)
  return reserved
}

/** Somebody else's program on a port. */
async function squat(port = 0) {
  const server = createServer().listen(port, HOST)
  await eventually(() => server.listening)
  const release = () => new Promise<void>((resolve) => server.close(() => resolve()))
  held.push({ release: () => (server.listening ? release() : Promise.resolve()) })
  return { port: (server.address() as { port: number }).port, release }
}

/** Moves time until the promise settles; answers with its outcome. */
async function settle<Value>(promise: Promise<Value>, clock: ManualClock): Promise<Value | Error> {
  let outcome: Value | Error | undefined
  promise.then(
    (value) => {
      outcome = value
    },
    (error: Error) => {
      outcome = error
    },
  )
  await eventually(() => {
    if (outcome === undefined && clock.pending > 0) clock.advance(250)
    return outcome !== undefined
  })
  return outcome!
}

test('any port is one that is free, and processes can listen on it', async () => {
  const { port } = await reserve(0)
  expect(port).toBeGreaterThan(0)
  expect((await squat(port)).port).toBe(port)
})

test('a port that another program has is refused after a while, with what Node calls it', async () => {
  const clock = new ManualClock()
  const begun = clock.monotonic()
  const { port } = await squat()
  const outcome = await settle(reserve(port, clock), clock)
  expect(outcome).toMatchObject({ code: 'EADDRINUSE' })
  expect(clock.monotonic() - begun).toBeGreaterThanOrEqual(15_000)
})

test('a port that is let go meanwhile is taken', async () => {
  const clock = new ManualClock()
  const squatter = await squat()
  const outcome = settle(reserve(squatter.port, clock), clock)
  await squatter.release()
  expect(await outcome).toMatchObject({ port: squatter.port })
})

test.runIf(process.platform === 'linux')(
  'two servers never have the same one, also while neither listens, and the next one has it after',
  async () => {
    const clock = new ManualClock()
    const first = await reserve(0)
    expect(await settle(reserve(first.port, clock), clock)).toMatchObject({ code: 'EADDRINUSE' })
    await first.release()
    expect(await settle(reserve(first.port, clock), clock)).toMatchObject({ port: first.port })
  },
)
