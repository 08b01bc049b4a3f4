import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { createTestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  createFleet,
  createKey,
  createProvisioningToken,
  outcomeOf,
  robotRequest,
  robotsOf,
  startClaims,
  usesOf,
} from './fixture.ts'

const RUN = join(import.meta.dirname, '../support/run-typescript.mjs')
const CLAIMANT = join(import.meta.dirname, 'claimant.ts')

interface Claimant {
  readonly process: ChildProcess
  readonly closed: Promise<unknown>
  /** `name id` of each robot that it was granted. */
  readonly granted: string[]
}

function startClaimant(args: readonly string[], onGrant: (claimant: Claimant) => void): Claimant {
  const process = spawn('node', [RUN, CLAIMANT, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const claimant: Claimant = { process, closed: once(process, 'close'), granted: [] }
  createInterface({ input: process.stdout }).on('line', (line) => {
    claimant.granted.push(line)
    onGrant(claimant)
  })
  return claimant
}

test('a server killed after it admitted the one robot of a token leaves it admitted, and nobody else', async () => {
  const shared = await createTestDatabase()
  onTestFinished(() => shared.drop())
  const { database, url } = shared
  const token = await createProvisioningToken(database, await createFleet(database), { singleUse: true })
  const claimants = [0, 1, 2].map((index) =>
    startClaimant([url, token.secret, String(index * 100), '100'], ({ process }) => process.kill('SIGKILL')),
  )
  await Promise.all(claimants.map((claimant) => claimant.closed))
  const granted = claimants.flatMap((claimant) => claimant.granted)
  expect(granted).toHaveLength(1)
  const [name = '', id] = granted[0]!.split(' ')
  const stored = await robotsOf(database, token)
  expect(stored.map((robot) => [robot.name, robot.id])).toEqual([[name, id]])

  const claims = startClaims(database)
  const outcomes = await Promise.all(
    Array.from({ length: 300 }, async (_, index) => {
      const request = robotRequest(`robot-${index}`)
      return [request.name, await outcomeOf(claims.claim(claimCall(token, request)))]
    }),
  )
  expect(outcomes.filter(([, outcome]) => outcome !== 'key_revoked')).toEqual([[name, 200]])
  expect(await usesOf(database, token)).toBe(1)
}, 60_000)

test('servers killed in the middle of a storm leave the key exact and every granted robot in place', async () => {
  const shared = await createTestDatabase()
  onTestFinished(() => shared.drop())
  const { database, url } = shared
  const key = await createKey(database, await createFleet(database), { maxUses: 2_500 })
  const claimants = [0, 1, 2].map((index) =>
    // The first two are killed early and later on; the third lives and meets the limit.
    startClaimant([url, key.secret, String(index * 1_000), '1000'], ({ process, granted }) => {
      if (granted.length === [1, 300, Number.POSITIVE_INFINITY][index]) process.kill('SIGKILL')
    }),
  )
  await Promise.all(claimants.map((claimant) => claimant.closed))
  expect(claimants.map((claimant) => claimant.process.signalCode)).toEqual(['SIGKILL', 'SIGKILL', null])

  const stored = new Map((await robotsOf(database, key)).map((robot) => [robot.name, robot.id]))
  for (const claimant of claimants) {
    for (const line of claimant.granted) {
      const [name = '', id] = line.split(' ')
      expect(stored.get(name)).toBe(id)
    }
  }

  // Everybody asks again, as robots do: those who were in get their own robot, the others what is left of the key.
  const claims = startClaims(database)
  const outcomes = await Promise.all(
    Array.from({ length: 3_000 }, (_, index) =>
      outcomeOf(claims.claim(claimCall(key, robotRequest(`robot-${index}`)))),
    ),
  )
  const count = (outcome: unknown) => outcomes.filter((other) => other === outcome).length
  expect(count(201) + count(200)).toBe(2_500)
  expect(count('key_exhausted')).toBe(500)
  expect(await usesOf(database, key)).toBe(2_500)
  const robots = await robotsOf(database, key)
  expect(robots.length).toBe(2_500)
  for (const robot of robots) expect(stored.get(robot.name) ?? robot.id).toBe(robot.id)
}, 60_000)
