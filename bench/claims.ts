import { createHash } from 'node:crypto'
import type pg from 'pg'
import { createClaims } from '../src/claims/claims.ts'
import { grantClaims } from '../src/claims/grant.ts'
import { prepareClaim } from '../src/claims/prepare.ts'
import { openDatabase, openPool } from '../src/db/database.ts'
import { newId } from '../src/ids.ts'
import { createLog } from '../src/observe/log.ts'
import { createMetrics } from '../src/observe/metrics.ts'
import type { ClaimRequest } from '../src/protocol/enrolment.ts'
import { hashToken, mintEnrollmentKey } from '../src/protocol/tokens.ts'
import { systemClock, systemRandom } from '../src/runtime.ts'
import { alternate, inParallel, perSecond, ratiosOf, spreadOf } from './support/measure.ts'
import { withPostgres } from './support/postgres.ts'
import { saveReport } from './support/report.ts'

// How many robots a second can one enrollment key admit: `grouped`, when all claims that wait are granted by one
// transaction; `alone`, when each has one of its own that does the same; `naive`, when that does the least that is exact?

const ROUNDS = 7
const NAIVE = { claims: 1_000, connections: 20 }
const ALONE = { claims: 1_000, connections: 20 }
const GROUPED = { claims: 20_000, robots: 1_000, connections: 20 }

interface HotKey {
  readonly id: string
  readonly secret: string
  readonly siteId: string
  readonly fleetId: string
}

async function createHotKey(pool: pg.Pool): Promise<HotKey> {
  const key = { id: newId(), secret: mintEnrollmentKey(), siteId: newId(), fleetId: newId() }
  await pool.query('INSERT INTO sites (id, name) VALUES ($1, $2)', [key.siteId, key.siteId])
  await pool.query('INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, $3)', [
    key.fleetId,
    key.siteId,
    'fleet',
  ])
  await pool.query(
    `INSERT INTO claim_credentials (id, kind, secret_hash, last_four, name, site_id, fleet_id, max_uses)
     VALUES ($1, 'enrollment_key', $2, $3, 'hot', $4, $5, 1000000)`,
    [key.id, hashToken(key.secret), key.secret.slice(-4), key.siteId, key.fleetId],
  )
  return key
}

function requestOf(key: HotKey, index: number): ClaimRequest {
  return {
    name: `robot-${index}`,
    claim_id: `claim-${index}`,
    token_hash: digest(`token ${key.id} ${index}`).toString('hex'),
    fingerprint: {
      hostname: `robot-${index}`,
      machine_id: `machine ${key.id} ${index}`,
      agent_version: '1.0.0',
    },
  }
}

async function requireUses(pool: pg.Pool, key: HotKey, expected: number): Promise<void> {
  const { rows } = await pool.query(
    `SELECT uses, (SELECT count(*)::int FROM robots WHERE credential_id = $1) AS robots
     FROM claim_credentials WHERE id = $1`,
    [key.id],
  )
  if (rows[0].uses !== expected || rows[0].robots !== expected)
    throw new Error(`${expected} claims left ${JSON.stringify(rows[0])}`)
}

const digest = (text: string) => createHash('sha256').update(text).digest()

/** The least that an exact claim takes: no presence row, no timeline, no look for the same machine. */
async function claimAlone(pool: pg.Pool, key: HotKey, index: number): Promise<void> {
  const connection = await pool.connect()
  try {
    await connection.query('BEGIN')
    const { rows } = await connection.query(
      `SELECT id, uses, max_uses, revoked_at, expires_at FROM claim_credentials WHERE secret_hash = $1 FOR UPDATE`,
      [hashToken(key.secret)],
    )
    if (rows[0].uses >= rows[0].max_uses) throw new Error('the key is used up')
    await connection.query(
      `INSERT INTO robots (id, site_id, fleet_id, name, credential_id, claim_id, token_hash, machine_hash, fingerprint)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
      [
        newId(),
        key.siteId,
        key.fleetId,
        `robot-${index}`,
        key.id,
        `claim-${index}`,
        digest(`token ${key.id} ${index}`),
        digest(`machine ${key.id} ${index}`),
        JSON.stringify({ hostname: `robot-${index}`, agent_version: '1.0.0' }),
      ],
    )
    await connection.query(
      'UPDATE claim_credentials SET uses = uses + 1, last_used_at = now() WHERE id = $1',
      [key.id],
    )
    await connection.query('COMMIT')
  } finally {
    connection.release()
  }
}

await withPostgres(async (url) => {
  const pool = openPool({
    url,
    name: 'bench',
    maxConnections: NAIVE.connections,
    statementTimeoutMs: 60_000,
    onIdleError: () => {},
  })
  const database = openDatabase(pool)
  const claims = createClaims({
    database,
    clock: systemClock,
    random: systemRandom,
    audit: { refused: () => {}, used: () => {} },
    log: createLog('silent'),
    metrics: createMetrics(),
    defaults: { heartbeatIntervalMs: 10_000 },
  })

  async function naive(): Promise<number> {
    const key = await createHotKey(pool)
    const rate = await perSecond(async () => {
      await inParallel(NAIVE.claims, NAIVE.connections, (index) => claimAlone(pool, key, index))
      return NAIVE.claims
    })
    await requireUses(pool, key, NAIVE.claims)
    return rate
  }

  async function alone(): Promise<number> {
    const key = await createHotKey(pool)
    const rate = await perSecond(async () => {
      await inParallel(ALONE.claims, ALONE.connections, async (index) => {
        const { claim } = prepareClaim(
          requestOf(key, index),
          { address: '192.0.2.1', requestId: 'bench' },
          systemRandom,
        )
        await grantClaims({ database, tellsOfClone: () => true }, key.id, [claim])
      })
      return ALONE.claims
    })
    await requireUses(pool, key, ALONE.claims)
    return rate
  }

  async function grouped(): Promise<number> {
    const key = await createHotKey(pool)
    const rate = await perSecond(async () => {
      await inParallel(GROUPED.claims, GROUPED.robots, async (index) => {
        await claims.claim({
          secret: key.secret,
          request: requestOf(key, index),
          address: '192.0.2.1',
          requestId: 'bench',
        })
      })
      return GROUPED.claims
    })
    await requireUses(pool, key, GROUPED.claims)
    return rate
  }

  const rates = await alternate(ROUNDS, { naive, grouped, alone })
  await claims.idle()
  await pool.end()

  await saveReport({
    name: 'claims',
    question:
      'Claims a second on one hot key: granted in groups; each in a transaction of its own that does the same (alone); ' +
      'or each in one that does the least that is exact (naive)',
    figures: [
      { what: 'grouped claims/s', spread: spreadOf(rates.grouped) },
      { what: 'alone claims/s', spread: spreadOf(rates.alone) },
      { what: 'naive claims/s', spread: spreadOf(rates.naive) },
      {
        what: 'ratio: grouped over one transaction for each that does the same (alone)',
        spread: spreadOf(ratiosOf(rates.grouped, rates.alone)),
        digits: 1,
        headline: true,
      },
      {
        what: 'grouped over one that does the least that is exact (naive)',
        spread: spreadOf(ratiosOf(rates.grouped, rates.naive)),
        digits: 1,
      },
    ],
    settings: { rounds: ROUNDS, naive: NAIVE, alone: ALONE, grouped: GROUPED, fsync: 'on' },
    rounds: rates,
  })
})
