import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { verifyAudit } from '../../src/audit/verify.ts'
import { insertAudit } from '../../src/db/audit.ts'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { ensureHeartbeatPartitions } from '../../src/db/heartbeat-partitions.ts'
import { dropPartitions, HEARTBEATS } from '../../src/db/history-partitions.ts'
import { migrate } from '../../src/db/migrate.ts'
import { type RoleUrls, separateRoles } from '../../src/db/roles.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemRandom } from '../../src/runtime.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { embeddedUrl, makeDataFolder, removeDataFolder, startServer } from '../support/server-process.ts'
import { entry } from './entries.ts'

let databases: TestDatabase[]
let logins: string[]

beforeEach(() => {
  databases = []
  logins = []
})

afterEach(async () => {
  const [first] = databases
  for (const database of databases.slice(1)) await database.drop()
  for (const login of logins) await first?.pool.query(`DROP OWNED BY ${login} CASCADE`).catch(() => {})
  if (logins.length > 0) {
    const server = new pg.Client({
      connectionString: databases[0]!.url.replace(/\/[^/?]*(\?|$)/, '/postgres$1'),
    })
    await first?.drop()
    await server.connect()
    for (const login of logins) await server.query(`DROP ROLE ${login}`)
    await server.end()
  } else await first?.drop()
})

async function database(make = createTestDatabase): Promise<TestDatabase> {
  const made = await make()
  databases.push(made)
  return made
}

/** A login of the test's own, and the database's address with it. */
async function makeLogin(db: TestDatabase, attributes = ''): Promise<{ login: string; url: string }> {
  const login = `test_login_${randomBytes(6).toString('hex')}`
  await db.pool.query(`CREATE ROLE ${login} LOGIN PASSWORD 'open' ${attributes}`)
  logins.push(login)
  return { login, url: db.url.replace(/\/\/[^@]*@/, `//${login}:open@`) }
}

function separate(options: {
  ownerUrl: string
  serverUrl?: string
  ownLogins?: boolean
  said?: Record<string, unknown>[]
}): Promise<RoleUrls> {
  return separateRoles({
    ownerUrl: options.ownerUrl,
    serverUrl: options.serverUrl,
    ownLogins: options.ownLogins ?? false,
    random: systemRandom,
    log: createLog('info', { write: (line: string) => void options.said?.push(JSON.parse(line)) }),
  })
}

async function as<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const TAMPERING = [
  "UPDATE audit_log SET action = 'site.forged'",
  'UPDATE audit_log SET hash = previous_hash WHERE false',
  'DELETE FROM audit_log',
  'TRUNCATE audit_log',
  "MERGE INTO audit_log USING (SELECT 1) AS one ON true WHEN MATCHED THEN UPDATE SET action = 'x'",
  "INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (id) DO UPDATE SET action = 'x'",
  'UPDATE audit_head SET seq = 0',
  'DELETE FROM audit_head',
  'TRUNCATE audit_head',
  "INSERT INTO audit_head (only_row, seq, hash) VALUES (true, 0, decode(repeat('00', 32), 'hex'))",
]

const BY_OWNERS_ONLY = [
  'SELECT FROM audit_log FOR UPDATE',
  'SELECT FROM audit_head FOR UPDATE',
  'ALTER TABLE audit_log DISABLE TRIGGER ALL',
  'ALTER TABLE audit_log DISABLE TRIGGER audit_log_refuse',
  'ALTER TABLE audit_log DROP COLUMN hash',
  'ALTER TABLE audit_log RENAME TO another',
  'ALTER TABLE audit_log OWNER TO CURRENT_USER',
  'DROP TABLE audit_log CASCADE',
  'DROP TABLE audit_head',
  'DROP TRIGGER audit_log_refuse ON audit_log',
  'DROP FUNCTION audit_log_link CASCADE',
  'ALTER FUNCTION audit_log_link() RESET ALL',
  'CREATE TRIGGER mine BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_link()',
  'CREATE RULE mine AS ON INSERT TO audit_log DO INSTEAD NOTHING',
  'CREATE POLICY mine ON audit_log USING (false)',
  'CREATE TABLE mine (id integer)',
  'CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$',
  'SELECT audit_log_advance()',
  "UPDATE schema_migrations SET sha256 = ''",
  "SET session_replication_role = 'replica'",
  'SET ROLE beacon_upkeep',
  'ALTER TABLE heartbeats DISABLE TRIGGER ALL',
  "COPY (SELECT 1) TO PROGRAM 'true'",
]

/** insufficient_privilege: of PostgreSQL itself, or of the log's own triggers. */
const REFUSED = { code: '42501' }

async function refusalsOf(client: pg.Client, statements: readonly string[]): Promise<void> {
  for (const statement of statements)
    await expect(
      client.query(statement).then(() => 'let through'),
      statement,
    ).rejects.toMatchObject(REFUSED)
}

async function linesOf(db: TestDatabase): Promise<unknown[]> {
  return (await db.pool.query('SELECT * FROM audit_log ORDER BY seq')).rows
}

describe('the logins of a private PostgreSQL', () => {
  test('are those of the running server, and cannot change the log or become anybody who can', {
    timeout: 90_000,
  }, async () => {
    const folder = await makeDataFolder()
    const server = await startServer({ BEACON_DATA_DIR: folder })
    try {
      const owner = await embeddedUrl(folder)
      await as(owner, async (client) => {
        const { rows } = await client.query<{ name: string; login: string; super: boolean; datname: string }>(
          `SELECT application_name AS name, usename AS login, rolsuper AS super, datname
           FROM pg_stat_activity JOIN pg_roles ON rolname = usename
           WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
        )
        const working = rows.filter(({ datname }) => datname === 'beacon')
        expect(working.length).toBeGreaterThan(1)
        for (const { name, login, super: isSuper } of working) {
          expect(login, name).toBe(name === 'beacon upkeep' ? 'beacon_upkeep_login' : 'beacon_server_login')
          expect(isSuper, name).toBe(false)
        }
        // The one that guards the data folder is in another database, where there is nothing.
        expect(rows.filter(({ datname }) => datname !== 'beacon').map(({ datname }) => datname)).toEqual([
          'postgres',
        ])
        const { rows: reach } = await client.query(
          `SELECT login, pg_has_role(login, relowner, 'MEMBER') AS owner,
             has_table_privilege(login, 'audit_log', 'UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS changes,
             has_table_privilege(login, 'audit_head', 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') AS head
           FROM pg_class, unnest(ARRAY['beacon_server_login', 'beacon_upkeep_login', 'beacon_server', 'beacon_upkeep'])
             AS login
           WHERE pg_class.oid = 'audit_log'::regclass ORDER BY login`,
        )
        expect(reach).toHaveLength(4)
        for (const role of reach) expect(role).toMatchObject({ owner: false, changes: false, head: false })
      })
      expect(server.output).not.toContain('owns the audit log')
    } finally {
      await server.stop()
      await removeDataFolder(folder)
    }
  })
})

describe('the server’s role', () => {
  test('adds lines, and can do nothing else to the log or its head', async () => {
    const db = await database()
    await insertAudit(db.database, [entry(), entry()])
    const before = await linesOf(db)
    const { url: serverUrl } = await makeLogin(db)
    const urls = await separate({ ownerUrl: db.url, serverUrl })
    expect(urls.separated).toBe(true)
    await as(urls.server, async (client) => {
      await refusalsOf(client, [...TAMPERING, ...BY_OWNERS_ONLY])
      await client.query('RESET ROLE')
      await refusalsOf(client, [...TAMPERING, ...BY_OWNERS_ONLY])
      await client.query('SET ROLE NONE')
      await refusalsOf(client, [...TAMPERING, ...BY_OWNERS_ONLY])
    })
    expect(await linesOf(db)).toEqual(before)
    const pool = openPool({
      url: urls.server,
      name: 'test',
      maxConnections: 1,
      statementTimeoutMs: 5_000,
      onIdleError: () => {},
    })
    await insertAudit(openDatabase(pool), [entry()])
    await pool.end()
    expect(await linesOf(db)).toHaveLength(3)
  })

  test('finds no tables of its own making in the place of the log’s', async () => {
    const db = await database()
    const { url: serverUrl } = await makeLogin(db)
    const { server } = await separate({ ownerUrl: db.url, serverUrl })
    await as(server, async (client) => {
      await client.query(
        'CREATE TEMP TABLE audit_head AS SELECT true AS only_row, 100::bigint AS seq, sha256($$$$) AS hash',
      )
      await client.query('CREATE TEMP TABLE audit_log_copy (LIKE audit_log)')
      await client.query('SET search_path = pg_temp, public')
      await client.query(
        "INSERT INTO public.audit_log (seq, id, at, action, outcome, actor_kind, previous_hash, hash) VALUES (7, gen_random_uuid(), now(), 'a.b', 'ok', 'server', sha256(''), sha256(''))",
      )
    })
    const { rows } = await db.pool.query('SELECT seq, previous_hash FROM audit_log')
    expect(rows).toEqual([{ seq: 1, previous_hash: Buffer.alloc(32) }])
  })

  test('has rights to every table, those that come later included', async () => {
    const db = await database()
    await db.pool.query('CREATE TABLE added_later (id integer)')
    const { url: serverUrl } = await makeLogin(db)
    const { server } = await separate({ ownerUrl: db.url, serverUrl })
    const rightsOf = () =>
      as(server, async (client) => {
        const { rows } = await client.query<{ name: string; rights: string[] }>(
          `SELECT relname AS name, ARRAY(SELECT one FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
             'REFERENCES', 'TRIGGER']) AS one WHERE has_table_privilege(oid, one)) AS rights
           FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`,
        )
        return Object.fromEntries(rows.map(({ name, rights }) => [name, rights.join(' ')]))
      })
    const { audit_log, audit_head, schema_migrations, ...others } = await rightsOf()
    expect({ audit_log, audit_head, schema_migrations }).toEqual({
      audit_log: 'SELECT INSERT',
      audit_head: 'SELECT',
      schema_migrations: 'SELECT',
    })
    expect(Object.keys(others)).toEqual(
      expect.arrayContaining(['added_later', 'robots', 'heartbeats', 'access_tokens']),
    )
    // What the packer alone writes.
    const packed = /^heartbeat(_(packs|minutes|hours|packing)|s_(set_aside|unreadable))$/
    for (const [name, rights] of Object.entries(others))
      expect(rights, name).toBe(packed.test(name) ? 'SELECT' : 'SELECT INSERT UPDATE DELETE')
    // What somebody gave it since is taken back.
    await db.pool.query('GRANT ALL ON audit_log TO beacon_server')
    await separate({ ownerUrl: db.url, serverUrl })
    expect((await rightsOf()).audit_log).toBe('SELECT INSERT')
  })
})

describe('the upkeep of heartbeats', () => {
  test('puts nothing in the place of what the log’s functions call with their owner’s rights', async () => {
    const db = await database()
    const { url: serverUrl } = await makeLogin(db)
    const { upkeep, server } = await separate({ ownerUrl: db.url, serverUrl })
    const bodies: Readonly<Record<string, string>> = {
      'convert_to(text, text) RETURNS bytea': `''::bytea`,
      'array_to_json(text[]) RETURNS json': `'[]'::json`,
      'sha256(text) RETURNS bytea': `''::bytea`,
      'date_trunc(text, timestamp) RETURNS timestamp': 'now()::timestamp',
    }
    await as(upkeep, async (client) => {
      for (const [name, result] of Object.entries(bodies))
        await client.query(
          `CREATE FUNCTION public.${name} LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'called as %', current_user; RETURN ${result}; END $$`,
        )
    })
    await as(server, (client) =>
      client.query(
        "INSERT INTO audit_log (id, at, action, outcome, actor_kind) VALUES (gen_random_uuid(), now(), 'a.b', 'ok', 'server')",
      ),
    )
    expect((await verifyAudit(db.database)).finding).toBeUndefined()
    await as(upkeep, (client) =>
      client.query(
        `DROP FUNCTION ${Object.keys(bodies)
          .map((name) => `public.${name.replace(/ RETURNS.*/, '')}`)
          .join(', ')}`,
      ),
    )
  })

  test('makes, detaches and drops partitions, and has no right to any other table', async () => {
    const db = await database()
    const { url: serverUrl } = await makeLogin(db)
    const { upkeep } = await separate({ ownerUrl: db.url, serverUrl })
    const pool = openPool({
      url: upkeep,
      name: 'test',
      maxConnections: 1,
      statementTimeoutMs: 5_000,
      onIdleError: () => {},
    })
    const later = Date.parse('2040-01-01T12:00:00Z')
    expect((await ensureHeartbeatPartitions(openDatabase(pool), later)).length).toBeGreaterThan(3)
    expect((await dropPartitions(openDatabase(pool), HEARTBEATS, () => true)).length).toBeGreaterThan(3)
    const { rows } = await pool.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
       AND has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') AND relname !~ '^heartbeat(s|_packs|_minutes|_hours|_packing)'`,
    )
    expect(rows).toEqual([])
    await pool.end()
  })
})

describe('one address for everything', () => {
  test('works as the server’s role where the login may take it, says what that is worth, and still refuses changes', async () => {
    const db = await database()
    await insertAudit(db.database, [entry()])
    const said: Record<string, unknown>[] = []
    const urls = await separate({ ownerUrl: db.url, said })
    expect(urls.separated).toBe(false)
    expect(said.filter(({ level }) => level === 'warn')).toHaveLength(1)
    expect(JSON.stringify(said)).toContain('BEACON_DATABASE_OWNER_URL')
    await as(urls.server, async (client) => {
      await refusalsOf(client, [...TAMPERING, ...BY_OWNERS_ONLY.filter((text) => !/SET |ROLE/.test(text))])
      // The superuser itself is refused, too, also where ordinary triggers are kept quiet.
      await client.query('SET ROLE NONE')
      await refusalsOf(client, TAMPERING)
      await client.query("SET session_replication_role = 'replica'")
      await refusalsOf(client, TAMPERING)
    })
  })

  test('serves an owner who may make no roles', async () => {
    const db = await database(createEmptyDatabase)
    const { login, url } = await makeLogin(db, 'NOCREATEROLE')
    await db.pool.query(`GRANT ALL ON SCHEMA public TO ${login}`)
    const log = createLog('silent')
    await migrate({ url, log })
    const said: Record<string, unknown>[] = []
    const urls = await separate({ ownerUrl: url, said })
    expect(urls).toEqual({ server: url, upkeep: url, separated: false })
    expect(said.filter(({ level }) => level === 'warn')).toHaveLength(1)
    await as(urls.server, (client) => refusalsOf(client, TAMPERING))
  })

  test('serves an owner who is no superuser and may make roles', async () => {
    const db = await database(createEmptyDatabase)
    const { login, url } = await makeLogin(db, 'CREATEROLE')
    const own = db.url.replace(/\?|$/, '?').split('?')[0]!
    await db.pool.query(
      `ALTER DATABASE ${new URL(own.replace('@/', '@socket/')).pathname.slice(1)} OWNER TO ${login}`,
    )
    // As a cluster has them where another database's superuser was first.
    await db.pool.query(`GRANT beacon_server, beacon_upkeep TO ${login}`)
    await migrate({ url, log: createLog('silent') })
    const { url: serverUrl } = await makeLogin(db)
    await db.pool.query(
      `GRANT beacon_server TO ${serverUrl.slice(serverUrl.indexOf('//') + 2).split(':')[0]}`,
    )
    const urls = await separate({ ownerUrl: url, serverUrl })
    expect(urls.separated).toBe(true)
    await as(urls.server, (client) => refusalsOf(client, TAMPERING))
    const pool = openPool({
      url: urls.upkeep,
      name: 'test',
      maxConnections: 1,
      statementTimeoutMs: 5_000,
      onIdleError: () => {},
    })
    expect((await ensureHeartbeatPartitions(openDatabase(pool), Date.now())).length).toBeGreaterThan(3)
    await pool.end()
  })

  test('keeps what the address says already, and all servers may start at once', async () => {
    const [first, second] = [await database(), await database()]
    const url = `${first.url}${first.url.includes('?') ? '&' : '?'}options=-c%20geqo%3Doff`
    const all = await Promise.all(
      [url, url, second.url, second.url].map((ownerUrl) => separate({ ownerUrl })),
    )
    for (const urls of all)
      await as(urls.server, async (client) => {
        const { rows } = await client.query("SELECT current_user AS role, current_setting('geqo') AS geqo")
        expect(rows[0].role).toBe('beacon_server')
      })
    const { rows } = await as(all[0]!.server, (client) =>
      client.query("SELECT current_setting('geqo') AS geqo"),
    )
    expect(rows).toEqual([{ geqo: 'off' }])
  })
})
