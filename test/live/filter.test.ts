import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { foldText, lookAtRobots, readRobots } from '../../src/db/live-robots.ts'
import { listRobots, type RobotFilter } from '../../src/db/robots.ts'
import { renderRobot } from '../../src/http/live-schema.ts'
import { newId } from '../../src/ids.ts'
import { judgeOf } from '../../src/live/filter.ts'
import { entryOf, type Facts } from '../../src/live/robot.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'

const NAMES = [
  'Robot',
  'ROBOT 2',
  'Ärger',
  'ΣΟΦΟΣ',
  'İstanbul',
  'straße',
  '50%_\\',
  'ａｂｃ',
  'robot-3',
  'ǅungla',
]
const LABELS = [{}, { zone: 'a' }, { zone: 'A', line: '' }, { zone: 'b', line: '1' }, { line: 'a=b' }]
const CONNECTIONS = ['unseen', 'online', 'stale', 'offline'] as const
const HEALTHS = ['ok', 'warn', 'error', 'unknown'] as const
const LIFECYCLES = ['pending', 'active', 'maintenance', 'retired'] as const
const HEARTBEATS = [
  null,
  {},
  { faults: [] },
  { faults: [{ code: 'E1', level: 'error', message: '', since: '2026-01-01T00:00:00Z' }] },
]

let db: TestDatabase
const fleets: TestFleet[] = []
const ids: string[] = []
const keys: string[] = []
let facts: readonly Facts[] = []

beforeAll(async () => {
  db = await createTestDatabase()
  const { database } = db
  for (let index = 0; index < 2; index += 1) fleets.push(await insertFleet(database))
  const { siteId } = fleets[0]!
  const fleetId = newId()
  await database
    .insertInto('fleets')
    .values({ id: fleetId, site_id: siteId, name: 'second', heartbeat_interval_ms: null })
    .execute()
  fleets.push({ siteId, fleetId })
  for (const fleet of fleets) {
    const id = newId()
    keys.push(id)
    await db.pool.query(
      `INSERT INTO claim_credentials (id, kind, secret_hash, last_four, name, site_id, fleet_id, max_uses)
       VALUES ($1, 'enrollment_key', sha256($1::uuid::text::bytea), 'abcd', 'key', $2, $3, 10)`,
      [id, fleet.siteId, fleet.fleetId],
    )
  }
  for (let index = 0; index < 60; index += 1) {
    const of = <Item>(list: readonly Item[], step = 1): Item => list[Math.floor(index / step) % list.length]!
    const fleet = of(fleets, 2)
    const name = `${of(NAMES)} ${index}`
    const { id } = await insertRobot(database, fleet, { name, lifecycle: of(LIFECYCLES, 3) })
    ids.push(id)
    await db.pool.query(
      'UPDATE robots SET labels = $2, credential_id = $3, token_credential_id = $4 WHERE id = $1',
      [id, JSON.stringify(of(LABELS, 4)), index % 3 ? of(keys) : null, index % 4 ? of(keys, 2) : null],
    )
    if (index % 7 === 0) await db.pool.query('DELETE FROM robot_status WHERE robot_id = $1', [id])
    else
      await db.pool.query(
        'UPDATE robot_status SET connection = $2, health = $3, heartbeat = $4, heartbeat_at = now(), heartbeat_received_at = now() WHERE robot_id = $1',
        [id, of(CONNECTIONS), of(HEALTHS, 5), JSON.stringify(of(HEARTBEATS, 2))],
      )
  }
  const look = await lookAtRobots(database, undefined)
  const rows = await readRobots(
    database,
    look.changed.map(({ id }) => id),
  )
  facts = rows.map((row) => entryOf(row, renderRobot).facts)
})
afterAll(() => db?.drop())

const some = <Item>(list: () => readonly Item[]) =>
  fc
    .option(fc.array(fc.nat(100), { minLength: 1, maxLength: 3 }), { nil: undefined })
    .map((picks) => picks?.map((pick) => list()[pick % list().length]!))
const known = <Item>(list: () => readonly Item[]) => fc.nat(100).map((pick) => list()[pick % list().length]!)
const anyLabel = fc.record({
  name: fc.constantFrom('zone', 'line', 'none', 'Zone'),
  value: fc.constantFrom(null, 'a', 'A', '', '1', 'a=b'),
})
const anyText = fc.oneof(
  fc.constantFrom(
    'robot',
    'ROBOT',
    'ä',
    'Ä',
    'σ',
    'ς',
    'Σ',
    'i',
    'I',
    'İ',
    'ß',
    'SS',
    '%',
    '_',
    '\\',
    '50%',
    'Ａ',
    'ǆ',
    'Ǆ',
    '',
  ),
  known(() => ids).chain((id) => fc.nat(36).map((length) => id.slice(0, length).toUpperCase())),
  fc.string({ maxLength: 3 }).filter((text) => !text.includes('\0')),
)
const anyReach: fc.Arbitrary<RobotFilter['reach']> = fc.oneof(
  fc.constant('everything' as const),
  fc.record({
    siteIds: some(() => fleets.map(({ siteId }) => siteId)).map((list) => list ?? []),
    fleetIds: some(() => fleets.map(({ fleetId }) => fleetId)).map((list) => list ?? []),
  }),
)
const anyFilter: fc.Arbitrary<RobotFilter> = fc.record({
  reach: anyReach,
  sites: some(() => fleets.map(({ siteId }) => siteId)),
  fleets: some(() => fleets.map(({ fleetId }) => fleetId)),
  connections: some(() => CONNECTIONS),
  healths: some(() => HEALTHS),
  lifecycles: some(() => LIFECYCLES),
  labels: fc.option(fc.array(anyLabel, { maxLength: 2 }), { nil: undefined }),
  text: fc.option(anyText, { nil: undefined }),
  credentialId: fc.option(
    known(() => keys),
    { nil: undefined },
  ),
  ids: some(() => [...ids, newId()]),
  hasFaults: fc.constantFrom(undefined, undefined, true, false),
})
/** A few of the conditions, for all of them together admit next to nobody. */
const fewConditions = fc
  .tuple(
    anyFilter,
    fc.subarray(
      [
        'sites',
        'fleets',
        'connections',
        'healths',
        'lifecycles',
        'labels',
        'text',
        'credentialId',
        'ids',
        'hasFaults',
      ] as const,
      { maxLength: 3 },
    ),
  )
  .map(
    ([{ reach, ...rest }, kept]): RobotFilter => ({
      reach,
      ...Object.fromEntries(kept.map((name) => [name, rest[name]])),
    }),
  )

const PAGE = { sort: 'name', descending: false, limit: 1_000, after: undefined } as const

test('a filter admits in memory exactly what the list admits in the database', {
  timeout: 60_000,
}, async () => {
  let admitted = 0
  await fc.assert(
    fc.asyncProperty(fewConditions, async (filter) => {
      const text = filter.text === undefined ? undefined : await foldText(db.database, filter.text)
      const { admits } = judgeOf({ ...filter, text }, filter.reach)
      const rows = await listRobots(db.database, filter, PAGE)
      const here = facts.filter(admits).map(({ id }) => id)
      expect(here.sort()).toEqual(rows.map(({ id }) => id).sort())
      admitted += here.length
    }),
    { numRuns: 600 },
  )
  // Not because everything was empty.
  expect(admitted).toBeGreaterThan(1_000)
})

test('counts leave out what one chooses among in a status bar', () => {
  const filter = { sites: [fleets[0]!.siteId], labels: [{ name: 'zone', value: null }] }
  const chosen = {
    connections: ['online'],
    healths: ['ok'],
    lifecycles: ['active'],
    ids: [ids[1]!],
    hasFaults: true,
  } as const
  const { counted } = judgeOf({ ...filter, ...chosen }, 'everything')
  const { admits } = judgeOf(filter, 'everything')
  expect(facts.filter(counted)).toEqual(facts.filter(admits))
  expect(facts.filter(counted).length).toBeGreaterThan(5)
})
