import { setTimeout as sleep } from 'node:timers/promises'
import type { RobotsQuestion } from './programs/robots.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, type StartChild, withChildren } from './support/child.ts'
import { enrolRobots } from './support/fleet.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { withPostgres } from './support/postgres.ts'
import { residentBytesOf } from './support/proc.ts'
import { type Figure, saveReport } from './support/report.ts'

// How much memory does an authenticated session take that says nothing for now, when the bare engine's connection
// takes so much?

const ROUNDS = 3
const COUNTS = [5_000, 10_000] as const
/** Memory is settled when it changed by less than this for so long; garbage is collected meanwhile or never. */
const SETTLED_BYTES = 512 * 1024
const SETTLED_MS = 3_000
const PATIENCE_MS = 12_000
const LOOK_EVERY_MS = 250

async function settledBytesOf(pid: number): Promise<number> {
  let [low, high] = [Number.POSITIVE_INFINITY, 0]
  let settledFor = 0
  for (let waited = 0; ; waited += LOOK_EVERY_MS) {
    const bytes = residentBytesOf(pid)
    low = Math.min(low, bytes)
    high = Math.max(high, bytes)
    if (high - low > SETTLED_BYTES) {
      ;[low, high] = [bytes, bytes]
      settledFor = 0
    }
    if (settledFor >= SETTLED_MS || waited >= PATIENCE_MS) return bytes
    await sleep(LOOK_EVERY_MS)
    settledFor += LOOK_EVERY_MS
  }
}

/** Resident bytes of the server without connections and with each count of them. */
interface Round {
  readonly empty: number
  readonly with: readonly number[]
}

await withPostgres(async (databaseUrl) => {
  const tokens = (await enrolRobots(databaseUrl, COUNTS[1])).map((robot) => robot.token)

  /** Every round has servers of its own: memory that was taken once is seldom given back. */
  function measure(startServer: (start: StartChild) => Promise<{ child: Child; port: number }>) {
    return withChildren<Round>(async (start) => {
      const { child, port } = await startServer(start)
      const robots = start(new URL('./programs/robots.js', import.meta.url))
      const empty = await settledBytesOf(child.pid)
      const resident: number[] = []
      let connected = 0
      for (const count of COUNTS) {
        await robots.ask({
          do: 'connect',
          port,
          tokens: tokens.slice(connected, count),
        } satisfies RobotsQuestion)
        await robots.ask({ do: 'beat' } satisfies RobotsQuestion)
        connected = count
        resident.push(await settledBytesOf(child.pid))
      }
      await robots.stop()
      return { empty, with: resident }
    })
  }

  const rounds = await alternate(ROUNDS, {
    beacon: () =>
      // The sessions say nothing while they are measured, and nobody shall call them lost for it.
      measure((start) =>
        startBeaconServer(start, { databaseUrl, settings: { BEACON_HEARTBEAT_SECONDS: '3600' } }),
      ),
    bare: () =>
      measure(async (start) => {
        const child = start(new URL('./programs/echo-server.js', import.meta.url))
        return { child, port: await child.ask<number>({}) }
      }),
  })

  const figures: Figure[] = []
  const compare = (label: string, bytesOf: (round: Round) => number) => {
    const [beacon, bare] = [rounds.beacon.map(bytesOf), rounds.bare.map(bytesOf)]
    figures.push(
      { what: `${label}: bytes per session`, spread: spreadOf(beacon) },
      { what: `${label}: bytes per bare connection`, spread: spreadOf(bare) },
      { what: `${label}: ratio`, spread: spreadOf(ratiosOf(beacon, bare)), digits: 2, headline: true },
    )
  }
  for (const [index, count] of COUNTS.entries())
    compare(`${count.toLocaleString('en')} sessions`, (round) => (round.with[index]! - round.empty) / count)
  compare(
    `from ${COUNTS[0].toLocaleString('en')} to ${COUNTS[1].toLocaleString('en')}`,
    (round) => (round.with[1]! - round.with[0]!) / (COUNTS[1] - COUNTS[0]),
  )
  const megabytes = (which: keyof typeof rounds, bytesOf: (round: Round) => number) =>
    spreadOf(rounds[which].map((round) => bytesOf(round) / 2 ** 20))
  figures.push(
    { what: 'server without sessions, MiB', spread: megabytes('beacon', (round) => round.empty) },
    { what: 'bare server without connections, MiB', spread: megabytes('bare', (round) => round.empty) },
    {
      what: `server with ${COUNTS[1].toLocaleString('en')} sessions, MiB`,
      spread: megabytes('beacon', (round) => round.with[1]!),
    },
    {
      what: `bare server with ${COUNTS[1].toLocaleString('en')} connections, MiB`,
      spread: megabytes('bare', (round) => round.with[1]!),
    },
  )
  await saveReport({
    name: 'idle-memory',
    question:
      'Resident memory of the server process for each authenticated, welcomed session that is idle after a heartbeat, ' +
      'against a connection of the bare ws engine after the same frames',
    figures,
    settings: { rounds: ROUNDS, counts: COUNTS },
    rounds,
  })
})
