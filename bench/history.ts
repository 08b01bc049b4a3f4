import { listHeartbeats, summarizeHeartbeats } from '../src/db/heartbeat-history.ts'
import { writeLatestHeartbeats } from '../src/db/heartbeat-writes.ts'
import { newId } from '../src/ids.ts'
import { systemRandom } from '../src/runtime.ts'
import { withConnection } from './support/database.ts'
import { enrolRobots } from './support/fleet.ts'
import { drivingRobot } from './support/heartbeat-bodies.ts'
import { DAY_MS, HOUR_MS, KEPT, openBenchHistory, type Packed } from './support/history.ts'
import { alternate, quantile, spreadOf } from './support/measure.ts'
import { withPostgres } from './support/postgres.ts'
import { type Figure, saveReport } from './support/report.ts'

// What does a heartbeat cost on disk and to pack, how fast is a robot's history read, and does packing slow the writing?

const ROUNDS = 3
/** Whose heartbeats are packed as they come. */
const ROBOTS = 300
/** Robots that have all days of a history, and as how many more they are copied. */
const SOURCES = 4
const COPIES = [0, 30, 120]
const DAYS = 30
const READS = 30
const WRITES = 300
const WRITTEN_AT_ONCE = 100
/** Beginning of an hour; nothing of it is now. */
const BEGIN = Date.parse('2030-03-01T00:00:00Z')

const figures: Figure[] = []
const rounds: Record<string, unknown> = {}

await withPostgres(async (url) => {
  const history = await openBenchHistory(url)
  const { database } = history
  const robots = (await enrolRobots(url, ROBOTS)).map(({ id }) => id)
  const TABLES = ['heartbeat_packs', 'heartbeat_minutes', 'heartbeat_hours']

  const packs: (Packed & { readonly rowBytes: number; readonly bytes: readonly number[] })[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const from = BEGIN + round * HOUR_MS
    const rowsBefore = await history.bytesOf('heartbeats')
    const before = await Promise.all(TABLES.map(history.bytesOf))
    const count = await history.fill(robots, from, from + HOUR_MS)
    const rowBytes = ((await history.bytesOf('heartbeats')) - rowsBefore) / count
    const packed = await history.pack(from + HOUR_MS + 10 * 60_000)
    const after = await Promise.all(TABLES.map(history.bytesOf))
    packs.push({ ...packed, rowBytes, bytes: after.map((bytes, index) => (bytes - before[index]!) / count) })
  }
  rounds.packs = packs
  const each = (of: (packed: (typeof packs)[number]) => number) => spreadOf(packs.map(of))
  figures.push(
    { what: 'bytes of a heartbeat as a row', spread: each(({ rowBytes }) => rowBytes) },
    {
      what: 'bytes of a heartbeat in a pack, all included',
      spread: each(({ bytes }) => bytes[0]!),
      digits: 1,
      headline: true,
    },
    { what: 'bytes of its minutes', spread: each(({ bytes }) => bytes[1]!), digits: 1 },
    {
      what: 'packing: processor µs of Node per heartbeat',
      spread: each((packed) => (packed.nodeSeconds * 1e6) / packed.heartbeats),
      digits: 1,
      headline: true,
    },
    {
      what: 'packing: processor µs of PostgreSQL per heartbeat',
      spread: each((packed) => (packed.databaseSeconds * 1e6) / packed.heartbeats),
      digits: 1,
      headline: true,
    },
    {
      what: 'packing: turns of the event loop, p99 ms',
      spread: each(({ turnP99Ms }) => turnP99Ms),
      digits: 1,
    },
    { what: 'packing: heartbeats/s', spread: each((packed) => packed.heartbeats / packed.seconds) },
  )

  // All days of some robots come late and at once, at the end of the time that is looked back at.
  const sources = robots.slice(0, SOURCES)
  const now = BEGIN + 6 * HOUR_MS
  const rowsFrom = now - 2 * HOUR_MS
  await history.fill(sources, now - DAYS * DAY_MS, rowsFrom, rowsFrom - HOUR_MS)
  const late = await history.pack(rowsFrom + 10 * 60_000)
  rounds.late = late
  await history.fill(sources, rowsFrom, now)
  await withConnection(url, (connection) => connection.query('VACUUM ANALYZE'))
  const known = [...sources]
  for (const copies of COPIES) {
    while (known.length < SOURCES * (copies + 1)) {
      const source = sources[known.length % SOURCES]!
      const copy = newId()
      known.push(copy)
      await withConnection(url, async (connection) => {
        for (const [table, columns, kept] of [
          [
            'heartbeat_packs',
            'hour, received_at, first_at, last_at, lowest_seq, highest_seq, heartbeats, data',
            "hour > $3::timestamptz - interval '2 days'",
          ],
          ['heartbeat_minutes', 'begins, data', "begins > $3::timestamptz - interval '14 days'"],
          ['heartbeat_hours', 'begins, data', '$3::timestamptz IS NOT NULL'],
        ])
          await connection.query(
            `INSERT INTO ${table} (robot_id, ${columns}) SELECT $2::uuid, ${columns} FROM ${table} WHERE robot_id = $1 AND ${kept}`,
            [source, copy, new Date(now)],
          )
        await connection.query(
          `INSERT INTO heartbeats SELECT $2::uuid, received_at, at, session_no, seq, body FROM heartbeats
           WHERE robot_id = $1 AND received_at >= $3`,
          [source, copy, new Date(rowsFrom)],
        )
      })
    }
    await withConnection(url, (connection) => connection.query('ANALYZE'))
    await measureReads(known)
  }

  async function measureReads(of: readonly string[]): Promise<void> {
    const range = (ms: number) => ({ from: new Date(now - ms), to: new Date(now) })
    const sums = async (robot: string, ms: number, stepMs: number) => {
      const { numbers } = await summarizeHeartbeats(database, robot, range(ms), {
        stepMs,
        fields: undefined,
        retention: KEPT,
        now,
      })
      return numbers
    }
    const reads = {
      'an hour as it came': (robot: string) =>
        listHeartbeats(
          database,
          robot,
          { from: new Date(now - 4 * HOUR_MS), to: new Date(now - 3 * HOUR_MS) },
          { limit: 1_000, after: undefined },
        ),
      '24 hours by 1 m': (robot: string) => sums(robot, DAY_MS, 60_000),
      '7 days by 10 m': (robot: string) => sums(robot, 7 * DAY_MS, 600_000),
      '30 days by 1 h': (robot: string) => sums(robot, 30 * DAY_MS, HOUR_MS),
    }
    for (const [what, read] of Object.entries(reads)) {
      const measured: { p50: number; p99: number }[] = []
      for (let round = 0; round <= ROUNDS; round++) {
        const times = new Float64Array(READS)
        for (let index = 0; index < READS; index++) {
          const robot = of[Math.floor(systemRandom.fraction() * of.length)]!
          const begun = performance.now()
          const rows = await read(robot)
          times[index] = performance.now() - begun
          if (rows.length < 100) throw new Error(`${what}: only ${rows.length}`)
        }
        times.sort()
        // The first round fills what is kept in memory.
        if (round > 0) measured.push({ p50: quantile(times, 0.5), p99: quantile(times, 0.99) })
      }
      for (const share of ['p50', 'p99'] as const)
        figures.push({
          what: `${what}, ${of.length} robots: ${share} ms`,
          spread: spreadOf(measured.map((round) => round[share])),
          digits: 1,
          headline: share === 'p99' && of.length === SOURCES * (COPIES.at(-1)! + 1),
        })
      rounds[`${what}, ${of.length} robots`] = measured
    }
  }

  // As the gateway writes them, beside packing that never pauses, and alone.
  const writers = robots.slice(-WRITTEN_AT_ONCE)
  await withConnection(url, (connection) =>
    connection.query('UPDATE robot_status SET session_no = 1 WHERE robot_id = ANY ($1::uuid[])', [writers]),
  )
  const body = drivingRobot(systemRandom)
  let hour = 7
  let seq = 1_000_000
  const writing = async () => {
    const times = new Float64Array(WRITES)
    for (let index = 0; index < WRITES; index++) {
      seq += 1
      const receivedAt = BEGIN + 100 * HOUR_MS + seq
      const rows = writers.map((robotId) => ({
        robotId,
        sessionNo: 1,
        seq,
        at: new Date(receivedAt).toISOString(),
        receivedAt,
        health: 'ok',
        body: JSON.stringify(body()),
        recheck: false,
        latest: true,
      }))
      const begun = performance.now()
      await writeLatestHeartbeats(database, rows)
      times[index] = performance.now() - begun
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return quantile(times.sort(), 0.99)
  }
  await history.fill([], BEGIN + 100 * HOUR_MS, BEGIN + 102 * HOUR_MS)
  const written = await alternate(ROUNDS, {
    alone: writing,
    async beside() {
      const from = BEGIN + hour * HOUR_MS
      hour += 1
      await history.fill(robots, from, from + HOUR_MS)
      const packing = history.pack(from + HOUR_MS + 10 * 60_000)
      const p99 = await writing()
      await packing
      return p99
    },
  })
  rounds.written = written
  figures.push(
    { what: `writing ${WRITTEN_AT_ONCE} heartbeats: p99 ms`, spread: spreadOf(written.alone), digits: 1 },
    {
      what: 'the same beside packing without pause: p99 ms',
      spread: spreadOf(written.beside),
      digits: 1,
      headline: true,
    },
  )
  await history.end()
})

await saveReport({
  name: 'history',
  question:
    'What a heartbeat costs on disk and to pack, how fast a robot’s history is read, and what packing does to writing',
  figures,
  settings: { robots: ROBOTS, days: DAYS, interval_s: 10, reads: READS },
  rounds,
})
