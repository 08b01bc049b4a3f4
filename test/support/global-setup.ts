import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { isRunning } from '../../src/db/embedded-process.ts'
import { ensureHeartbeatPartitions } from '../../src/db/heartbeat-partitions.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { urlOfDatabase } from './database-url.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** The migrated database that every test database is a copy of; nobody may stay connected to it. */
    readonly template: { readonly name: string; readonly url: string }
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
  await ensureHeartbeatPartitions(openDatabase(pool), systemClock.now())
  await pool.end()
}

/** The run's server: a private one, or, to test against another version, the one of BEACON_TEST_DATABASE_URL. */
async function findServer(): Promise<{ url: string; release: () => Promise<void> }> {
  const given = process.env.BEACON_TEST_DATABASE_URL
  if (given) return { url: given, release: async () => {} }
  await removeLeftovers().catch(() => {})
  const folder = await mkdtemp(join(tmpdir(), `beacon-tests-${process.pid}-`))
  const cluster = await startCluster(folder)
  return {
    url: cluster.url,
    async release() {
      await cluster.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function administer(url: string, statement: string): Promise<void> {
  const connection = new pg.Client({ connectionString: urlOfDatabase(url, 'postgres') })
  await connection.connect()
  await connection.query(statement).finally(() => connection.end())
}

/** One PostgreSQL for the whole run, with a migrated template database. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await findServer()
  const template = `beacon_template_${process.pid}`
  const url = urlOfDatabase(server.url, template)
  const teardown = async () => {
    await administer(server.url, `DROP DATABASE IF EXISTS ${template} WITH (FORCE)`)
    await server.release()
  }
  try {
    await administer(server.url, `CREATE DATABASE ${template} TEMPLATE template0`)
    await migrate({ url, log: createLog('silent') })
    await makePartitions(url)
    project.provide('template', { name: template, url })
    return teardown
  } catch (error) {
    await teardown()
    throw error
  }
}
