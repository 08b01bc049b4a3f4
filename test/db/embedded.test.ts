import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type EmbeddedPostgres, EmbeddedPostgresError, startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { createLog } from '../../src/observe/log.ts'
import { type Clock, systemClock, systemRandom } from '../../src/runtime.ts'

let folder: string
let running: EmbeddedPostgres[]
let children: ChildProcess[]
let lost: Error[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'beacon-embedded-'))
  running = []
  children = []
  lost = []
})

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  for (const server of running) await server.stop()
  await rm(folder, { recursive: true })
})

async function start(dataDir = folder, clock: Clock = systemClock, settings = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({
    dataDir,
    log: createLog('silent'),
    clock,
    random: systemRandom,
    settings: { fsync: 'off', ...settings },
    onLost: (error) => lost.push(error),
  })
  running.push(server)
  return server
}

/** A process of its own that starts on the folder; answers its first line, `ready <url>` or `refused <why>`. */
async function startOther(dataDir = folder): Promise<{ child: ChildProcess; said: string }> {
  const support = join(import.meta.dirname, '..', 'support')
  const child = spawn(
    process.execPath,
    [join(support, 'run-typescript.mjs'), join(support, 'embedded-owner.ts'), dataDir],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  children.push(child)
  const [said] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string]
  return { child, said }
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

async function ask<Row extends object>(url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

async function refusalOf(promise: Promise<unknown>): Promise<EmbeddedPostgresError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(EmbeddedPostgresError)
  return error as EmbeddedPostgresError
}

async function postmasterPid(dataDir = folder): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, 'postgres', 'data', 'postmaster.pid'), 'utf8'), 10)
}

/** Every process that works in the cluster's folder: the postmaster and its children. */
async function processesIn(dataDir = folder): Promise<number[]> {
  const listing = execFileSync('ps', ['-ww', '-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
  const all = [...listing.matchAll(/^\s*(\d+)\s+(\d+)\s+(.*)$/gm)].map(([, pid, parent, args = '']) => ({
    pid: Number(pid),
    parent: Number(parent),
    args,
  }))
  const masters = all
    .filter(({ args }) => args.includes('postgres -D') && args.includes(dataDir))
    .map(({ pid }) => pid)
  const workers = all.filter(({ parent }) => masters.includes(parent)).map(({ pid }) => pid)
  return [...masters, ...workers]
}

describe('the private PostgreSQL', () => {
  test('starts in an empty folder, keeps its data over a restart, and leaves no process', async () => {
    const first = await start()
    const [about] = await ask<Record<string, string>>(
      first.url,
      `SELECT current_database() AS database, current_setting('listen_addresses') AS addresses,
              pg_encoding_to_char(encoding) AS encoding, datlocale AS locale
       FROM pg_database WHERE datname = current_database()`,
    )
    expect(about).toEqual({ database: 'beacon', addresses: '', encoding: 'UTF8', locale: 'C.UTF-8' })
    await ask(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    expect((await processesIn()).length).toBeGreaterThan(1)
    await first.stop()
    await first.stop()
    expect(await processesIn()).toEqual([])

    const second = await start()
    expect(second.url).toBe(first.url)
    expect(await ask(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }])
  })

  test('is reachable for its own user only', async () => {
    const { url } = await start()
    expect((await stat(join(folder, 'postgres-password'))).mode & 0o777).toBe(0o600)
    expect((await stat(join(folder, 'postgres'))).mode & 0o777).toBe(0o700)
    expect((await stat(join(folder, 'postgres', 'run', '.s.PGSQL.5432'))).mode & 0o777).toBe(0o700)
    const password = await readFile(join(folder, 'postgres-password'), 'utf8')
    await expect(ask(url.replace(password, 'guessed'), 'SELECT 1')).rejects.toThrow(
      'password authentication failed',
    )
  })

  test('works where the path is too long for a socket', async () => {
    await chmod(folder, 0o711)
    const deep = join(folder, 'a folder with a long name, a space and 100% odd letters ü'.repeat(2), 'data')
    expect(Buffer.byteLength(deep)).toBeGreaterThan(100)
    const first = await start(deep)
    expect(await ask(first.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
    const sockets = new URL(first.url.replace('@/', '@socket/')).searchParams.get('host')!
    const other = await startOther(deep)
    expect(other.said).toContain(`(process ${process.pid})`)
    await first.stop()
    await expect(stat(sockets)).rejects.toThrow('ENOENT')
  })

  test('stops even when it does not react', async () => {
    const hurried: Clock = { ...systemClock, monotonic: () => performance.now() * 100 }
    const server = await start(folder, hurried)
    process.kill(await postmasterPid(), 'SIGSTOP')
    await server.stop()
    expect(await processesIn()).toEqual([])
    const again = await start()
    expect(await ask(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  })

  test('refuses a folder that was made by another PostgreSQL', async () => {
    await (await start()).stop()
    await writeFile(join(folder, 'postgres', 'data', 'PG_VERSION'), '14\n')
    expect((await refusalOf(start())).message).toContain('was made by PostgreSQL 14')
  })

  test('says why it does not start', async () => {
    await (await start()).stop()
    await writeFile(join(folder, 'postgres', 'data', 'postgresql.conf'), 'nonsense = 1\n')
    const { message } = await refusalOf(start())
    expect(message).toContain('PostgreSQL does not start')
    expect(message).toContain('postgres.log')
  })
})

describe('one owner', () => {
  test('a second server on the same folder is refused and told by whom', async () => {
    const first = await start()
    const { said } = await startOther()
    expect(said).toContain(`the data folder ${folder} is in use by another server (process ${process.pid})`)
    expect(await ask(first.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
  })

  test('of several that start at once, one wins', async () => {
    const answers = await Promise.all([startOther(), startOther(), startOther()])
    expect(answers.map((answer) => answer.said).sort()).toEqual([
      expect.stringMatching(/^ready /),
      expect.stringContaining('is in use by another server'),
      expect.stringContaining('is in use by another server'),
    ])
    for (const { child } of answers) await kill(child)
    await (await start()).stop()
    expect(await processesIn()).toEqual([])
  })

  test('what a killed server left running is taken over, with its data, and stopped', async () => {
    const other = await startOther()
    const url = other.said.replace('ready ', '')
    await ask(url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    const pid = await postmasterPid()
    await kill(other.child)
    expect(await processesIn()).toContain(pid)

    const successor = await start()
    expect(await postmasterPid()).toBe(pid)
    expect(await ask(successor.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }])
    await successor.stop()
    expect(await processesIn()).toEqual([])
  })

  test('one that allows too few connections is started again when it is taken over, with its data', async () => {
    const other = await startOther()
    const url = other.said.replace('ready ', '')
    await ask(url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    const pid = await postmasterPid()
    await kill(other.child)

    const successor = await start(folder, systemClock, { max_connections: '150' })
    expect(await postmasterPid()).not.toBe(pid)
    expect(await ask(successor.url, 'SHOW max_connections')).toEqual([{ max_connections: '150' }])
    expect(await ask(successor.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }])
    process.kill(await postmasterPid(), 'SIGKILL')
    await expect
      .poll(() => ask(successor.url, 'SHOW max_connections').catch(() => []), { timeout: 15_000 })
      .toEqual([{ max_connections: '150' }])
    await successor.stop()
    expect(await processesIn()).toEqual([])
  })

  test('a PostgreSQL that was taken over is kept running too', async () => {
    const other = await startOther()
    await kill(other.child)
    const successor = await start()
    process.kill(await postmasterPid(), 'SIGKILL')
    await expect
      .poll(() => ask(successor.url, 'SELECT 1 AS one').catch(() => []), { timeout: 15_000 })
      .toEqual([{ one: 1 }])
  })
})

describe('keeping it running', () => {
  test('it is started again after its postmaster was killed, with all that was committed', async () => {
    const { url } = await start()
    await ask(url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    const killed = await postmasterPid()
    process.kill(killed, 'SIGKILL')
    await expect
      .poll(() => ask(url, 'SELECT answer FROM kept').catch(() => []), { timeout: 15_000 })
      .toEqual([{ answer: 42 }])
    expect(await postmasterPid()).not.toBe(killed)
    expect((await startOther()).said).toContain('is in use by another server')
  })

  test('it is started again after all of its processes were killed', async () => {
    const { url } = await start()
    for (const pid of await processesIn()) process.kill(pid, 'SIGKILL')
    await expect
      .poll(() => ask(url, 'SELECT 1 AS one').catch(() => []), { timeout: 15_000 })
      .toEqual([{ one: 1 }])
  })

  test('a pid file whose number now belongs to another process does not keep it from starting', async () => {
    const server = await start()
    const path = join(folder, 'postgres', 'data', 'postmaster.pid')
    const content = await readFile(path, 'utf8')
    await server.stop()
    // A process that PostgreSQL, as its own user, would take for a living postmaster.
    const { uid, gid } = await stat(path.replace('postmaster.pid', 'PG_VERSION'))
    const bystander = spawn('sleep', ['1000'], { uid, gid, stdio: 'ignore' })
    children.push(bystander)
    await once(bystander, 'spawn')
    await writeFile(path, content.replace(/^\d+/, String(bystander.pid)), { mode: 0o600 })
    execFileSync('chown', [`${uid}:${gid}`, path])
    const again = await start()
    expect(await ask(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
    expect(await readdir(join(folder, 'postgres', 'data'))).not.toContain(`postmaster.pid.${process.pid}`)
  })

  test('when the lock has become another server’s, it says so and leaves that one alone', async () => {
    const { url, stop } = await start()
    const thief = new pg.Client({ connectionString: url.replace('/beacon?', '/postgres?') })
    await thief.connect()
    // Waits for the lock, and so has it the moment it is let go.
    const stolen = thief.query(
      `SELECT pg_advisory_lock((classid::bigint << 32) | objid::bigint) FROM pg_locks WHERE locktype = 'advisory'`,
    )
    await expect
      .poll(() => ask(url, "SELECT 1 AS waiting FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
      .toEqual([{ waiting: 1 }])
    await ask(
      url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'beacon server %'`,
    )
    await stolen
    await expect
      .poll(() => lost.map((error) => error.message))
      .toEqual([expect.stringContaining('is in use by another server')])
    await stop()
    expect((await thief.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    await thief.end()
    running = []
    await (await start()).stop()
  })
})

if (process.getuid?.() === 0) {
  test('as root, says which folder PostgreSQL’s user cannot pass', async () => {
    const closed = join(folder, 'closed')
    await mkdir(closed, { mode: 0o700 })
    await expect(start(join(closed, 'data'))).rejects.toThrow(`chmod o+x ${folder}`)
  })
}
