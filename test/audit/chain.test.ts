import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Flaw, verifyAudit } from '../../src/audit/verify.ts'
import { type AuditEntry, insertAudit } from '../../src/db/audit.ts'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { newId } from '../../src/ids.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { entry } from './entries.ts'

let db: TestDatabase

beforeEach(async () => {
  db = await createTestDatabase()
})

afterEach(() => db.drop())

// biome-ignore lint/suspicious/noExplicitAny: rows, looked at field by field
async function query(text: string, values: unknown[] = []): Promise<any[]> {
  return (await db.pool.query(text, values)).rows
}

const add = (...entries: AuditEntry[]) => insertAudit(db.database, entries)
const entries = (count: number) => Array.from({ length: count }, () => entry())

/** A second reckoning of the hashes, from what a client of the database sees. */
async function expectSound(): Promise<void> {
  const rows = await query(
    `SELECT *, at AT TIME ZONE 'UTC' AS utc, (extract(epoch FROM at) * 1000)::bigint AS ms, data::text AS text,
       masklen(address) AS bits FROM audit_log ORDER BY seq`,
  )
  let previous = Buffer.alloc(32)
  for (const [index, row] of rows.entries()) {
    expect(row.seq).toBe(index + 1)
    expect(row.previous_hash).toEqual(previous)
    const fields = [
      String(row.seq),
      row.id,
      `${Math.floor(row.ms / 1000)}.${String(row.ms % 1000).padStart(3, '0')}000`,
      row.action,
      row.outcome,
      row.actor_kind,
      row.actor_id,
      row.actor_name,
      row.target_kind,
      row.target_id,
      row.target_name,
      row.site_id,
      row.fleet_id,
      row.request_id,
      row.address === null ? null : `${row.address}/${row.bits}`,
      row.text,
    ]
    previous = createHash('sha256').update(previous).update(JSON.stringify(fields), 'utf8').digest()
    expect(row.hash).toEqual(previous)
  }
  expect(await query('SELECT seq, hash FROM audit_head')).toEqual([{ seq: rows.length, hash: previous }])
}

describe('the chain', () => {
  test('is empty at first, and sound', async () => {
    await expectSound()
    expect(await verifyAudit(db.database)).toEqual({
      checked: 0,
      head: { seq: 0, hash: '0'.repeat(64) },
      finding: undefined,
      next: undefined,
    })
  })

  test('holds every column of every line, whatever is in it', async () => {
    await add(
      entry(),
      entry({
        actor: { kind: 'anonymous', id: null, name: null },
        target: null,
        siteId: null,
        fleetId: null,
        requestId: null,
        address: null,
        data: {},
      }),
      entry({ address: '2001:db8::7', requestId: '', target: { kind: '', id: '', name: '' } }),
    )
    const every = Array.from({ length: 0x7f }, (_, code) => String.fromCharCode(code + 1)).join('')
    await add(
      entry({
        target: { kind: 'robot', id: every, name: '\u007f\u0080\u009f\u2028\u2029\ufeff\uffff𝕏' },
        data: { [every]: every, 10: 1, 9: 1.5e300, empty: {}, list: [true, null, '\u2028'] },
      }),
      entry({ at: new Date('1970-01-01T00:00:00.001Z') }),
      entry({ at: new Date('9999-12-31T23:59:59.999Z') }),
    )
    await expectSound()
    expect(await verifyAudit(db.database)).toMatchObject({ checked: 6, finding: undefined, head: { seq: 6 } })
  })

  test('gives numbers and hashes itself, whatever a statement says', async () => {
    await query(
      `INSERT INTO audit_log (seq, id, at, action, outcome, actor_kind, previous_hash, hash)
       SELECT 77, gen_random_uuid(), now(), 'a.b', 'ok', 'server', sha256('x'), sha256('y') FROM generate_series(1, 3)`,
    )
    await expectSound()
  })

  test('has no gap after a transaction that came to nothing, nor after a line that was there already', async () => {
    const [first, second, third] = entries(3) as [AuditEntry, AuditEntry, AuditEntry]
    await add(first)
    await expect(
      db.database.transaction().execute(async (transaction) => {
        await insertAudit(transaction, entries(5))
        throw new Error('rolled back')
      }),
    ).rejects.toThrow('rolled back')
    await add(second, first, third, second)
    expect((await query('SELECT id FROM audit_log ORDER BY seq')).map(({ id }) => id)).toEqual([
      first.id,
      second.id,
      third.id,
    ])
    await expectSound()
  })

  test('goes on over several statements of one transaction, and over two parts of one statement', async () => {
    await db.database.transaction().execute(async (transaction) => {
      await insertAudit(transaction, entries(2))
      await insertAudit(transaction, entries(3))
    })
    const one = `INSERT INTO audit_log (id, at, action, outcome, actor_kind)
      SELECT gen_random_uuid(), now(), 'a.b', 'ok', 'server' FROM generate_series(1, 4)`
    await query(
      `WITH first AS (${one} RETURNING seq), second AS (${one} RETURNING seq) SELECT FROM first, second`,
    )
    expect(await query('SELECT count(*)::int AS count FROM audit_log')).toEqual([{ count: 13 }])
    await expectSound()
  })

  test('stays one when many add to it at once, and some give up', async () => {
    const pools = [1, 2, 3].map(() =>
      openPool({
        url: db.url,
        name: 'another server',
        maxConnections: 10,
        statementTimeoutMs: 20_000,
        onIdleError: () => {},
      }),
    )
    const databases: Database[] = pools.map((pool) => openDatabase(pool))
    const outcomes = await Promise.allSettled(
      Array.from({ length: 60 }, (_, index) =>
        databases[index % 3]!.transaction().execute(async (transaction) => {
          await insertAudit(transaction, entries(1 + (index % 7)))
          if (index % 6 === 0) throw new Error('gives up')
        }),
      ),
    )
    for (const pool of pools) await pool.end()
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(10)
    const kept = Array.from({ length: 60 }, (_, index) => (index % 6 === 0 ? 0 : 1 + (index % 7)))
    const total = kept.reduce((sum, count) => sum + count)
    expect(await verifyAudit(db.database)).toMatchObject({ checked: total, finding: undefined })
    await expectSound()
  })

  test('is held up by a server that is frozen in the middle for a while only', async () => {
    const pool = openPool({
      url: db.url,
      name: 'a server that freezes',
      maxConnections: 1,
      statementTimeoutMs: 20_000,
      idleInTransactionMs: 200,
      onIdleError: () => {},
    })
    const frozen = await pool.connect()
    frozen.on('error', () => {})
    await frozen.query('BEGIN')
    await frozen.query(
      "INSERT INTO audit_log (id, at, action, outcome, actor_kind) VALUES (gen_random_uuid(), now(), 'a.b', 'ok', 'server')",
    )
    await add(entry())
    await expect(frozen.query('COMMIT')).rejects.toThrow()
    frozen.release(true)
    await pool.end()
    expect(await query('SELECT action FROM audit_log')).toEqual([{ action: 'robot.retired' }])
    await expectSound()
  })

  test('is gone through in parts, with lines added meanwhile', async () => {
    await add(...entries(25))
    const first = await verifyAudit(db.database, { maxLines: 10 })
    expect(first).toMatchObject({ checked: 10, finding: undefined, next: { seq: 10 } })
    await add(...entries(2))
    const second = await verifyAudit(db.database, { after: first.next, maxLines: 10 })
    expect(second.next).toMatchObject({ seq: 20 })
    const last = await verifyAudit(db.database, { after: second.next, maxLines: 10 })
    expect(last).toMatchObject({ checked: 7, finding: undefined, next: undefined, head: { seq: 27 } })
    // More than are read in one go.
    await add(...entries(1_500))
    expect(await verifyAudit(db.database)).toMatchObject({ checked: 1_527, finding: undefined })
  })
})

const TRIGGERS = [
  ['audit_log', 'audit_log_hold'],
  ['audit_log', 'audit_log_link'],
  ['audit_log', 'audit_log_advance'],
  ['audit_log', 'audit_log_refuse'],
  ['audit_head', 'audit_head_refuse'],
]

/** What somebody with all rights to the database does to the log, leaving everything as it was found. */
async function tamper(...statements: string[]): Promise<void> {
  await query(
    [
      'BEGIN',
      ...TRIGGERS.map(([table, name]) => `ALTER TABLE ${table} DISABLE TRIGGER ${name}`),
      ...statements,
      ...TRIGGERS.map(([table, name]) => `ALTER TABLE ${table} ENABLE ALWAYS TRIGGER ${name}`),
      'COMMIT',
    ].join(';\n'),
  )
}

const REHASH = 'hash = sha256(previous_hash || convert_to(audit_text(audit_log), $$UTF8$$))'
const rehash = (seq: number) => [`UPDATE audit_log SET ${REHASH} WHERE seq = ${seq}`]

describe('whoever gets around the triggers is found out', () => {
  beforeEach(() => add(...entries(8)))

  test.each([
    ['id', 'gen_random_uuid()'],
    ['at', "at + interval '1 microsecond'"],
    ['at', "'infinity'"],
    ['action', "action || ' '"],
    ['outcome', "'refused'"],
    ['actor_kind', "'user'"],
    ['actor_id', 'NULL'],
    ['actor_name', "''"],
    ['target_kind', 'NULL'],
    ['target_id', 'actor_id::text'],
    ['target_name', 'lower(target_name)'],
    ['site_id', 'fleet_id'],
    ['fleet_id', 'site_id'],
    ['request_id', 'NULL'],
    ['address', "'192.0.2.8'"],
    ['address', "'192.0.2.7/24'"],
    ['data', 'data || \'{"ratio": 0.50}\''],
    ['data', "data - 'user_id'"],
    ['previous_hash', "sha256('')"],
    ['hash', "sha256('')"],
  ])('%s of a line set to %s', async (column, value) => {
    await tamper(`UPDATE audit_log SET ${column} = ${value} WHERE seq = 4`)
    expect((await verifyAudit(db.database)).finding).toMatchObject({ seq: 4, flaw: 'line_changed' })
  })

  test('every column is among those that are tried', async () => {
    const columns = await query(
      "SELECT attname AS name FROM pg_attribute WHERE attrelid = 'audit_log'::regclass AND attnum > 0",
    )
    expect(columns.map(({ name }) => name).sort()).toEqual(
      [
        'id at action outcome actor_kind actor_id actor_name target_kind target_id target_name site_id fleet_id',
        'request_id address data previous_hash hash seq',
      ]
        .join(' ')
        .split(' ')
        .sort(),
    )
  })

  test.each<[string, string[], { seq: number; flaw: Flaw }]>([
    ['a line deleted', ['DELETE FROM audit_log WHERE seq = 4'], { seq: 4, flaw: 'lines_missing' }],
    ['lines deleted', ['DELETE FROM audit_log WHERE seq BETWEEN 4 AND 6'], { seq: 4, flaw: 'lines_missing' }],
    ['the first line deleted', ['DELETE FROM audit_log WHERE seq = 1'], { seq: 1, flaw: 'lines_missing' }],
    ['the newest lines deleted', ['DELETE FROM audit_log WHERE seq > 6'], { seq: 7, flaw: 'end_missing' }],
    ['all lines deleted', ['TRUNCATE audit_log'], { seq: 1, flaw: 'end_missing' }],
    [
      'the newest lines deleted, and the head set back without its hash',
      ['DELETE FROM audit_log WHERE seq > 6', 'UPDATE audit_head SET seq = 6'],
      { seq: 6, flaw: 'head_changed' },
    ],
    ['the head set back', ['UPDATE audit_head SET seq = 6'], { seq: 7, flaw: 'head_changed' }],
    ['the head set on', ['UPDATE audit_head SET seq = 9'], { seq: 9, flaw: 'end_missing' }],
    ['the head’s hash', ["UPDATE audit_head SET hash = sha256('')"], { seq: 8, flaw: 'head_changed' }],
    ['the head deleted', ['DELETE FROM audit_head'], { seq: 8, flaw: 'head_changed' }],
    [
      'two lines swapped',
      [
        'UPDATE audit_log SET seq = -4 WHERE seq = 4',
        'UPDATE audit_log SET seq = 4 WHERE seq = 5',
        'UPDATE audit_log SET seq = 5 WHERE seq = -4',
      ],
      { seq: 4, flaw: 'line_changed' },
    ],
    [
      'a line put in between, and all after it moved on',
      [
        'UPDATE audit_log SET seq = -seq - 1 WHERE seq >= 4',
        'UPDATE audit_log SET seq = -seq WHERE seq < 0',
        `INSERT INTO audit_log SELECT (jsonb_populate_record(l, jsonb_build_object('seq', 4, 'id', gen_random_uuid()))).*
         FROM audit_log l WHERE seq = 3`,
        'UPDATE audit_head SET seq = 9',
      ],
      { seq: 4, flaw: 'line_changed' },
    ],
    [
      'a line put in front',
      [
        `INSERT INTO audit_log SELECT (jsonb_populate_record(l, jsonb_build_object('seq', 0, 'id', gen_random_uuid()))).*
         FROM audit_log l WHERE seq = 1`,
      ],
      { seq: 0, flaw: 'line_added' },
    ],
    [
      'a line put at the end',
      [
        `INSERT INTO audit_log SELECT (jsonb_populate_record(l, jsonb_build_object('seq', 9, 'id', gen_random_uuid()))).*
         FROM audit_log l WHERE seq = 8`,
      ],
      { seq: 9, flaw: 'line_changed' },
    ],
    [
      'a line changed, and its own hash with it',
      ["UPDATE audit_log SET action = 'robot.kept' WHERE seq = 4", ...rehash(4)],
      { seq: 5, flaw: 'line_replaced' },
    ],
    [
      'the newest line changed, and its own hash with it',
      ["UPDATE audit_log SET action = 'robot.kept' WHERE seq = 8", ...rehash(8)],
      { seq: 8, flaw: 'head_changed' },
    ],
    [
      'another beginning',
      ["UPDATE audit_log SET previous_hash = sha256('') WHERE seq = 1", ...rehash(1)],
      { seq: 1, flaw: 'line_replaced' },
    ],
  ])('%s', async (_what, statements, finding) => {
    expect((await verifyAudit(db.database)).finding).toBeUndefined()
    await tamper(...statements)
    expect((await verifyAudit(db.database)).finding).toMatchObject(finding)
  })

  test('a fault stays one however much is added afterwards', async () => {
    await tamper('DELETE FROM audit_log WHERE seq > 6')
    await add(...entries(3))
    expect(await query('SELECT max(seq) AS seq FROM audit_log')).toEqual([{ seq: 11 }])
    expect((await verifyAudit(db.database)).finding).toMatchObject({ seq: 7, flaw: 'lines_missing' })
  })

  test('a log rewritten as a whole is not what was noted of it', async () => {
    const { head } = await verifyAudit(db.database)
    expect((await verifyAudit(db.database, { noted: head })).finding).toBeUndefined()
    await add(...entries(2))
    expect((await verifyAudit(db.database, { noted: head })).finding).toBeUndefined()
    const rewrite = ["UPDATE audit_log SET action = 'robot.kept' WHERE seq = 4"]
    for (let seq = 4; seq <= 10; seq++)
      rewrite.push(
        `UPDATE audit_log SET previous_hash = (SELECT hash FROM audit_log WHERE seq = ${seq - 1}) WHERE seq = ${seq}`,
        ...rehash(seq),
      )
    rewrite.push('UPDATE audit_head SET hash = (SELECT hash FROM audit_log WHERE seq = 10)')
    await tamper(...rewrite)
    expect((await verifyAudit(db.database)).finding).toBeUndefined()
    expect((await verifyAudit(db.database, { noted: head })).finding).toMatchObject({
      seq: 8,
      flaw: 'not_as_noted',
    })
  })

  test('a log cut off with its head is shorter than was noted', async () => {
    const { head } = await verifyAudit(db.database)
    await tamper(
      'DELETE FROM audit_log WHERE seq > 5',
      'UPDATE audit_head SET seq = 5, hash = (SELECT hash FROM audit_log WHERE seq = 5)',
    )
    expect((await verifyAudit(db.database)).finding).toBeUndefined()
    expect((await verifyAudit(db.database, { noted: head })).finding).toMatchObject({
      seq: 6,
      flaw: 'end_missing',
    })
  })

  test.each([
    ['ALTER TABLE audit_log DISABLE TRIGGER audit_log_refuse', 'audit_log_refuse'],
    ['ALTER TABLE audit_log ENABLE REPLICA TRIGGER audit_log_link', 'audit_log_link'],
    // Fires, unless session_replication_role says otherwise.
    ['ALTER TABLE audit_log ENABLE TRIGGER audit_log_hold', 'audit_log_hold'],
    ['DROP TRIGGER audit_log_advance ON audit_log', 'audit_log_advance'],
    ['ALTER TABLE audit_head DISABLE TRIGGER ALL', 'audit_head_refuse'],
  ])('a guard taken away by %s', async (statement, name) => {
    await query(statement)
    expect(await verifyAudit(db.database)).toMatchObject({
      checked: 8,
      finding: { seq: 9, flaw: 'unguarded', detail: expect.stringContaining(name) },
    })
  })

  test('without a head nothing can be added, and so nothing be done', async () => {
    await tamper('DELETE FROM audit_head')
    await expect(add(entry({ id: newId() }))).rejects.toThrow()
  })
})
