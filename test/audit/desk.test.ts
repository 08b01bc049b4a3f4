import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Audit } from '../../src/audit/audit.ts'
import { createAudit } from '../../src/audit/desk.ts'
import type { AuditActor } from '../../src/db/audit.ts'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { ManualClock } from '../support/clock.ts'
import { type DatabaseProxy, startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet } from '../support/robots.ts'
import { entry } from './entries.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const ANYBODY: AuditActor = { kind: 'anonymous', id: null, name: null }

let db: TestDatabase
let clock: ManualClock
let audit: Audit
let said: Record<string, unknown>[]

function createDesk(database: Database = db.database): Audit {
  said = []
  const log = createLog('info', { write: (line: string) => void said.push(JSON.parse(line)) })
  return createAudit({ database, clock, log })
}

beforeEach(async () => {
  db = await createTestDatabase()
  clock = new ManualClock('2026-03-01T12:00:00Z')
  audit = createDesk()
})

afterEach(async () => {
  const stopped = audit.stop()
  while ((await Promise.race([stopped.then(() => 'stopped'), nextTurn()])) !== 'stopped')
    clock.advance(SECOND)
  await db.drop()
})

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

// biome-ignore lint/suspicious/noExplicitAny: rows of the log, looked at field by field
type Row = any

async function lines(): Promise<Row[]> {
  return (await db.pool.query('SELECT * FROM audit_log ORDER BY seq')).rows
}

/** Moves time second by second, and waits until the log holds so many lines. */
async function linesAfter(ms: number, count: number): Promise<Row[]> {
  await clock.pass(ms, SECOND)
  return linesOnceThere(count)
}

/** `ticking`: time goes on meanwhile, for what is written in several steps. */
function linesOnceThere(count: number, { ticking = false } = {}): Promise<Row[]> {
  return eventually(async () => {
    if (ticking) await clock.pass(SECOND)
    const found = await lines()
    return found.length >= count ? found : undefined
  }, `${count} lines of the log`)
}

function refusal(values: Parameters<typeof entry>[0] & { code?: string } = {}) {
  const { code = 'insufficient_scope', ...others } = values
  return entry({
    at: new Date(clock.now()),
    action: 'request.refused',
    outcome: 'refused',
    actor: ANYBODY,
    data: { code },
    ...others,
  })
}

describe('uses', () => {
  const actor: AuditActor = { kind: 'personal_token', id: newId(), name: 'deploy' }
  const use = (values: { address?: string; at?: number; actor?: AuditActor } = {}) =>
    audit.used({ actor, address: '192.0.2.1', at: clock.now(), ...values })

  test('for a secret that was read are a line for each secret', async () => {
    const read = (id: string) =>
      audit.used({
        actor,
        address: '192.0.2.1',
        at: clock.now(),
        deed: { action: 'enrollment_key.revealed', target: { kind: 'enrollment_key', id, name: 'batch' } },
      })
    const [one, two] = [newId(), newId()]
    use()
    for (const id of [one, one, two]) read(id)
    const found = await linesAfter(61 * SECOND, 3)
    const told = found.map(({ action, target_id, data }) => [action, target_id, data.count])
    expect(told).toEqual([
      ['access_token.used', actor.id, 1],
      ['enrollment_key.revealed', one, 2],
      ['enrollment_key.revealed', two, 1],
    ])
  })

  test('are one line for each token and minute, written when the minute is over', async () => {
    const other: AuditActor = { kind: 'fleet_token', id: newId(), name: 'cell' }
    use()
    await clock.pass(20 * SECOND, SECOND)
    use({ address: '192.0.2.2' })
    audit.used({ actor: other, address: '2001:db8::1', at: clock.now(), siteId: null, fleetId: newId() })
    await clock.pass(39 * SECOND, SECOND)
    use()
    expect(await lines()).toEqual([])
    const found = await linesAfter(2 * SECOND, 2)
    expect(found).toHaveLength(2)
    expect(found[0]).toMatchObject({
      action: 'access_token.used',
      outcome: 'ok',
      actor_kind: 'personal_token',
      actor_id: actor.id,
      target_kind: 'access_token',
      target_id: actor.id,
      data: {
        count: 3,
        first: '2026-03-01T12:00:00.000Z',
        last: '2026-03-01T12:00:59.000Z',
        addresses: { '192.0.2.1': 2, '192.0.2.2': 1 },
      },
    })
    expect(found[1]).toMatchObject({ actor_id: other.id, data: { count: 1 } })
    expect(found[1].fleet_id).not.toBeNull()
    // The next minute is another line.
    use()
    const again = await linesAfter(MINUTE, 3)
    expect(again[2]).toMatchObject({ data: { count: 1, first: '2026-03-01T12:01:01.000Z' } })
  })

  test('of one minute are written at the stop', async () => {
    use()
    use()
    await audit.stop()
    expect((await lines()).map((line) => line.data.count)).toEqual([2])
  })

  test('from very many addresses name some of them', async () => {
    for (let index = 0; index < 50; index++) use({ address: `192.0.2.${index}` })
    await audit.stop()
    const [line] = await lines()
    expect(Object.keys(line.data.addresses)).toHaveLength(20)
    expect(line.data).toMatchObject({ count: 50, from_other_addresses: 30 })
  })

  test('of more tokens than there is room for are counted, and that is said', async () => {
    for (let index = 0; index < 10_003; index++)
      use({ actor: { kind: 'personal_token', id: newId(), name: null } })
    await audit.stop()
    const { rows } = await db.pool.query(
      "SELECT action, count(*)::int AS lines, max((data ->> 'uses')::int) AS missed FROM audit_log GROUP BY action",
    )
    expect(rows).toEqual(
      expect.arrayContaining([
        { action: 'access_token.used', lines: 10_000, missed: null },
        { action: 'audit.overflowed', lines: 1, missed: 3 },
      ]),
    )
  })

  test('are told by the token’s record within seconds, and never backwards', async () => {
    const { fleetId } = await insertFleet(db.database)
    const owner = await insertPerson(db.database, [{ role: 'owner' }])
    const first = await insertPersonalToken(db.database, owner)
    const second = await insertFleetToken(db.database, fleetId, { scopes: ['robots:read'] })
    const records = async () => {
      const { rows } = await db.pool.query(
        'SELECT id, last_used_at AS at, last_used_ip AS ip FROM access_tokens',
      )
      return Object.fromEntries(rows.map(({ id, at, ip }) => [id, at && [at.toISOString(), ip]]))
    }
    const named = (id: string, kind: AuditActor['kind'] = 'personal_token'): AuditActor => ({
      kind,
      id,
      name: null,
    })
    use({ actor: named(first.id), address: '192.0.2.1' })
    await clock.pass(SECOND)
    use({ actor: named(first.id), address: 'fe80::1%eth0' })
    use({ actor: named(second.id, 'fleet_token'), address: '::ffff:192.0.2.9' })
    // Tokens that were deleted meanwhile do no harm.
    use({ actor: named(newId()) })
    expect(await records()).toEqual({ [first.id]: null, [second.id]: null })
    await clock.pass(5 * SECOND, SECOND)
    const expected = {
      [first.id]: ['2026-03-01T12:00:01.000Z', 'fe80::1'],
      [second.id]: ['2026-03-01T12:00:01.000Z', '192.0.2.9'],
    }
    await eventually(async () => ((await records())[first.id] ? true : undefined))
    expect(await records()).toEqual(expected)
    // Another server was slower to write what happened before.
    const late = createDesk()
    late.used({ actor: named(first.id), address: '192.0.2.66', at: clock.now() - MINUTE })
    await late.stop()
    expect(await records()).toEqual(expected)
  })
})

describe('refusals', () => {
  test('of a kind: the first is written within a second, the others are counted until the minute is over', async () => {
    audit.refused(refusal({ address: '192.0.2.1' }))
    const [first] = await linesAfter(SECOND, 1)
    expect(first).toMatchObject({ outcome: 'refused', data: { code: 'insufficient_scope' } })
    for (let index = 0; index < 5; index++) {
      await clock.pass(SECOND)
      audit.refused(refusal({ address: '192.0.2.1', requestId: `request-${index}` }))
    }
    await clock.pass(30 * SECOND, SECOND)
    expect(await lines()).toHaveLength(1)
    const found = await linesAfter(30 * SECOND, 2)
    expect(found).toHaveLength(2)
    expect(found[1]).toMatchObject({
      action: 'request.refused',
      request_id: 'request-4',
      data: {
        code: 'insufficient_scope',
        repetitions: 5,
        first: '2026-03-01T12:00:02.000Z',
        last: '2026-03-01T12:00:06.000Z',
      },
    })
  })

  test('are of another kind by who, where from, what and why', async () => {
    const known = { kind: 'personal_token', id: newId(), name: 'x' } as const
    audit.refused(refusal({ address: '192.0.2.1' }))
    audit.refused(refusal({ address: '192.0.2.2' }))
    audit.refused(refusal({ address: '192.0.2.2', code: 'rate_limited' }))
    audit.refused(refusal({ address: '192.0.2.2', action: 'sign_in.failed' }))
    audit.refused(refusal({ address: '192.0.2.2', actor: known }))
    // One host owns all of its /64; and a known actor is one, wherever it comes from.
    audit.refused(refusal({ address: '2001:db8:0:1::1' }))
    audit.refused(refusal({ address: '2001:db8:0:1::2' }))
    audit.refused(refusal({ address: '192.0.2.3', actor: known }))
    expect(await linesAfter(SECOND, 6)).toHaveLength(6)
    await audit.stop()
    const repeated = (await lines()).slice(6)
    expect(repeated.map((line) => [line.address, line.data.repetitions])).toEqual([
      ['192.0.2.3', 1],
      ['2001:db8:0:1::2', 1],
    ])
  })

  test('of more kinds than there is room for are counted, and that is said', async () => {
    for (let index = 0; index < 2_500; index++)
      audit.refused(refusal({ address: `10.0.${index >> 8}.${index & 255}` }))
    const found = await linesOnceThere(2_001, { ticking: true })
    expect(found).toHaveLength(2_001)
    expect(found.at(-1)).toMatchObject({
      action: 'audit.overflowed',
      data: { refusals: 500, uses: 0, lines: 0 },
    })
    // The next minute has room again.
    await clock.pass(MINUTE, SECOND)
    audit.refused(refusal({ address: '192.0.2.1' }))
    expect((await linesAfter(SECOND, 2_002)).at(-1)).toMatchObject({ address: '192.0.2.1' })
  })

  test('that the database will not take do not keep the others out', async () => {
    audit.refused(refusal({ address: '192.0.2.1' }))
    audit.refused(refusal({ address: '192.0.2.2', requestId: 'a zero byte: \0' }))
    audit.refused(refusal({ address: '192.0.2.3', data: { code: 'x', text: '\0' } }))
    audit.refused(refusal({ address: '192.0.2.4' }))
    const found = await linesOnceThere(3, { ticking: true })
    expect(found.map((line) => line.address)).toEqual(['192.0.2.1', '192.0.2.4', null])
    expect(found.at(-1).data).toMatchObject({ lines: 2 })
    expect(said.filter(({ level }) => level === 'error')).toHaveLength(2)
  })
})

describe('while the database is away', () => {
  let proxy: DatabaseProxy
  let close: () => Promise<void>
  /** Every answer that is due has come: a line is there before whoever wrote it hears so. */
  let allHeard: () => Promise<unknown>

  beforeEach(async () => {
    await audit.stop()
    proxy = await startDatabaseProxy(db.url)
    const pool = openPool({
      url: proxy.url,
      name: 'beacon test',
      maxConnections: 2,
      statementTimeoutMs: 5_000,
      onIdleError: () => {},
    })
    audit = createDesk(openDatabase(pool))
    close = () => pool.end()
    allHeard = () => eventually(() => pool.totalCount > 0 && pool.idleCount === pool.totalCount)
  })

  afterEach(async () => {
    await close()
    await proxy.stop()
  })

  test('nobody waits, everything is kept, and written once it is back: nothing twice, even if an answer was lost', async () => {
    audit.refused(refusal({ address: '192.0.2.1' }))
    await linesAfter(SECOND, 1)
    await allHeard()
    // These are written, and nobody hears of it.
    proxy.swallowAnswers()
    audit.refused(refusal({ address: '192.0.2.2' }))
    await linesAfter(SECOND, 2)
    proxy.cut()
    for (let index = 3; index < 203; index++) audit.refused(refusal({ address: `192.0.2.${index}` }))
    audit.used({
      actor: { kind: 'personal_token', id: newId(), name: null },
      address: '192.0.2.1',
      at: clock.now(),
    })
    await clock.pass(2 * MINUTE, SECOND)
    await eventually(() => said.some(({ msg }) => String(msg).includes('cannot be written')))
    expect(await lines()).toHaveLength(2)
    proxy.restore()
    const found = await linesOnceThere(203, { ticking: true })
    await clock.pass(2 * SECOND, SECOND)
    expect(await lines()).toHaveLength(203)
    expect(found.map((line) => line.seq)).toEqual(found.map((_, index) => index + 1))
    expect(new Set(found.map((line) => line.id)).size).toBe(203)
  })

  test('a stop tries for a while, and says what is lost', async () => {
    proxy.cut()
    audit.refused(refusal())
    const stopped = audit.stop()
    for (let done = false; !done; ) {
      await Promise.race([stopped.then(() => (done = true)), nextTurn()])
      if (!done) clock.advance(SECOND)
    }
    expect(said.find(({ level }) => level === 'error')).toMatchObject({ lines: 1 })
  })
})
