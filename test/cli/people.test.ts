import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { recoverOwner } from '../../src/access/recover-owner.ts'
import { isCheckedToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { expectProblem, type Json, makeFleet, unique } from '../http/api.ts'
import { usePeopleApi } from '../http/people/people-api.ts'
import { codeAt, insertSigner, newBrowser, PASSWORD, setUpSecondFactor, signedIn } from '../support/people.ts'
import { fakeServer } from './fake-server.ts'
import { beacon, type TerminalOptions } from './fake-terminal.ts'

const api = usePeopleApi()
let url: string
beforeAll(async () => {
  url = await api().app.listen({ host: '127.0.0.1', port: 0 })
})

function newHome(): string {
  const home = mkdtempSync(join(tmpdir(), 'beacon-home-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  return home
}

/** Runs a command with what an earlier one kept in the home, and nothing else. */
const at = (home: string, argv: string[], answers: TerminalOptions['answers'] = []) =>
  beacon(argv, { answers, env: { HOME: home, BEACON_URL: url } })

/** Runs a command as the owner of the first start. */
async function asOwner(argv: string[], options: TerminalOptions = {}) {
  // Attempts to sign in are counted for the one address of this machine.
  api().clock.advance(60_000)
  return beacon(argv, { ...options, env: { BEACON_URL: url, BEACON_API_KEY: api().token } })
}

async function json(argv: string[]): Promise<Json> {
  const { exitCode, stdout, stderr } = await asOwner([...argv, '--json'])
  expect(`${exitCode} ${stderr}`).toBe('0 ')
  return JSON.parse(stdout)
}

const loginsOf = (home: string) => join(home, '.config', 'roboflare', 'logins.json')
const newEmail = () => `${unique('cli')}@example.test`

describe('beacon login', () => {
  test('keeps a token that the other commands find, and no session; logout revokes and forgets it', async () => {
    const { id, email } = await insertSigner(api(), [{ role: 'admin' }])
    const home = newHome()
    const { exitCode, stdout, stderr, terminal } = await at(home, ['login'], [email, PASSWORD])
    expect(`${exitCode} ${stderr}`).toBe(`0 Signing in to ${url}\n`)
    expect(terminal.questions).toEqual(['Email: ', 'Password: '])
    expect(stdout).toMatch(/^signed in as person \d+ until .* UTC; the token is in .*logins\.json\n$/)
    expect(stdout).not.toMatch(/rf_pat_|harbour/)
    const file = loginsOf(home)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(file, '..'))).toEqual(['logins.json'])
    const { token } = JSON.parse(readFileSync(file, 'utf8')).servers[url]
    expect(isCheckedToken('personal', token)).toBe(true)
    const { rows } = await api().db.pool.query(
      `SELECT count(*) FILTER (WHERE ended_at IS NULL)::int AS standing, count(*)::int AS all FROM sign_ins WHERE user_id = $1`,
      [id],
    )
    expect(rows).toEqual([{ standing: 0, all: 1 }])

    const who = await at(home, ['whoami'])
    expect(who.stdout).toMatch(
      new RegExp(`<${email}> at ${url}\nroles: admin\n.*\nsecond factor: not set up`),
    )
    expect((await at(home, ['users', 'list'])).stdout).toContain(email)
    // Without BEACON_URL, the server of the last login is meant.
    expect((await beacon(['whoami', '--json'], { env: { HOME: home } })).stdout).toContain(id)

    const out = await at(home, ['logout'])
    expect(`${out.exitCode} ${out.stdout}`).toBe(`0 signed out of ${url}\n`)
    expect((await api().get('/api/session', { token })).status).toBe(401)
    const after = await at(home, ['whoami'])
    expect(after.exitCode).toBe(2)
    expect(after.stderr).toContain('sign in with "beacon login"')
    expect(readFileSync(file, 'utf8')).not.toContain('rf_pat_')
    expect((await at(home, ['logout'])).exitCode).toBe(1)
  })

  test('again makes a new token and revokes the one before', async () => {
    const { email } = await insertSigner(api(), [{ role: 'admin' }])
    const home = newHome()
    const tokenOf = () => JSON.parse(readFileSync(loginsOf(home), 'utf8')).servers[url].token
    await at(home, ['login', '--email', email], [PASSWORD])
    const first = tokenOf()
    await at(home, ['login', '--email', email, '--scope', 'robots:read', '--expires-in', '30d'], [PASSWORD])
    expect((await api().get('/api/session', { token: first })).status).toBe(401)
    const who = (await api().get('/api/session', { token: tokenOf() })).body
    expect(who.scopes).toEqual(['robots:read'])
    expect(Math.round((Date.parse(who.expires_at) - Date.now()) / 86_400_000)).toBe(30)
  })

  test('sends the token of a server to that server alone', async () => {
    const { email } = await insertSigner(api(), [{ role: 'viewer' }])
    const home = newHome()
    await at(home, ['login', '--email', email], [PASSWORD])
    const other = await fakeServer({})
    const asked = await beacon(['sites', 'list'], { env: { HOME: home, BEACON_URL: other.url } })
    expect(asked.exitCode).toBe(2)
    expect(other.calls).toEqual([])
  })

  test('asks for the second factor, and takes a backup code for it', async () => {
    const { email } = await insertSigner(api(), [{ role: 'viewer' }])
    const { secret, backupCodes } = await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    api().clock.advance(60_000)
    const code = () => codeAt(secret, api().clock.now())
    const first = await at(newHome(), ['login'], [email, 'not it', PASSWORD, '000000', code])
    expect(first.exitCode).toBe(0)
    expect(first.stderr).toContain('sign_in_failed')
    expect((await at(newHome(), ['login'], [email, PASSWORD, backupCodes[0]!])).exitCode).toBe(0)
    const wrong = await at(newHome(), ['login'], [email, PASSWORD, 'aaaa', 'bbbb', 'cccc'])
    expect(wrong.exitCode).toBe(3)
  })

  test('sets a second factor up where everybody has to have one', async () => {
    api().clock.advance(60_000)
    const { email } = await insertSigner(api(), [{ role: 'viewer' }])
    await api().db.pool.query('UPDATE security_settings SET require_second_factor = true')
    onTestFinished(async () => {
      await api().db.pool.query('UPDATE security_settings SET require_second_factor = false')
    })
    const home = newHome()
    const shown = (seen: string) => codeAt(/^ {2}([A-Z2-7]{32})$/m.exec(seen)![1]!, api().clock.now())
    const { exitCode, stderr, stdout } = await at(home, ['login'], [email, PASSWORD, shown])
    expect(`${exitCode} ${stdout}`).toMatch(/^0 signed in/)
    expect(stderr.match(/^ {2}([a-z2-7]{4}-){3}[a-z2-7]{4}$/gm)).toHaveLength(10)
    expect((await at(home, ['whoami'])).stdout).toContain('second factor: set up, 10 backup codes left')
  })

  test('is forgotten without asking only when its token is of no use any more', async () => {
    api().clock.advance(60_000)
    const { id, email } = await insertSigner(api())
    const home = newHome()
    await at(home, ['login', '--email', email], [PASSWORD])
    await api().db.pool.query('UPDATE access_tokens SET revoked_at = now() WHERE user_id = $1', [id])
    expect((await at(home, ['logout'])).exitCode).toBe(0)
    await at(home, ['login', '--email', email], [PASSWORD])
    const gone = await fakeServer({})
    const kept = JSON.parse(readFileSync(loginsOf(home), 'utf8'))
    writeFileSync(loginsOf(home), JSON.stringify({ servers: { [gone.url]: kept.servers[url] } }))
    const env = { HOME: home, BEACON_URL: gone.url }
    expect((await beacon(['logout'], { env, answer: 'n' })).exitCode).toBe(1)
    expect(readFileSync(loginsOf(home), 'utf8')).toContain('rf_pat_')
    expect((await beacon(['logout'], { env, answer: 'y' })).exitCode).toBe(0)
    expect(readFileSync(loginsOf(home), 'utf8')).not.toContain('rf_pat_')
  })

  test('where nobody can be asked says what to do instead', async () => {
    const { exitCode, stderr } = await beacon(['login'], { env: { HOME: newHome(), BEACON_URL: url } })
    expect(exitCode).toBe(2)
    expect(stderr).toContain('beacon tokens create')
  })

  test('gives up after three wrong passwords', async () => {
    api().clock.advance(3_600_000)
    const { email } = await insertSigner(api())
    const { exitCode, terminal } = await at(newHome(), ['login'], [email, 'a', 'b', 'c', PASSWORD])
    expect(exitCode).toBe(3)
    expect(terminal.questions).toHaveLength(4)
    api().clock.advance(3_600_000)
  })

  test('trusts no file that others can read, nor one that is not its own', async () => {
    const { email } = await insertSigner(api())
    const home = newHome()
    await at(home, ['login', '--email', email], [PASSWORD])
    chmodSync(loginsOf(home), 0o644)
    expect((await at(home, ['whoami'])).stderr).toContain('others can read')
    writeFileSync(loginsOf(home), '{"servers": 1}')
    chmodSync(loginsOf(home), 0o600)
    expect((await at(home, ['whoami'])).stderr).toContain('is not what "beacon login" writes')
  })
})

describe('the first owner', () => {
  test('comes to a password from the command line alone', async () => {
    api().clock.advance(60_000)
    const email = newEmail()
    const invited = await asOwner(['users', 'invite-again', 'me', '--email', email])
    expect(invited.exitCode).toBe(0)
    const address = /^ {2}(http\S+)$/m.exec(invited.stdout)![1]!
    const home = newHome()
    const first = await at(
      home,
      ['login', '--accept-invitation'],
      [address, 'short', 'short', PASSWORD, PASSWORD],
    )
    expect(`${first.exitCode} ${first.stdout}`).toMatch(/^0 signed in as owner/)
    expect(first.stderr).toContain('must be at least 12 characters long')
    expect((await at(home, ['whoami'])).stdout).toContain(`owner <${email}>`)
    const again = await at(newHome(), ['login', '--accept-invitation'], [address, PASSWORD, PASSWORD])
    expect(again.exitCode).toBe(3)
    expect(again.stderr).toContain('invitation_invalid')
  })
})

describe('beacon users', () => {
  test('invite, list, change, reset and remove', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const site = (await api().get(`/api/sites/${site_id}`)).body.name
    const fleet = (await api().get(`/api/fleets/${fleet_id}`)).body.name
    const email = newEmail()
    const role = `operator@${site}/${fleet}`
    const name = unique('ada')
    const { stdout } = await asOwner([
      'users',
      'invite',
      '--name',
      name,
      '--email',
      email,
      '--role',
      role,
      '--role',
      'viewer',
    ])
    const token = /#(rf_invite_[0-9a-f]{64})$/m.exec(stdout)![1]!
    const listed = await asOwner(['users', 'list'])
    expect(listed.stdout).toMatch(new RegExp(`${name} +${email} +.*${role}.* +invited +no`))
    expect(
      (await newBrowser(api()).post('/api/invitations/accept', { token, password: PASSWORD })).status,
    ).toBe(200)
    const changed = await asOwner(['users', 'change', email, '--role', `admin@${site}`])
    expect(changed.stdout).toBe(`${name} holds: admin@${site}\n`)
    expect((await json(['users', 'change', name, '--without-roles'])).roles).toEqual([])
    await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    expect((await asOwner(['users', 'reset-second-factor', email, '--yes'])).stdout).toContain(
      'no second factor any more',
    )
    await signedIn(api(), email)
    const unsure = await asOwner(['users', 'remove', email], { answer: 'n' })
    expect(unsure.exitCode).toBe(1)
    expect((await asOwner(['users', 'remove', email, '--yes'])).stdout).toBe(`${name} is removed\n`)
    expect((await json(['users', 'list'])).items.map((user: Json) => user.email)).not.toContain(email)
  })

  test('take nobody for another whose email or id somebody uses as a name', async () => {
    for (const name of ['boss@example.test', '0190a0a0-0000-7000-8000-000000000001']) {
      const body = { name, email: newEmail(), roles: [{ role: 'viewer' }] }
      expect((await api().post('/api/users', body)).status).toBe(201)
      const answer = await asOwner(['users', 'change', name, '--role', 'admin'])
      expect(answer.stderr).toContain('there is nobody with the email or id')
      expect(answer.exitCode).toBe(1)
    }
  })

  test.each([
    [['change', 'nobody-here', '--name', 'x'], 1, 'there is nobody called'],
    [['change', 'nobody-here'], 1, 'there is nobody called'],
    [['invite', '--name', 'x', '--email', 'x@example.test', '--role', 'Viewer!'], 2, 'is not a role'],
    [
      ['invite', '--name', 'x', '--email', 'x@example.test', '--role', 'viewer@nowhere'],
      1,
      'there is no site',
    ],
    [
      ['invite', '--name', 'x', '--email', 'nonsense', '--role', 'viewer'],
      1,
      '/email: must be an email address',
    ],
    [['invite', '--name', 'x'], 2, 'required option'],
    [['remove', 'owner', '--yes'], 1, 'last_owner'],
  ])('%j ends with %i', async (argv, exitCode, message) => {
    const answer = await asOwner(['users', ...argv])
    expect(answer.stderr).toContain(message)
    expect(answer.exitCode).toBe(exitCode)
  })
})

describe('beacon security', () => {
  test('shows and sets what holds for everybody', async () => {
    expect((await asOwner(['security', 'show'])).stdout).toBe(
      'require-second-factor      no\nrobot-token-max-age-days   never\nrotate-on-suspicion        yes\n',
    )
    const set = await json([
      'security',
      'set',
      '--robot-token-max-age-days',
      '30',
      '--rotate-on-suspicion',
      'no',
    ])
    expect(set).toMatchObject({ robot_token_max_age_days: 30, rotate_on_suspicion: false })
    const back = await json([
      'security',
      'set',
      '--robot-token-max-age-days',
      'never',
      '--rotate-on-suspicion',
      'yes',
    ])
    expect(back).toMatchObject({ robot_token_max_age_days: null, rotate_on_suspicion: true })
    expect((await asOwner(['security', 'set'])).exitCode).toBe(2)
    expect((await asOwner(['security', 'set', '--rotate-on-suspicion', 'maybe'])).exitCode).toBe(2)
    const unsure = await asOwner(['security', 'set', '--require-second-factor', 'yes'], { answer: 'n' })
    expect(unsure.exitCode).toBe(1)
    const refused = await asOwner(['security', 'set', '--require-second-factor', 'yes', '--yes'])
    expect(refused.exitCode).toBe(3)
    expect(refused.stderr).toContain('set up your own second factor first')
  })
})

describe('beacon recover-owner', () => {
  const recover = async (
    argv: string[],
    env: Record<string, string> = { BEACON_DATABASE_URL: api().db.url },
  ) => {
    api().clock.advance(60_000)
    return beacon(['recover-owner', ...argv], { env })
  }

  test('makes somebody new an owner, who gets in even where a second factor is demanded', async () => {
    await api().db.pool.query('UPDATE security_settings SET require_second_factor = true')
    onTestFinished(async () => {
      await api().db.pool.query('UPDATE security_settings SET require_second_factor = false')
    })
    const email = newEmail()
    const made = await recover(['--email', email.toUpperCase(), '--yes', '--json'])
    expect(made.exitCode, made.stderr).toBe(0)
    const { user_id, created, token, invitation_token } = JSON.parse(made.stdout)
    expect(created).toBe(true)
    expectProblem(await api().get('/api/sites', { token }), 403, 'second_factor_required')
    const shown = (seen: string) => codeAt(/^ {2}([A-Z2-7]{32})$/m.exec(seen)![1]!, api().clock.now())
    const home = newHome()
    const login = await at(
      home,
      ['login', '--accept-invitation'],
      [invitation_token, PASSWORD, PASSWORD, shown],
    )
    expect(login.exitCode, login.stderr).toBe(0)
    expect((await at(home, ['whoami'])).stdout).toContain('roles: owner')
    const [line] = await api().auditOf(user_id)
    expect(line).toMatchObject({ action: 'owner.recovered', actor_kind: 'server', data: { new_user: true } })
    expect(JSON.stringify(line)).not.toContain(token.slice(8))
  })

  test('gives somebody who lost everything their ownership back', async () => {
    const { id, email } = await insertSigner(api(), [{ role: 'viewer' }])
    const browser = await signedIn(api(), email)
    await setUpSecondFactor(browser, api().clock.now())
    const { exitCode, stdout } = await recover(['--email', email, '--yes'])
    expect(exitCode).toBe(0)
    const token = /API key +(rf_pat_\w+)/.exec(stdout)![1]!
    const who = (await api().get('/api/session', { token })).body
    expect(who).toMatchObject({
      user: { id },
      second_factor: { enabled: false },
      roles: [{ role: 'owner', site_id: null, fleet_id: null }],
    })
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    const hours = (Date.parse(who.expires_at) - Date.now()) / 3_600_000
    expect(hours).toBeGreaterThan(23)
    expect(hours).toBeLessThanOrEqual(24)
  })

  test('asks first, and says why it cannot', async () => {
    const email = newEmail()
    expect((await recover(['--email', email])).exitCode).toBe(2)
    expect((await recover(['--email', 'nonsense', '--yes'])).exitCode).toBe(2)
    const nowhere = await recover(['--email', email, '--yes'], { BEACON_DATA_DIR: newHome() })
    expect(nowhere.exitCode).toBe(4)
    expect(nowhere.stderr).toContain('no server runs a PostgreSQL of its own')
    const wrong = await recover(['--email', email, '--yes'], { BEACON_DATABASE_URL: 'mysql://here' })
    expect(wrong.exitCode).toBe(1)
    expect(wrong.stderr).toContain('BEACON_DATABASE_URL')
    const away = { BEACON_DATABASE_URL: 'postgres://127.0.0.1:1/none' }
    expect((await recover(['--email', email, '--yes'], away)).exitCode).toBe(4)
  })

  test('makes two who recover at the same time both owners', async () => {
    const env = { BEACON_DATABASE_URL: api().db.url }
    const wanted = { email: newEmail(), name: 'twice' }
    const both = await Promise.all([recoverOwner(env, wanted), recoverOwner(env, wanted)])
    expect(new Set(both.map(({ userId }) => userId)).size).toBe(1)
    for (const { token } of both) expect((await api().get('/api/users', { token })).status).toBe(200)
  })
})

test('a key in the environment comes before what login kept', async () => {
  const { email } = await insertSigner(api(), [{ role: 'viewer' }])
  const home = newHome()
  await at(home, ['login', '--email', email], [PASSWORD])
  const env = { HOME: home, BEACON_URL: url, BEACON_API_KEY: mintCheckedToken('personal') }
  expect((await beacon(['whoami'], { env })).exitCode).toBe(3)
})
