import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { isRunning } from '../../src/db/embedded-process.ts'
import { ensurePartitions, PARTITION_MS } from '../../src/db/heartbeat-partitions.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Of the migrated database that every test database is a copy of; nobody may stay connected to it. */
    readonly templateUrl: string
  }
}

const FOLDER = /^beacon-tests-(\d+)-/

/** A private PostgreSQL; made for speed, for nothing in it has to survive. */
function startCluster(dataDir: string) {
  return startEmbeddedPostgres({
    dataDir,
    log: createLog('silent'),
    clock: systemClock,
    random: systemRandom,
    settings: { fsync: 'off', full_page_writes: 'off', max_connections: '200', jit: 'off' },
  })
}

/** A run that was killed cannot clean up after itself. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = FOLDER.exec(name)?.[1]
    if (pid === undefined || (await isRunning(Number(pid)))) continue
    const folder = join(tmpdir(), name)
    const cluster = await startCluster(folder)
    await cluster.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

async function makePartitions(url: string): Promise<void> {
  const pool = openPool({
    url,
    name: 'beacon tests',
    maxConnections: 1,
    statementTimeoutMs: 20_000,
    onIdleError: () => {},
  })
  await ensurePartitions(openDatabase(pool), systemClock.now(), PARTITION_MS)
  await pool.end()
}

/** One PostgreSQL for the whole run, with a migrated template database. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeLeftovers().catch(() => {})
  const folder = await mkdtemp(join(tmpdir(), `beacon-tests-${process.pid}-`))
  const cluster = await startCluster(folder)
  const teardown = async () => {
    await cluster.stop()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await migrate({ url: cluster.url, log: createLog('silent') })
    await makePartitions(cluster.url)
    project.provide('templateUrl', cluster.url)
    return teardown
  } catch (error) {
    await teardown()
    throw error
  }
}
