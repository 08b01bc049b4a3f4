import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TokenKeeper, type Tokens } from '../../agent/tokens.ts'
import type { Database } from '../../src/db/database.ts'
import { requestRotations, storeNextTokens } from '../../src/db/robot-rotation.ts'
import { revokeRobotTokens } from '../../src/db/robots.ts'
import { findTokenHolders, openSessions } from '../../src/db/sessions.ts'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'

/**
 * The agent's own rule for its tokens against the server's own statements, with everything between them made to fail:
 * agents killed before and after each write and each frame, servers killed before and after each commit, frames lost or
 * late by a whole session, robots revoked and enrolled anew. A second, simpler book keeps which tokens are dead.
 */

let db: TestDatabase
let fleet: TestFleet
beforeAll(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
})
afterAll(() => db.drop())

const PACE = { betweenNextMs: 10_000, unaskedMs: 60_000 }
const hashOf = (token: string) => hashToken(token).toString('hex')

class PowerCut extends Error {}

/** Where the power goes within a write. */
type Cut = 'before' | 'after' | undefined
/** What becomes of a transaction of the server: it is killed, or its answer does not arrive. */
type Fate = 'fine' | 'killed_before' | 'killed_after'

class World {
  readonly dead = new Set<string>()
  readonly minted: string[] = []
  /** What is on the robot's disk. */
  disk: Tokens
  /** The running agent; undefined: it is off. */
  keeper: TokenKeeper | undefined
  session: { readonly no: number; readonly token: string } | undefined
  /** Frames that name tokens and have not arrived, with the session that sent them. */
  readonly onTheWay: { readonly sessionNo: number; readonly token: string; readonly next: string }[] = []
  cut: Cut
  revoked = false
  rotations = 0
  now = Date.now()
  readonly #database: Database
  readonly #robotId: string
  readonly #serverId = newId()

  constructor(database: Database, robotId: string, token: string) {
    this.#database = database
    this.#robotId = robotId
    this.disk = { current: token, next: undefined }
    this.minted.push(token)
  }

  #start(): TokenKeeper {
    this.keeper ??= new TokenKeeper(this.disk, (tokens) => {
      if (this.cut === 'before') throw new PowerCut()
      this.disk = tokens
      if (this.cut === 'after') throw new PowerCut()
    })
    return this.keeper
  }

  crash(): void {
    this.keeper = undefined
    this.session = undefined
  }

  /** Runs a step of the agent's, which a power cut may end. */
  #agent<Result>(cut: Cut, step: (keeper: TokenKeeper) => Result): Result | undefined {
    this.cut = cut
    try {
      return step(this.#start())
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error
      this.crash()
      return undefined
    } finally {
      this.cut = undefined
    }
  }

  /** One attempt to hold a session. */
  async connect(fate: Fate, hearsWelcome: boolean, cut: Cut): Promise<void> {
    const token = this.#start().toUse
    const opened = await this.#open(token, fate)
    if (opened === 'refused') {
      this.session = undefined
      const another = this.keeper?.refused(token)
      if (!another && !this.revoked) throw new Error('a robot that nobody revoked has no token left')
      if (!another) this.crash()
      return
    }
    if (opened === 'unknown' || !hearsWelcome) {
      this.session = undefined
      return
    }
    this.#agent(cut, (keeper) => {
      this.session = { no: opened, token }
      keeper.opened(token)
    })
  }

  async #open(token: string, fate: Fate): Promise<number | 'refused' | 'unknown'> {
    const [holder] = await findTokenHolders(this.#database, [hashOf(token)])
    if (!holder || holder.revoked || holder.retired) return 'refused'
    if (fate === 'killed_before') return 'unknown'
    const [row] = await openSessions(
      this.#database,
      this.#serverId,
      new Date(this.now),
      [
        {
          robotId: this.#robotId,
          tokenHash: hashOf(token),
          hello: { protocol: 1, agent: {} },
          machineHash: undefined,
        },
      ],
      'alert',
    )
    if (!row) return 'refused'
    // By the book: whatever was minted before the token that opened a session with the right to do so is dead.
    if (row.rotated) {
      this.rotations += 1
      for (const each of this.minted) if (each !== token) this.dead.add(each)
    }
    return fate === 'killed_after' ? 'unknown' : row.sessionNo
  }

  async request(): Promise<void> {
    this.now += 20_000
    await requestRotations(this.#database, [this.#robotId], 'operator', new Date(this.now))
  }

  /** The agent is asked for a token. */
  asked(cut: Cut, isSent: boolean): void {
    const { session } = this
    if (!session) return
    const next = this.#agent(cut, (keeper) =>
      keeper.prepareNext(() => {
        const token = mintCheckedToken('robot')
        this.minted.push(token)
        return token
      }),
    )
    if (next !== undefined && isSent)
      this.onTheWay.push({ sessionNo: session.no, token: session.token, next })
  }

  /** A frame arrives, now or as late as anything may. */
  async arrives(which: number, fate: Fate, hearsAck: boolean): Promise<void> {
    if (this.onTheWay.length === 0) return
    const [frame] = this.onTheWay.splice(which % this.onTheWay.length, 1)
    if (!frame || fate === 'killed_before') return
    const [answer] = await storeNextTokens(this.#database, new Date(this.now), PACE, [
      {
        robotId: this.#robotId,
        sessionNo: frame.sessionNo,
        tokenHash: hashOf(frame.token),
        nextTokenHash: hashOf(frame.next),
      },
    ])
    const isAcknowledged = answer?.outcome === 'stored' || answer?.outcome === 'kept'
    if (isAcknowledged && this.dead.has(frame.next)) throw new Error('a dead token was taken for a next one')
    const isHeard = fate === 'fine' && hearsAck && frame.sessionNo === this.session?.no
    // It goes to come back with the new one.
    if (isAcknowledged && isHeard) this.session = undefined
  }

  async revoke(): Promise<void> {
    if (this.revoked) return
    await revokeRobotTokens(this.#database, { id: this.#robotId })
    for (const token of this.minted) this.dead.add(token)
    this.revoked = true
    this.session = undefined
  }

  /** Enrolled anew: another token, as a claim writes it. */
  async enrol(): Promise<void> {
    if (!this.revoked) return
    const token = mintCheckedToken('robot')
    this.minted.push(token)
    await this.#database
      .updateTable('robots')
      .set({ token_hash: hashToken(token), token_revoked_at: null, token_issued_at: new Date(this.now) })
      .where('id', '=', this.#robotId)
      .execute()
    this.revoked = false
    this.crash()
    this.disk = { current: token, next: undefined }
  }

  /** Somebody who copied every token there ever was tries those that are dead, all at once. */
  async thief(): Promise<void> {
    const tokens = [...this.dead]
    if (tokens.length === 0) return
    const before = await this.sessionNo()
    await Promise.all(
      tokens.map((token) =>
        openSessions(
          this.#database,
          this.#serverId,
          new Date(this.now),
          [
            {
              robotId: this.#robotId,
              tokenHash: hashOf(token),
              hello: { protocol: 1, agent: {} },
              machineHash: undefined,
            },
          ],
          'alert',
        ),
      ),
    )
    expect(await this.sessionNo()).toBe(before)
    const holders = await findTokenHolders(this.#database, tokens.map(hashOf))
    expect(holders.filter((holder) => holder && !holder.revoked)).toEqual([])
  }

  async sessionNo(): Promise<number> {
    const row = await this.#database
      .selectFrom('robot_status')
      .select('session_no')
      .where('robot_id', '=', this.#robotId)
      .executeTakeFirstOrThrow()
    return row.session_no
  }
}

/** Much goes well, or nothing would ever come of anything. */
const mostly = <Value>(usual: Value, ...others: readonly Value[]) =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(usual) }, ...others.map((other) => fc.constant(other)))
const cut = mostly<Cut>(undefined, 'before', 'after')
const fate = mostly<Fate>('fine', 'killed_before', 'killed_after')
const hears = mostly(true, false)
const doing = <Name extends string>(name: Name) => fc.record({ do: fc.constant(name) })
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('connect' as const), fate, cut, hears }) },
    { weight: 2, arbitrary: doing('request') },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('asked' as const), cut, sent: hears }) },
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('arrives' as const), which: fc.nat(9), fate, hears }),
    },
    { weight: 1, arbitrary: doing('crash') },
    { weight: 1, arbitrary: doing('revoke') },
    { weight: 1, arbitrary: doing('enrol') },
    { weight: 1, arbitrary: doing('thief') },
  ),
  { minLength: 10, maxLength: 60, size: 'max' },
)

test('whatever fails and in which order: the robot can connect, and no dead token opens a session', async () => {
  let rotations = 0
  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      const robot = await insertRobot(db.database, fleet)
      const world = new World(db.database, robot.id, robot.token)
      for (const step of sequence) {
        if (step.do === 'connect') await world.connect(step.fate, step.hears, step.cut)
        else if (step.do === 'request') await world.request()
        else if (step.do === 'asked') world.asked(step.cut, step.sent)
        else if (step.do === 'arrives') await world.arrives(step.which, step.fate, step.hears)
        else if (step.do === 'crash') world.crash()
        else if (step.do === 'revoke') await world.revoke()
        else if (step.do === 'enrol') await world.enrol()
        else await world.thief()
      }
      // The power comes back, and nothing fails any more.
      world.crash()
      for (let attempt = 0; attempt < 2 && !world.session; attempt++)
        await world.connect('fine', true, undefined)
      expect(world.session === undefined).toBe(world.revoked)
      await world.thief()
      rotations += world.rotations
    }),
    { numRuns: 120 },
  )
  // That anything at all was changed and ended is part of it.
  expect(rotations).toBeGreaterThan(5)
})
