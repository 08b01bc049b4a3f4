import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  type Environment,
  makeDataFolder,
  type ServerProcess,
  startServer,
} from '../support/server-process.ts'
import { type Fleet, mintToken, Operator, type Site } from './independent/operator.ts'

/** What every server of these tests is given: a short interval, so that silence shows within seconds. */
export const settings = (dataDir: string, adminToken: string): Environment => ({
  BEACON_DATA_DIR: dataDir,
  BEACON_ADMIN_TOKEN: adminToken,
  BEACON_HEARTBEAT_SECONDS: '0.5',
})

export interface Scene {
  readonly servers: readonly ServerProcess[]
  readonly operator: Operator
  readonly adminToken: string
  readonly database: TestDatabase
  readonly env: Environment
  readonly site: Site
  readonly fleet: Fleet
  /** Another server on the same database. */
  addServer(env?: Environment): Promise<ServerProcess>
  end(): Promise<void>
}

/** Servers on one database of their own, with an operator, a site and a fleet. */
export async function startScene({
  servers = 1,
  env = {},
  descriptors,
}: {
  readonly servers?: number
  readonly env?: Environment
  /** How many each process may have open. */
  readonly descriptors?: number
} = {}): Promise<Scene> {
  const database = await createTestDatabase()
  const folder = await makeDataFolder()
  const adminToken = mintToken('rf_pat_')
  const all: Environment = {
    ...settings(folder, adminToken),
    BEACON_DATABASE_URL: database.url,
    // The same for all: what one seals the others have to read.
    BEACON_SECRET_KEY: randomBytes(32).toString('hex'),
    ...env,
  }
  const running: ServerProcess[] = []
  const end = async () => {
    await Promise.all(running.map((server) => server.kill9()))
    await database.drop()
    await rm(folder, { recursive: true, force: true })
  }
  const addServer = async (more: Environment = {}) => {
    const server = await startServer({ ...all, ...more }, descriptors)
    running.push(server)
    return server
  }
  try {
    while (running.length < servers) await addServer()
    const operator = new Operator(running[0]!.url, adminToken)
    const site = await operator.site('Plant')
    const fleet = await operator.fleet(site.id, 'Carts')
    return { servers: running, operator, adminToken, database, env: all, site, fleet, addServer, end }
  } catch (error) {
    await end()
    throw error
  }
}

export interface StoredHeartbeat {
  readonly robot_id: string
  readonly seq: number
  readonly at: Date
}

/** The history as the database holds it, behind the server's back. */
export async function storedHeartbeats(
  pool: TestDatabase['pool'],
  robotId: string,
): Promise<readonly StoredHeartbeat[]> {
  const { rows } = await pool.query(
    'SELECT robot_id, seq, at FROM heartbeats WHERE robot_id = $1 ORDER BY seq, received_at',
    [robotId],
  )
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }))
}

/** uses of a key, and the robots it admitted, as the database holds them. */
export async function countsOf(pool: TestDatabase['pool'], keyId: string) {
  const { rows } = await pool.query(
    `SELECT uses, (SELECT count(*)::int FROM robots WHERE credential_id = key.id) AS robots
       FROM claim_credentials AS key WHERE id = $1`,
    [keyId],
  )
  return rows[0] as { uses: number; robots: number }
}
