import { Kysely, PostgresDialect } from 'kysely'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Authority } from '../../src/access/authority.ts'
import { createAccess, type Principal, principalOfSignIn } from '../../src/access/principal.ts'
import { createStanding, type Standing } from '../../src/access/standing.ts'
import type { BusMessage } from '../../src/bus/bus.ts'
import { createPostgresBus } from '../../src/bus/postgres.ts'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { endSignIn, findSignIn, insertSignIn } from '../../src/db/sign-ins.ts'
import type { Tables } from '../../src/db/tables.ts'
import { createHttp } from '../../src/http/server.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/runtime.ts'
import { startApi } from '../http/api.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const log = createLog('silent')
const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

/** A bus whose messages and gaps the test makes. */
function handBus() {
  const handlers: ((message: BusMessage) => void)[] = []
  const gaps: (() => void)[] = []
  return {
    subscribe: (handler: (message: BusMessage) => void) => void handlers.push(handler),
    onGap: (handler: () => void) => void gaps.push(handler),
    say: (message: BusMessage) => handlers.forEach((handler) => void handler(message)),
    gap: () => gaps.forEach((handler) => void handler()),
  }
}

function start(database = db.database) {
  const bus = handBus()
  const clock = new ManualClock(Date.now())
  const standing = createStanding({ database, bus, clock, log })
  stops.push(() => standing.stop())
  return { bus, clock, standing }
}

/** A database that counts its statements, and can be made to fail. */
function counted() {
  const state = { statements: 0, away: false }
  const dialect = new PostgresDialect({
    pool: {
      connect: async () => {
        if (state.away) throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
        return db.pool.connect()
      },
      end: async () => {},
    },
  })
  const database = new Kysely<Tables>({
    dialect,
    log: (event) => {
      if (event.level === 'query') state.statements += 1
    },
  })
  return { database, state }
}

async function personal(scopes?: 'robots:read'[], expiresAt?: Date) {
  const userId = await insertPerson(db.database, [{ role: 'operator' }])
  const { id, token } = await insertPersonalToken(db.database, userId, {
    ...(scopes ? { scopes } : {}),
    ...(expiresAt ? { expiresAt } : {}),
  })
  return { userId, id, token, principal: await authenticated(token) }
}

const authenticated = (token: string): Promise<Principal> =>
  createAccess(db.database).authenticate(token, '127.0.0.1')

const reads = (authority: Authority) => authority.holds('robots:read')

/** Watches, and tells why it was ended, once it was. */
function watch(standing: Standing, principal: Principal, mayGoOn = reads) {
  const ends: string[] = []
  const release = standing.watch({ principal, mayGoOn, onEnd: (why) => ends.push(why.code) })
  return { ends, release }
}

const revoked = (id: string) =>
  db.pool.query('UPDATE access_tokens SET revoked_at = now() WHERE id = $1', [id])
const CHANGED: BusMessage = { type: 'access_changed' }
/** Lets everything that was begun come to its end. */
const settled = async () => {
  await db.pool.query('SELECT 1')
  await new Promise((resolve) => setImmediate(resolve))
}

describe('what goes on for long', () => {
  test.each<[string, string, (one: { userId: string; id: string }) => Promise<unknown>]>([
    ['is revoked', 'token_revoked', ({ id }) => revoked(id)],
    [
      'belongs to somebody who is removed',
      'token_revoked',
      ({ userId }) => db.pool.query('UPDATE users SET removed_at = now() WHERE id = $1', [userId]),
    ],
    [
      'belongs to somebody who loses their role',
      'insufficient_scope',
      ({ userId }) => db.pool.query('DELETE FROM memberships WHERE user_id = $1', [userId]),
    ],
    [
      'has expired early, as one that was rotated',
      'token_expired',
      ({ id }) => db.pool.query('UPDATE access_tokens SET expires_at = now() WHERE id = $1', [id]),
    ],
    [
      'is gone altogether',
      'token_revoked',
      ({ id }) => db.pool.query('DELETE FROM access_tokens WHERE id = $1', [id]),
    ],
  ])('ends when its token %s, and what others do goes on', async (_, why, change) => {
    const { bus, standing } = start()
    const [one, other] = [await personal(), await personal()]
    const [watched, untouched] = [watch(standing, one.principal), watch(standing, other.principal)]
    bus.say(CHANGED)
    await settled()
    await change(one)
    bus.say(CHANGED)
    await eventually(() => watched.ends.length > 0)
    expect(watched.ends).toEqual([why])
    expect(untouched.ends).toEqual([])
    expect(standing.size).toBe(1)
  })

  test('ends when a second factor is demanded that its person has not', async () => {
    const { bus, standing } = start()
    const one = await personal()
    const watched = watch(standing, one.principal)
    await db.pool.query('UPDATE security_settings SET require_second_factor = true')
    bus.say(CHANGED)
    await eventually(() => watched.ends.length > 0)
    await db.pool.query('UPDATE security_settings SET require_second_factor = false')
    expect(watched.ends).toEqual(['second_factor_required'])
  })

  test('ends when the rights no longer reach what it shows', async () => {
    const { bus, standing } = start()
    const site = newId()
    const fleet = newId()
    await db.pool.query('INSERT INTO sites (id, name) VALUES ($1, $2)', [site, site])
    await db.pool.query('INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, $3)', [fleet, site, fleet])
    const { token } = await insertFleetToken(db.database, fleet, { scopes: ['robots:read'] })
    const principal = await authenticated(token)
    const place = { siteId: site, fleetId: fleet }
    const watched = watch(standing, principal, (authority) => authority.covers('robots:read', place))
    const all = watch(standing, principal, (authority) => authority.reach('robots:read') === 'everything')
    await eventually(() => all.ends.length > 0)
    expect(all.ends).toEqual(['insufficient_scope'])
    expect(watched.ends).toEqual([])
    await db.pool.query('DELETE FROM fleets WHERE id = $1', [fleet])
    bus.say(CHANGED)
    await eventually(() => watched.ends.length > 0)
    expect(watched.ends).toEqual(['token_revoked'])
  })

  test('ends when somebody signs out', async () => {
    const { bus, standing } = start()
    const userId = await insertPerson(db.database, [{ role: 'viewer' }])
    const id = newId()
    const secretHash = Buffer.alloc(32, 9)
    await insertSignIn(db.database, {
      id,
      secretHash,
      stage: 'signed_in',
      userId,
      method: 'password',
      secondFactor: false,
      flowSealed: null,
      address: '127.0.0.1',
      userAgent: null,
    })
    const principal = principalOfSignIn((await findSignIn(db.database, secretHash))!)!
    const watched = watch(standing, principal)
    bus.say(CHANGED)
    await settled()
    expect(watched.ends).toEqual([])
    await endSignIn(db.database, { id, userId })
    bus.say(CHANGED)
    await eventually(() => watched.ends.length > 0)
    expect(watched.ends).toEqual(['credentials_required'])
  })

  test('ends at the minute at which its token expires, also one far ahead that was brought near', async () => {
    const { clock, standing } = start()
    const soon = await personal(undefined, new Date(clock.now() + 20_000))
    const never = await personal()
    const watched = watch(standing, soon.principal)
    const onNever = watch(standing, never.principal)
    await settled()
    clock.advance(19_999)
    await settled()
    expect(watched.ends).toEqual([])
    clock.advance(1)
    expect(watched.ends).toEqual(['token_expired'])
    expect(onNever.ends).toEqual([])
  })

  test('is looked at after a gap in what servers tell each other, and every so often whatever they tell', async () => {
    const { database, state } = counted()
    const { bus, clock, standing } = start(database)
    const [one, two] = [await personal(), await personal()]
    const [first, second] = [watch(standing, one.principal), watch(standing, two.principal)]
    await eventually(() => state.statements === 2)
    await settled()
    await revoked(one.id)
    bus.gap()
    await eventually(() => first.ends.length > 0)
    await revoked(two.id)
    await settled()
    expect(second.ends).toEqual([])
    clock.advance(15_000)
    await eventually(() => second.ends.length > 0)
  })

  test('is looked at when it begins: what changed since the request was let in was told to nobody', async () => {
    const { standing } = start()
    const one = await personal()
    await revoked(one.id)
    const watched = watch(standing, one.principal)
    await eventually(() => watched.ends.length > 0)
    expect(watched.ends).toEqual(['token_revoked'])
  })

  test('that was let go is not ended', async () => {
    const { bus, standing } = start()
    const one = await personal()
    const watched = watch(standing, one.principal)
    watched.release()
    expect(standing.size).toBe(0)
    await revoked(one.id)
    bus.say(CHANGED)
    await settled()
    expect(watched.ends).toEqual([])
  })

  test('does not keep others from being ended when its own end fails', async () => {
    const { bus, standing } = start()
    const [one, two] = [await personal(), await personal()]
    standing.watch({
      principal: one.principal,
      mayGoOn: reads,
      onEnd: () => {
        throw new Error('no')
      },
    })
    const watched = watch(standing, two.principal)
    await revoked(one.id)
    await revoked(two.id)
    bus.say(CHANGED)
    // The one whose end fails may be looked at later: it began before its token was revoked.
    await eventually(() => watched.ends.length > 0 && standing.size === 0)
  })
})

describe('what it costs', () => {
  test('nothing while nothing is watched, and one statement for a thousand tokens', async () => {
    const { database, state } = counted()
    const { bus, clock, standing } = start(database)
    bus.say(CHANGED)
    clock.advance(60_000)
    await settled()
    expect(state.statements).toBe(0)
    const one = await personal()
    const others = await Promise.all(Array.from({ length: 20 }, () => personal()))
    const all = Array.from({ length: 1_000 }, (_, index) =>
      watch(standing, (others[index % 20] ?? one).principal),
    )
    // The first brought a look about at once, all others together the second.
    await eventually(() => state.statements === 2)
    await settled()
    for (let time = 0; time < 50; time++) bus.say(CHANGED)
    await eventually(() => state.statements >= 4)
    await settled()
    expect(state.statements).toBe(4)
    expect(all.every(({ ends }) => ends.length === 0)).toBe(true)
  })

  test('a change told while a look is under way is looked at afterwards', async () => {
    const { bus, standing } = start()
    const one = await personal()
    const watched = watch(standing, one.principal)
    bus.say(CHANGED)
    await revoked(one.id)
    bus.say(CHANGED)
    await eventually(() => watched.ends.length > 0)
  })
})

test('while the database is away nobody is ended at once, and nobody is trusted for ever', async () => {
  const { database, state } = counted()
  const { bus, clock, standing } = start(database)
  const one = await personal()
  const watched = watch(standing, one.principal)
  await eventually(() => state.statements === 1)
  await settled()
  state.away = true
  bus.say(CHANGED)
  await settled()
  await clock.pass(29_000, 1_000)
  expect(watched.ends).toEqual([])
  await clock.pass(3_000, 1_000)
  expect(watched.ends).toEqual(['database_unavailable'])
})

test('what begins after the database was away, with nothing watched meanwhile, is looked at', async () => {
  const { database, state } = counted()
  const { clock, standing } = start(database)
  const one = await personal()
  state.away = true
  watch(standing, one.principal).release()
  await settled()
  await clock.pass(5_000, 500)
  state.away = false
  await revoked(one.id)
  const watched = watch(standing, one.principal)
  await eventually(() => watched.ends.length > 0)
})

test('what begins is looked at without looking at everything that goes on', async () => {
  const { database, state } = counted()
  const { standing } = start(database)
  const old = await personal()
  const watchedOld = watch(standing, old.principal)
  await eventually(() => state.statements === 1)
  await settled()
  // Nobody told of it: what goes on is looked at later.
  await revoked(old.id)
  const fresh = await personal()
  watch(standing, fresh.principal)
  await eventually(() => state.statements === 2)
  await settled()
  expect(watchedOld.ends).toEqual([])
})

test('a database that comes back is asked again', async () => {
  const { database, state } = counted()
  const { bus, clock, standing } = start(database)
  const one = await personal()
  const watched = watch(standing, one.principal)
  await eventually(() => state.statements === 1)
  await settled()
  state.away = true
  await revoked(one.id)
  bus.say(CHANGED)
  await settled()
  state.away = false
  expect(watched.ends).toEqual([])
  clock.advance(1_000)
  await eventually(() => watched.ends.length > 0)
  expect(watched.ends).toEqual(['token_revoked'])
})

describe('two servers on one database', () => {
  test.each([
    ['revoked', (id: string) => [`/api/tokens/${id}/revoke`, null] as const],
    [
      'rotated without an overlap',
      (id: string) => [`/api/tokens/${id}/rotate`, { overlap_seconds: 0 }] as const,
    ],
    [
      'revoked with everything of its person',
      (_: string, userId: string) => ['/api/tokens/revoke-all', { of: { user_id: userId } }] as const,
    ],
  ])('a token that is %s at one ends what it does at the other within two seconds', async (_, call) => {
    const api = await startApi()
    onTestFinished(() => api.close())
    const server = async () => {
      const pool = openPool({
        url: api.db.url,
        name: 'standing test',
        maxConnections: 4,
        statementTimeoutMs: 5_000,
        onIdleError: () => {},
      })
      const bus = await createPostgresBus({
        url: api.db.url,
        pool,
        serverId: newId(),
        clock: systemClock,
        log,
      })
      const database = openDatabase(pool)
      const standing = createStanding({ database, bus, clock: systemClock, log })
      stops.push(async () => {
        standing.stop()
        await bus.stop()
        await pool.end()
      })
      return { bus, database, standing }
    }
    const [here, there] = [await server(), await server()]
    const app = createHttp({ ...api.parts, bus: here.bus, standing: here.standing })
    stops.push(() => app.close())
    const { rows } = await api.db.pool.query('SELECT user_id FROM memberships')
    const userId: string = rows[0].user_id
    const made = await insertPersonalToken(api.db.database, userId)
    const owner = await insertPersonalToken(api.db.database, userId)
    const principal = await createAccess(there.database).authenticate(made.token, '127.0.0.1')
    let endedAt = 0
    for (const { standing } of [here, there])
      standing.watch({
        principal,
        mayGoOn: reads,
        onEnd: () => {
          endedAt = performance.now()
        },
      })
    const [url, payload] = call(made.id, userId)
    const answer = await app.inject({
      method: 'POST',
      url,
      headers: { authorization: `Bearer ${owner.token}` },
      ...(payload ? { payload } : {}),
    })
    const answeredAt = performance.now()
    expect(answer.statusCode, answer.payload).toBeLessThan(300)
    await eventually(() => here.standing.size === 0 && there.standing.size === 0)
    expect(endedAt - answeredAt).toBeLessThan(2_000)
  })
})
