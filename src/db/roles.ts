import pg from 'pg'
import type { Log } from '../observe/log.ts'
import type { Random } from '../runtime.ts'
import { sqlState } from './database.ts'
import { MIGRATION_LOCK, MigrationError } from './migrate.ts'

/**
 * What the running server works as. It reads and writes the tables, adds to the audit log and can change nothing that is
 * in it, and owns nothing. The role belongs to the whole PostgreSQL server; its rights to each database.
 */
export const SERVER_ROLE = 'beacon_server'
/** What packs heartbeats, and makes and drops their partitions: it owns the tables of the history, and no other. */
export const UPKEEP_ROLE = 'beacon_upkeep'

const ALL = ['DELETE', 'INSERT', 'SELECT', 'UPDATE']
const FEWER_RIGHTS: Readonly<Record<string, readonly string[]>> = {
  audit_log: ['INSERT', 'SELECT'],
  audit_head: ['SELECT'],
  schema_migrations: ['SELECT'],
  heartbeat_packs: ['SELECT'],
  heartbeat_minutes: ['SELECT'],
  heartbeat_hours: ['SELECT'],
  heartbeat_packing: ['SELECT'],
  heartbeats_set_aside: ['SELECT'],
  heartbeats_unreadable: ['SELECT'],
}
const HISTORY_TABLES = '^heartbeat(s|s_set_aside|s_unreadable|_packs|_minutes|_hours|_packing)'

export interface RoleOptions {
  /** Owns the tables. */
  readonly ownerUrl: string
  /** What the server itself is to connect with; undefined: the owner's. */
  readonly serverUrl: string | undefined
  /** The PostgreSQL is our own: the server gets logins that are made for it. */
  readonly ownLogins: boolean
  readonly random: Random
  readonly log: Log
}

export interface RoleUrls {
  readonly server: string
  readonly upkeep: string
  /** No way leads from the server's login to the rights of the audit log's owner. */
  readonly separated: boolean
}

/**
 * Gives the server's role its rights, as far as the owner may do that, and answers with what to connect. Run after every
 * migration, so that new tables are covered; where nothing is missing it writes nothing.
 */
export async function separateRoles(options: RoleOptions): Promise<RoleUrls> {
  const { ownerUrl, log } = options
  const owner = await connect(ownerUrl, 'beacon roles')
  try {
    await owner.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK])
    const serverRole = await attempt(log, 'grant the server its rights', () => prepareServerRole(owner))
    const upkeepRole = await attempt(log, 'hand the heartbeats over', () => prepareUpkeepRole(owner))
    const plain = options.ownLogins
      ? {
          server: await makeLogin(owner, ownerUrl, SERVER_ROLE, options.random),
          upkeep: await makeLogin(owner, ownerUrl, UPKEEP_ROLE, options.random),
        }
      : { server: options.serverUrl ?? ownerUrl, upkeep: ownerUrl }
    const { serverUrl } = options
    if (serverRole && serverUrl !== undefined)
      await attempt(log, "make the server's login a member", () => admitLogin(owner, serverUrl))
    const server = serverRole ? await inRole(plain.server, SERVER_ROLE) : plain.server
    const upkeep = upkeepRole ? await inRole(plain.upkeep, UPKEEP_ROLE) : plain.upkeep
    const separated = !(await reachesOwner(server))
    if (!separated)
      log.warn(
        'the login of BEACON_DATABASE_URL owns the audit log: changing it is refused, but not to whoever takes the ' +
          'refusal away with that login; BEACON_DATABASE_OWNER_URL separates the two, see docs/contract.md',
      )
    return { server, upkeep, separated }
  } finally {
    // The lock goes with the connection.
    await owner.end()
  }
}

async function connect(url: string, name: string): Promise<pg.Client> {
  const connection = new pg.Client({ connectionString: url, application_name: name })
  connection.on('error', () => {})
  await connection.connect()
  return connection
}

/** The same address, for connections that work as the role from the start. */
export function withRole(url: string, role: string): string {
  const [address = '', query] = url.split('?', 2)
  const parameters = new URLSearchParams(query)
  const others = parameters.get('options')
  parameters.set('options', `${others ? `${others} ` : ''}-c role=${role}`)
  return `${address}?${parameters}`
}

/** `withRole` where the login may take the role, and whatever stands between lets it; otherwise the address as it is. */
async function inRole(url: string, role: string): Promise<string> {
  const wanted = withRole(url, role)
  try {
    const connection = await connect(wanted, 'beacon roles')
    try {
      const { rows } = await connection.query<{ role: string }>('SELECT current_user AS role')
      return rows[0]?.role === role ? wanted : url
    } finally {
      await connection.end()
    }
  } catch {
    // What else may be wrong shows with the plain address.
    return url
  }
}

const INSUFFICIENT_PRIVILEGE = '42501'
/** Roles belong to the whole PostgreSQL server: another one's server may be at the same in another database. */
const MET_ANOTHER = new Set(['42710', '23505', '40001', '40P01', 'XX000'])
const ATTEMPTS = 5

/** False when the owner may not do it; what meets another server's change is done again. */
async function attempt(log: Log, what: string, work: () => Promise<boolean>): Promise<boolean> {
  for (let round = 1; ; round++) {
    try {
      return await work()
    } catch (error) {
      const state = sqlState(error) ?? ''
      if (MET_ANOTHER.has(state) && round < ATTEMPTS) continue
      if (state !== INSUFFICIENT_PRIVILEGE) throw error
      log.debug({ err: error }, `the database's owner cannot ${what}`)
      return false
    }
  }
}

async function inTransaction<Result>(owner: pg.Client, work: () => Promise<Result>): Promise<Result> {
  await owner.query('BEGIN')
  try {
    const result = await work()
    await owner.query('COMMIT')
    return result
  } catch (error) {
    await owner.query('ROLLBACK').catch(() => {})
    throw error
  }
}

/** The role is there, and the owner may take it. */
async function ensureRole(owner: pg.Client, role: string): Promise<void> {
  const { rowCount } = await owner.query('SELECT FROM pg_roles WHERE rolname = $1', [role])
  if (rowCount === 0) await owner.query(`CREATE ROLE ${role} NOLOGIN`)
  if (!(await mayTake(owner, role))) await owner.query(`GRANT ${role} TO CURRENT_USER`)
}

async function mayTake(connection: pg.Client, role: string): Promise<boolean> {
  const { rows } = await connection.query<{ may: boolean }>(
    `SELECT pg_has_role(session_user, $1, CASE WHEN current_setting('server_version_num')::integer < 160000
       THEN 'MEMBER' ELSE 'SET' END) AS may`,
    [role],
  )
  return rows[0]?.may === true
}

async function prepareServerRole(owner: pg.Client): Promise<boolean> {
  const { rowCount: isOwner } = await owner.query(
    "SELECT FROM pg_class WHERE oid = 'audit_log'::regclass AND pg_get_userbyid(relowner) = $1",
    [SERVER_ROLE],
  )
  if (isOwner) return false
  await ensureRole(owner, SERVER_ROLE)
  return inTransaction(owner, async () => {
    await grantSchema(owner, SERVER_ROLE, ['USAGE'])
    for (const { name, held } of await readRights(owner)) {
      const wanted = FEWER_RIGHTS[name] ?? ALL
      const table = pg.escapeIdentifier(name)
      const missing = wanted.filter((right) => !held.includes(right))
      const excess = held.filter((right) => !wanted.includes(right))
      if (missing.length > 0) await owner.query(`GRANT ${missing.join(', ')} ON ${table} TO ${SERVER_ROLE}`)
      if (excess.length > 0) await owner.query(`REVOKE ${excess.join(', ')} ON ${table} FROM ${SERVER_ROLE}`)
    }
    return true
  })
}

/** Every table of ours, with the rights that the server's role was given; partitions are reached through their table. */
async function readRights(owner: pg.Client): Promise<{ name: string; held: string[] }[]> {
  const { rows } = await owner.query<{ name: string; held: string[] }>(
    `SELECT relname AS name, ARRAY(
       SELECT privilege_type FROM aclexplode(relacl) AS given
       WHERE given.grantee = (SELECT oid FROM pg_roles WHERE rolname = $1)) AS held
     FROM pg_class
     WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
       AND relname !~ $2 AND pg_has_role(current_user, relowner, 'USAGE')
     ORDER BY relname`,
    [SERVER_ROLE, `${HISTORY_TABLES}_p[0-9]`],
  )
  return rows
}

async function grantSchema(owner: pg.Client, role: string, rights: readonly string[]): Promise<void> {
  const { rows } = await owner.query<{ name: string; has: boolean }>(
    `SELECT current_schema() AS name, bool_and(has_schema_privilege($1, current_schema(), wanted)) AS has
     FROM unnest($2::text[]) AS wanted`,
    [role, rights],
  )
  const { name, has } = rows[0]!
  if (!has) await owner.query(`GRANT ${rights.join(', ')} ON SCHEMA ${pg.escapeIdentifier(name)} TO ${role}`)
}

async function prepareUpkeepRole(owner: pg.Client): Promise<boolean> {
  await ensureRole(owner, UPKEEP_ROLE)
  return inTransaction(owner, async () => {
    await grantSchema(owner, UPKEEP_ROLE, ['USAGE', 'CREATE'])
    // The table before its partitions, in the order in which writers take them.
    const { rows } = await owner.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class
       WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND relname ~ $2
         AND relowner <> (SELECT oid FROM pg_roles WHERE rolname = $1)
       ORDER BY relname`,
      [UPKEEP_ROLE, `${HISTORY_TABLES}(_p[0-9]|$)`],
    )
    for (const { name } of rows)
      await owner.query(`ALTER TABLE ${pg.escapeIdentifier(name)} OWNER TO ${UPKEEP_ROLE}`)
    return true
  })
}

/** A login that can be nothing but the role; its password is made anew at each start and written down nowhere. */
async function makeLogin(owner: pg.Client, url: string, role: string, random: Random): Promise<string> {
  const login = `${role}_login`
  const password = random.bytes(32).toString('hex')
  const { rowCount } = await owner.query('SELECT FROM pg_roles WHERE rolname = $1', [login])
  if (rowCount === 0) await owner.query(`CREATE ROLE ${login} LOGIN IN ROLE ${role}`)
  await owner.query(`ALTER ROLE ${login} PASSWORD '${password}'`)
  return url.replace(/^(postgres(?:ql)?:\/\/)[^@]*@/, `$1${login}:${password}@`)
}

/** Makes the login of another address a member of the server's role. */
async function admitLogin(owner: pg.Client, serverUrl: string): Promise<boolean> {
  const connection = await connect(serverUrl, 'beacon roles')
  let login: string
  try {
    if (await mayTake(connection, SERVER_ROLE)) return true
    const { rows } = await connection.query<{ login: string }>('SELECT session_user AS login')
    login = rows[0]!.login
  } finally {
    await connection.end()
  }
  await owner.query(`GRANT ${SERVER_ROLE} TO ${pg.escapeIdentifier(login)}`)
  return true
}

/** Whether the login is, or can become, the owner of the audit log. Throws when it may not even use it. */
async function reachesOwner(url: string): Promise<boolean> {
  const connection = await connect(url, 'beacon roles')
  try {
    const { rows } = await connection.query<{ login: string; uses: boolean; reaches: boolean }>(
      `SELECT session_user AS login, has_table_privilege(audit_log.oid, 'INSERT') AS uses,
         rolsuper OR pg_has_role(session_user, audit_log.relowner, 'MEMBER') AS reaches
       FROM pg_roles, pg_class AS audit_log
       WHERE rolname = session_user AND audit_log.oid = 'audit_log'::regclass`,
    )
    const { login, uses, reaches } = rows[0]!
    if (!uses)
      throw new MigrationError(
        `the login "${login}" may not use the tables: as their owner, run GRANT ${SERVER_ROLE} TO ${pg.escapeIdentifier(login)}`,
      )
    return reaches
  } finally {
    await connection.end()
  }
}
