import { describe, expect, onTestFinished, test } from 'vitest'
import { lockOutMinting } from '../../../src/db/token-changes.ts'
import { insertPerson, insertPersonalToken } from '../../support/access.ts'
import type { Browser } from '../../support/browser.ts'
import { eventually } from '../../support/eventually.ts'
import {
  codeAt,
  insertSigner,
  newBrowser,
  PASSWORD,
  setUpSecondFactor,
  signedIn,
} from '../../support/people.ts'
import { type Answer, expectProblem } from '../api.ts'
import { startPeopleApi, usePeopleApi } from './people-api.ts'

const api = usePeopleApi()

describe('signing in', () => {
  test('with the right password begins a session, which is written down', async () => {
    const { id, email } = await insertSigner(api())
    const browser = newBrowser(api())
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    const answer = await browser.post('/api/sign-in', {
      email: ` ${email.toUpperCase()} `,
      password: PASSWORD,
    })
    expect(answer.body).toEqual({ signed_in: true, second_factor: null })
    const who = await browser.get('/api/session')
    expect(who.body).toMatchObject({
      kind: 'session',
      user: { id, email },
      roles: [{ role: 'viewer', site_id: null, fleet_id: null }],
      second_factor: { enabled: false, required: false, backup_codes_left: 0 },
      must: null,
    })
    expect((await browser.get('/api/sites')).status).toBe(200)
    expectProblem(await browser.post('/api/sites', { name: 'x' }), 403, 'insufficient_scope')
    const lines = await api().auditOf(id)
    expect(lines).toMatchObject([{ action: 'sign_in.succeeded', actor_kind: 'user', actor_id: id }])
  })

  test('with a wrong password, an unknown email or none set is answered alike, after the same work', async () => {
    const { email } = await insertSigner(api())
    await insertPerson(api().db.database, [{ role: 'viewer' }], { email: 'without@example.test' })
    const bodies = []
    for (const [given, password] of [
      [email, 'not the password'],
      ['nobody@example.test', PASSWORD],
      ['without@example.test', PASSWORD],
      [email, 'x'.repeat(4000)],
    ] as const) {
      const before = api().passwords.verified.length
      const answer = await newBrowser(api()).post('/api/sign-in', { email: given, password })
      expectProblem(answer, 401, 'sign_in_failed')
      expect(answer.cookies).toEqual([])
      expect(api().passwords.verified.length - before, 'comparisons of hashes').toBe(1)
      bodies.push({ ...answer.body, request_id: '' })
    }
    expect(new Set(bodies.map((body) => JSON.stringify(body))).size).toBe(1)
  })

  test('waits for whoever revokes everything, so that no session slips in between', async () => {
    const { email } = await insertSigner(api())
    const { database, pool } = api().db
    const browser = newBrowser(api())
    let answer: ReturnType<typeof browser.post> | undefined
    await database.transaction().execute(async (transaction) => {
      await lockOutMinting(transaction)
      answer = browser.post('/api/sign-in', { email, password: PASSWORD })
      await eventually(
        async () =>
          (await pool.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).rowCount,
        'the sign-in that waits',
      )
    })
    expect((await answer!).status).toBe(200)
    expect((await browser.get('/api/session')).status).toBe(200)
  })

  test('that failed is told to the audit log without what was typed', async () => {
    const { id } = await insertSigner(api())
    const before = api().refused.length
    await newBrowser(api()).post('/api/sign-in', { email: 'my secret password', password: PASSWORD })
    const [entry] = api().refused.slice(before)
    expect(entry).toMatchObject({ action: 'sign_in.failed', outcome: 'refused', data: { reason: 'unknown' } })
    expect(JSON.stringify(entry)).not.toMatch(/secret password|harbour/)
    expect(id).toBeTruthy()
  })

  test('adopts no session that somebody else chose', async () => {
    const { email } = await insertSigner(api())
    const browser = newBrowser(api())
    const chosen = 'A'.repeat(43)
    browser.cookies.set('beacon_session', chosen)
    await browser.post('/api/sign-in', { email, password: PASSWORD })
    expect(browser.cookies.get('beacon_session')).toMatch(/^[A-Za-z0-9_-]{43}$/)
    expect(browser.cookies.get('beacon_session')).not.toBe(chosen)
    const attacker = newBrowser(api())
    attacker.cookies.set('beacon_session', chosen)
    expectProblem(await attacker.get('/api/session'), 401, 'credentials_required')
  })

  test('again ends the session before', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const old = browser.cookies.get('beacon_session')!
    await browser.post('/api/sign-in', { email, password: PASSWORD })
    const other = newBrowser(api())
    other.cookies.set('beacon_session', old)
    expectProblem(await other.get('/api/session'), 401, 'credentials_required')
    expect((await browser.get('/api/session')).status).toBe(200)
  })

  test('keeps nothing of the cookie but a digest', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const { rows } = await api().db.pool.query('SELECT row_to_json(s)::text AS row FROM sign_ins s')
    expect(rows.map(({ row }) => row).join()).not.toContain(browser.cookies.get('beacon_session'))
  })

  test.each(['', 'short', `${'A'.repeat(42)}!`, 'A'.repeat(44), '"', '%00', 'a=b'])(
    'a cookie of %j is none',
    async (value) => {
      const browser = newBrowser(api())
      browser.cookies.set('beacon_session', value)
      expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    },
  )
})

describe('a session', () => {
  test('ends with sign-out, and does not come back by what is written late', async () => {
    const { id, email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const cookie = browser.cookies.get('beacon_session')!
    const out = await browser.post('/api/sign-out')
    expect(out.status).toBe(204)
    expect(out.cookies).toMatchObject([{ name: 'beacon_session', value: '' }])
    browser.cookies.set('beacon_session', cookie)
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    expect((await api().auditOf(id)).map(({ action }) => action)).toEqual([
      'sign_in.succeeded',
      'sign_in.ended',
    ])
    expect(api().published).toContainEqual({ type: 'access_changed' })
  })

  test('is one of many that can be listed and ended one by one or together', async () => {
    const { email } = await insertSigner(api())
    const [one, two, three] = [
      await signedIn(api(), email),
      await signedIn(api(), email),
      await signedIn(api(), email),
    ]
    const listed = await one.get('/api/sessions')
    expect(listed.body.items).toHaveLength(3)
    const others = listed.body.items.filter((session: { current: boolean }) => !session.current)
    expect(others).toHaveLength(2)
    // The latest first.
    expect((await one.delete(`/api/sessions/${others[0].id}`)).status).toBe(204)
    expectProblem(await three.get('/api/session'), 401, 'credentials_required')
    expect((await two.get('/api/session')).status).toBe(200)
    const stranger = await signedIn(api(), (await insertSigner(api())).email)
    expectProblem(await stranger.delete(`/api/sessions/${others[1].id}`), 404, 'not_found')
    expect((await one.post('/api/sign-out', { everywhere: true })).status).toBe(204)
    expectProblem(await two.get('/api/session'), 401, 'credentials_required')
  })

  test.each([
    ['after half a day without a request', "last_seen_at = now() - interval '12 hours 1 second'"],
    ['after a week', "expires_at = now() - interval '1 second'"],
  ])('ends by itself %s', async (_, change) => {
    const { id, email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const { rows } = await api().db.pool.query(
      `SELECT extract(epoch FROM expires_at - created_at)::int AS seconds FROM sign_ins WHERE user_id = $1`,
      [id],
    )
    expect(rows).toEqual([{ seconds: 7 * 24 * 3600 }])
    await api().db.pool.query(`UPDATE sign_ins SET ${change} WHERE user_id = $1`, [id])
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
  })

  test('remembers when it was last seen, to the minute', async () => {
    const { id, email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const lastSeen = async () =>
      (await api().db.pool.query('SELECT last_seen_at FROM sign_ins WHERE user_id = $1', [id])).rows[0]
        .last_seen_at as Date
    const first = await lastSeen()
    await browser.get('/api/session')
    expect(await lastSeen()).toEqual(first)
    await api().db.pool.query(
      "UPDATE sign_ins SET last_seen_at = now() - interval '2 minutes' WHERE user_id = $1",
      [id],
    )
    await browser.get('/api/session')
    expect((await lastSeen()).getTime()).toBeGreaterThanOrEqual(first.getTime())
  })

  test('is not looked at where a bearer is', async () => {
    const { email } = await insertSigner(api(), [{ role: 'owner' }])
    const browser = await signedIn(api(), email)
    expectProblem(
      await browser.get('/api/session', { authorization: 'Bearer nonsense' }),
      401,
      'invalid_token',
    )
    const viewer = await insertPersonalToken(
      api().db.database,
      await insertPerson(api().db.database, [{ role: 'viewer' }]),
    )
    const answer = await browser.post(
      '/api/sites',
      { name: 'x' },
      { authorization: `Bearer ${viewer.token}` },
    )
    expectProblem(answer, 403, 'insufficient_scope')
  })
})

describe('guessing', () => {
  test('makes the guesser wait ever longer, and nobody at another address before twenty', async () => {
    const { email } = await insertSigner(api())
    const guesser = newBrowser(api())
    const guess = () => guesser.post('/api/sign-in', { email, password: 'a guess, no more' })
    for (let tries = 0; tries < 5; tries++) expectProblem(await guess(), 401, 'sign_in_failed')
    const waits: number[] = []
    for (let round = 0; round < 4; round++) {
      const refused = await guess()
      expectProblem(refused, 429, 'rate_limited')
      waits.push(Number(refused.headers['retry-after']))
      api().clock.advance(waits.at(-1)! * 1000)
      expectProblem(await guess(), 401, 'sign_in_failed')
    }
    expect(waits).toEqual([2, 4, 8, 16])
    await signedIn(api(), email)
  })

  test('from many addresses keeps nobody out who comes from a known one', async () => {
    const { email } = await insertSigner(api())
    const known = newBrowser(api())
    expect((await known.post('/api/sign-in', { email, password: PASSWORD })).status).toBe(200)
    for (let tries = 0; tries < 20; tries++)
      await newBrowser(api()).post('/api/sign-in', { email, password: 'a guess, no more' })
    const fresh = newBrowser(api())
    expectProblem(await fresh.post('/api/sign-in', { email, password: PASSWORD }), 429, 'rate_limited')
    expect((await known.post('/api/sign-in', { email, password: PASSWORD })).status).toBe(200)
    api().clock.advance(60_000)
    expect((await fresh.post('/api/sign-in', { email, password: PASSWORD })).status).toBe(200)
  })

  test('of unknown emails is slowed in the same way', async () => {
    const guesser = newBrowser(api())
    const guess = () => guesser.post('/api/sign-in', { email: 'never@example.test', password: PASSWORD })
    for (let tries = 0; tries < 5; tries++) expectProblem(await guess(), 401, 'sign_in_failed')
    expectProblem(await guess(), 429, 'rate_limited')
  })

  test('of many accounts from one address ends at the address', async () => {
    const sprayer = newBrowser(api())
    let refused = 0
    for (let tries = 0; tries < 32; tries++) {
      const { status } = await sprayer.post('/api/sign-in', {
        email: `spray-${tries}@example.test`,
        password: PASSWORD,
      })
      if (status === 429) refused += 1
    }
    expect(refused).toBe(2)
  })

  test('many at once are not one', async () => {
    const { email } = await insertSigner(api())
    const guesser = newBrowser(api())
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => guesser.post('/api/sign-in', { email, password: 'a guess, no more' })),
    )
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(5)
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(7)
  })
})

describe('a change that a browser sends', () => {
  const matrix: [string, Record<string, string>][] = [
    ['nothing', {}],
    ['its own origin', { origin: 'http://localhost' }],
    ['another site', { origin: 'https://evil.example' }],
    ['another port', { origin: 'http://localhost:81' }],
    ['another scheme', { origin: 'https://localhost' }],
    ['no name for it', { origin: 'null' }],
    ['an empty one', { origin: '' }],
    ['the same origin, in other words', { 'sec-fetch-site': 'same-origin' }],
    ['the same site', { 'sec-fetch-site': 'same-site' }],
    ['another site, in other words', { 'sec-fetch-site': 'cross-site' }],
    ['no site', { 'sec-fetch-site': 'none' }],
    ['a prefix of ours', { origin: 'http://localhost.evil.example' }],
    ['two things', { origin: 'https://evil.example', 'sec-fetch-site': 'same-origin' }],
  ]
  const OWN = new Set(['its own origin', 'the same origin, in other words'])

  test.each(matrix)('from %s', async (from, headers) => {
    const { email } = await insertSigner(api(), [{ role: 'owner' }])
    const signed = await signedIn(api(), email)
    const browser = newBrowser(api(), { origin: null })
    for (const [name, value] of signed.cookies) browser.cookies.set(name, value)
    const name = `site of ${from} ${email}`
    const made = await browser.post('/api/sites', { name }, headers)
    if (OWN.has(from)) expect(made.status).toBe(201)
    else expectProblem(made, 403, 'cross_site_request')
    // Reading is never a change.
    const listed = await browser.get('/api/sites?limit=200', headers)
    expect(listed.body.items.some((site: { name: string }) => site.name === name)).toBe(OWN.has(from))
  })

  test.each(matrix)('to sign in, from %s', async (from, headers) => {
    const { email } = await insertSigner(api())
    const browser = newBrowser(api(), { origin: null })
    const answer = await browser.post('/api/sign-in', { email, password: PASSWORD }, headers)
    // What says nothing of itself is no browser, and has no cookie of anybody.
    if (OWN.has(from) || from === 'nothing') expect(answer.status).toBe(200)
    else expectProblem(answer, 403, 'cross_site_request')
  })
})

describe('the cookie', () => {
  const cases = [
    ['on this machine', {}, {}, 'beacon_session', false],
    [
      'behind a public https address',
      { publicUrl: 'https://beacon.example' },
      {},
      '__Host-beacon_session',
      true,
    ],
    ['of a server with an http address', { publicUrl: 'http://beacon.example' }, {}, 'beacon_session', false],
    [
      'behind a trusted proxy that speaks https',
      { trustedProxies: ['10.0.0.0/8'] },
      { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'beacon.example' },
      'beacon_session',
      true,
    ],
    [
      'behind a proxy that nobody trusts',
      { trustedProxies: ['192.168.0.1'] },
      { 'x-forwarded-proto': 'https' },
      'beacon_session',
      false,
    ],
  ] as const

  test.each(cases)('%s', async (_, config, headers, name, secure) => {
    const other = await startPeopleApi({ config })
    onTestFinished(() => other.close())
    const { email } = await insertSigner(other)
    const browser = newBrowser(other, { origin: null, headers })
    const answer = await browser.post('/api/sign-in', { email, password: PASSWORD })
    expect(answer.cookies).toHaveLength(1)
    const [cookie] = answer.cookies
    expect(cookie!.name).toBe(name)
    expect(cookie!.attributes.filter((attribute) => !attribute.startsWith('expires'))).toEqual(
      expect.arrayContaining(['httponly', 'samesite=lax', 'path=/', ...(secure ? ['secure'] : [])]),
    )
    expect(cookie!.attributes.includes('secure')).toBe(secure)
    expect(cookie!.attributes.some((attribute) => /^(domain|max-age|expires)/.test(attribute))).toBe(false)
    // It comes back, and goes with the same marks, without which a browser would keep it.
    expect((await browser.get('/api/session')).status).toBe(200)
    const own =
      config && 'publicUrl' in config
        ? config.publicUrl
        : secure
          ? 'https://beacon.example'
          : 'http://localhost'
    const out = await browser.post('/api/sign-out', undefined, { origin: own })
    expect(out.status).toBe(204)
    expect(out.cookies[0]).toMatchObject({ name, value: '' })
    expect(out.cookies[0]!.attributes.includes('secure')).toBe(secure)
  })
})

describe('a second factor', () => {
  test('is set up with a code, ends other sessions, and is asked for from then on', async () => {
    const { id, email } = await insertSigner(api())
    const other = await signedIn(api(), email)
    const browser = await signedIn(api(), email)
    const { secret, backupCodes } = await setUpSecondFactor(browser, api().clock.now())
    expect(backupCodes).toHaveLength(10)
    expect(new Set(backupCodes).size).toBe(10)
    for (const code of backupCodes) expect(code).toMatch(/^([a-z2-7]{4}-){3}[a-z2-7]{4}$/)
    expectProblem(await other.get('/api/session'), 401, 'credentials_required')
    expect((await browser.get('/api/session')).body.second_factor).toMatchObject({
      enabled: true,
      backup_codes_left: 10,
    })

    const again = newBrowser(api())
    const half = await again.post('/api/sign-in', { email, password: PASSWORD })
    expect(half.body).toEqual({ signed_in: false, second_factor: 'required' })
    expectProblem(await again.get('/api/session'), 401, 'credentials_required')
    expect((await again.get('/api/sign-in')).body.second_factor).toBe('required')
    const halfCookie = again.cookies.get('beacon_session')
    api().clock.advance(30_000)
    const whole = await again.post('/api/sign-in/second-factor', { code: codeAt(secret, api().clock.now()) })
    expect(whole.body).toEqual({ signed_in: true, second_factor: null })
    expect(again.cookies.get('beacon_session')).not.toBe(halfCookie)
    expect((await again.get('/api/session')).status).toBe(200)
    // The half-way one is of no use any more.
    const late = newBrowser(api())
    late.cookies.set('beacon_session', halfCookie!)
    expectProblem(await late.get('/api/session'), 401, 'credentials_required')
    expect((await late.get('/api/sign-in')).body.second_factor).toBeNull()
    const actions = (await api().auditOf(id)).map(({ action }) => action)
    expect(actions).toEqual([
      'sign_in.succeeded',
      'sign_in.succeeded',
      'second_factor.started',
      'second_factor.enabled',
      // The half sign-in, whoever it was that knew the password, is there to be seen.
      'sign_in.second_factor_asked',
      'sign_in.succeeded',
    ])
  })

  test('counts only once a code has confirmed it', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    await browser.post('/api/session/second-factor')
    expectProblem(
      await browser.post('/api/session/second-factor/confirm', { code: '000000' }),
      403,
      'proof_refused',
    )
    await signedIn(api(), email)
    // Started again, the secret is another.
    const second = await browser.post('/api/session/second-factor')
    const code = codeAt(second.body.secret, api().clock.now())
    expect((await browser.post('/api/session/second-factor/confirm', { code })).status).toBe(200)
    expectProblem(await browser.post('/api/session/second-factor'), 409, 'second_factor_present')
  })

  test('takes a code of the period before and after, each once, and none from before one that was taken', async () => {
    const { email } = await insertSigner(api())
    const { secret } = await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    const attempt = async (at: number) => {
      const browser = newBrowser(api())
      await browser.post('/api/sign-in', { email, password: PASSWORD })
      return (await browser.post('/api/sign-in/second-factor', { code: codeAt(secret, at) })).status
    }
    api().clock.advance(10 * 60_000)
    const now = api().clock.now()
    expect(await attempt(now - 60_000)).toBe(401)
    expect(await attempt(now - 30_000)).toBe(200)
    expect(await attempt(now - 30_000)).toBe(401)
    expect(await attempt(now + 60_000)).toBe(401)
    expect(await attempt(now + 30_000)).toBe(200)
    expect(await attempt(now)).toBe(401)
    expect(await attempt(now + 30_000)).toBe(401)
    api().clock.advance(90_000)
    expect(await attempt(api().clock.now())).toBe(200)
  })

  test('a code shown twice at the same time is taken once', async () => {
    const { email } = await insertSigner(api())
    const { secret } = await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    api().clock.advance(60_000)
    const code = codeAt(secret, api().clock.now())
    const browsers = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const browser = newBrowser(api())
        await browser.post('/api/sign-in', { email, password: PASSWORD })
        return browser
      }),
    )
    const answers = await Promise.all(
      browsers.map((each) => each.post('/api/sign-in/second-factor', { code })),
    )
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
  })

  test('wrong five times asks for the password again', async () => {
    const { email } = await insertSigner(api())
    const { secret } = await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    api().clock.advance(60_000)
    const browser = newBrowser(api())
    await browser.post('/api/sign-in', { email, password: PASSWORD })
    for (let tries = 0; tries < 5; tries++)
      expectProblem(
        await browser.post('/api/sign-in/second-factor', { code: '000000' }),
        401,
        'sign_in_failed',
      )
    api().clock.advance(60_000)
    const right = { code: codeAt(secret, api().clock.now()) }
    expectProblem(await browser.post('/api/sign-in/second-factor', right), 401, 'sign_in_failed')
  })

  test('is guessed ever more slowly, however often the password is given again', async () => {
    const { email } = await insertSigner(api())
    await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    let taken = 0
    for (let round = 0; round < 20; round++) {
      const browser = newBrowser(api())
      await browser.post('/api/sign-in', { email, password: PASSWORD })
      for (let tries = 0; tries < 5; tries++)
        if ((await browser.post('/api/sign-in/second-factor', { code: '000000' })).status === 401) taken += 1
    }
    expect(taken).toBe(20)
  })

  test('can be a backup code, once each, however it is typed', async () => {
    const { id, email } = await insertSigner(api())
    const { backupCodes } = await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    const attempt = async (backup_code: string) => {
      const browser = newBrowser(api())
      await browser.post('/api/sign-in', { email, password: PASSWORD })
      return (await browser.post('/api/sign-in/second-factor', { backup_code })).status
    }
    expect(await attempt(backupCodes[0]!)).toBe(200)
    expect(await attempt(backupCodes[0]!)).toBe(401)
    expect(await attempt(backupCodes[1]!.toUpperCase().replaceAll('-', ' '))).toBe(200)
    const browser = newBrowser(api())
    await browser.post('/api/sign-in', { email, password: PASSWORD })
    await browser.post('/api/sign-in/second-factor', { backup_code: backupCodes[2] })
    const renewed = await browser.post('/api/session/second-factor/backup-codes', {
      backup_code: backupCodes[3],
    })
    expect(renewed.body.backup_codes).toHaveLength(10)
    expect(await attempt(backupCodes[4]!)).toBe(401)
    expect(await attempt(renewed.body.backup_codes[0])).toBe(200)
    const { rows } = await api().db.pool.query(
      'SELECT row_to_json(b)::text AS row FROM backup_codes b WHERE user_id = $1',
      [id],
    )
    for (const code of renewed.body.backup_codes)
      expect(rows.map(({ row }) => row).join()).not.toContain(code)
  })

  test('goes with a proof, and not while everybody has to have one', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const { backupCodes } = await setUpSecondFactor(browser, api().clock.now())
    const remove = (body: object) => browser.post('/api/session/second-factor/remove', body)
    expectProblem(await remove({ password: 'not the password' }), 403, 'proof_refused')
    expectProblem(await remove({ code: '000000' }), 403, 'proof_refused')
    await api().db.pool.query('UPDATE security_settings SET require_second_factor = true')
    try {
      expectProblem(await remove({ backup_code: backupCodes[0] }), 403, 'second_factor_required')
    } finally {
      await api().db.pool.query('UPDATE security_settings SET require_second_factor = false')
    }
    expect((await remove({ password: PASSWORD })).status).toBe(204)
    await signedIn(api(), email)
  })

  test('that is gone counts in no session any more, once everybody has to have one', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    await setUpSecondFactor(browser, api().clock.now())
    await browser.post('/api/session/second-factor/remove', { password: PASSWORD })
    await api().db.pool.query('UPDATE security_settings SET require_second_factor = true')
    try {
      expectProblem(await browser.get('/api/sites'), 403, 'second_factor_required')
      expect((await browser.get('/api/session')).body.must).toBe('set_up_second_factor')
    } finally {
      await api().db.pool.query('UPDATE security_settings SET require_second_factor = false')
    }
  })

  test('has a secret that the database holds only sealed', async () => {
    const { id, email } = await insertSigner(api())
    const { secret } = await setUpSecondFactor(await signedIn(api(), email), api().clock.now())
    const { rows } = await api().db.pool.query(
      'SELECT secret_sealed FROM second_factors WHERE user_id = $1',
      [id],
    )
    expect(rows[0].secret_sealed.toString('latin1')).not.toContain(secret)
    expect(api().parts.seal.open(rows[0].secret_sealed, `second factor ${id}`)).toBe(secret)
  })

  test('is for whoever is signed in, not for a token', async () => {
    const { id } = await insertSigner(api())
    const { token } = await insertPersonalToken(api().db.database, id)
    for (const [method, url, body] of [
      ['POST', '/api/session/second-factor', undefined],
      ['POST', '/api/session/second-factor/confirm', { code: '123456' }],
      ['POST', '/api/password', { new_password: 'another quiet harbour' }],
      ['POST', '/api/sign-out', undefined],
      ['GET', '/api/sessions', undefined],
    ] as const)
      expectProblem(await api().call(method, url, body, { token }), 403, 'session_needed')
    expect((await api().get('/api/session', { token })).body).toMatchObject({
      kind: 'personal_token',
      user: { id },
    })
  })
})

describe('where everybody has to have a second factor', () => {
  test('whoever has none may set one up, see who they are, and go; and nothing else', async () => {
    const required = await startPeopleApi()
    onTestFinished(() => required.close())
    const { id, email } = await insertSigner(required, [{ role: 'owner' }])
    const { token } = await insertPersonalToken(required.db.database, id)
    const browser = await signedIn(required, email)
    await required.db.pool.query('UPDATE security_settings SET require_second_factor = true')

    const { paths } = required.app.swagger() as unknown as {
      paths: Record<string, Record<string, { 'x-scope': string }>>
    }
    const open: string[] = []
    for (const [path, methods] of Object.entries(paths))
      for (const [method, operation] of Object.entries(methods)) {
        if (['public', 'claim'].includes(operation['x-scope'])) continue
        const url = path.replace(/\{[^}]+\}/g, '0190a0a0-0000-7000-8000-000000000001')
        const verb = method.toUpperCase()
        if (`${verb} ${path}` === 'POST /api/sign-out') continue
        const answers = [
          await browser.call(verb, url, verb === 'GET' || verb === 'DELETE' ? undefined : {}),
          await required.app.inject({
            method: verb as 'GET',
            url,
            headers: { authorization: `Bearer ${token}` },
          }),
        ]
        for (const answer of answers) {
          const status = 'status' in answer ? answer.status : answer.statusCode
          const code =
            'body' in answer && typeof answer.body === 'object'
              ? answer.body?.code
              : JSON.parse((answer as { payload: string }).payload || '{}').code
          if (status !== 403 || code !== 'second_factor_required') open.push(`${verb} ${path}`)
        }
      }
    expect([...new Set(open)].sort()).toEqual([
      'GET /api/session',
      'POST /api/password',
      'POST /api/session/second-factor',
      'POST /api/session/second-factor/confirm',
    ])
    expect((await browser.get('/api/session')).body.must).toBe('set_up_second_factor')
    await setUpSecondFactor(browser, required.clock.now())
    expect((await browser.get('/api/sites')).status).toBe(200)
    expect((await required.get('/api/sites', { token })).status).toBe(200)
    expect((await browser.post('/api/sign-out')).status).toBe(204)
  })
})

describe('a password', () => {
  test('is changed by whoever knows the old one; other sessions end', async () => {
    const { email } = await insertSigner(api())
    const other = await signedIn(api(), email)
    const browser = await signedIn(api(), email)
    const change = (body: object) => browser.post('/api/password', body)
    const next = 'a louder harbour at noon'
    expectProblem(await change({ new_password: next }), 403, 'proof_refused')
    expectProblem(await change({ current_password: 'no', new_password: next }), 403, 'proof_refused')
    expect((await change({ current_password: PASSWORD, new_password: next })).status).toBe(204)
    expectProblem(await other.get('/api/session'), 401, 'credentials_required')
    expect((await browser.get('/api/session')).status).toBe(200)
    expectProblem(
      await newBrowser(api()).post('/api/sign-in', { email, password: PASSWORD }),
      401,
      'sign_in_failed',
    )
    await signedIn(api(), email, next)
  })

  test.each([
    'short',
    'elevenchars',
    'aaaaaaaaaaaaaaaa',
    'password1234',
    'PASSWORD1234!',
    'passwordpassword',
    'qwertyuiop123',
    'correct horse battery staple',
    'ü'.repeat(600),
  ])('of %j is refused', async (new_password) => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const problem = expectProblem(
      await browser.post('/api/password', { current_password: PASSWORD, new_password }),
      400,
      'invalid_request',
    )
    expect(problem.errors[0].pointer).toBe('/new_password')
    expect(JSON.stringify(problem)).not.toContain(new_password)
  })

  test('that holds the email is refused', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    for (const new_password of [`${email}!!`, `my ${email.split('@')[0]} password`])
      expectProblem(
        await browser.post('/api/password', { current_password: PASSWORD, new_password }),
        400,
        'invalid_request',
      )
  })

  test('changed while somebody signs in with the old one leaves no session of it', async () => {
    for (let round = 0; round < 10; round++) {
      const { email } = await insertSigner(api())
      const browser = await signedIn(api(), email)
      const racer = newBrowser(api())
      const [raced, changed] = await Promise.all([
        racer.post('/api/sign-in', { email, password: PASSWORD }),
        browser.post('/api/password', {
          current_password: PASSWORD,
          new_password: 'a louder harbour at noon',
        }),
      ])
      expect(changed.status).toBe(204)
      expect([200, 401]).toContain(raced.status)
      expectProblem(await racer.get('/api/session'), 401, 'credentials_required')
    }
  })
  test('and the second factor are not changed by a session that was ended while it asked', async () => {
    const waiting = "SELECT FROM pg_locks WHERE locktype IN ('tuple', 'transactionid') AND NOT granted"
    const asked: Readonly<Record<string, (browser: Browser, backupCode: string) => Promise<Answer>>> = {
      password: (browser) =>
        browser.post('/api/password', {
          current_password: PASSWORD,
          new_password: 'a louder harbour at noon',
        }),
      'backup codes': (browser, backup_code) =>
        browser.post('/api/session/second-factor/backup-codes', { backup_code }),
      'no second factor': (browser) =>
        browser.post('/api/session/second-factor/remove', { password: PASSWORD }),
    }
    for (const [what, ask] of Object.entries(asked)) {
      const { id, email } = await insertSigner(api())
      const browser = await signedIn(api(), email)
      const { backupCodes } = await setUpSecondFactor(browser, api().clock.now())
      const state = `SELECT (SELECT hash FROM passwords WHERE user_id = $1) AS password, two_factor_enabled,
        ARRAY(SELECT code_hash FROM backup_codes WHERE user_id = $1 AND used_at IS NULL ORDER BY 1) AS codes
        FROM users WHERE id = $1`
      // Somebody sets a password by an invitation, which ends all sessions, and is a little faster.
      const other = await api().db.pool.connect()
      try {
        await other.query('BEGIN')
        await other.query('SELECT FROM users WHERE id = $1 FOR UPDATE', [id])
        const answer = ask(browser, backupCodes[0]!)
        await eventually(async () => (await other.query(waiting)).rowCount, what)
        await other.query("UPDATE passwords SET hash = 'of another' WHERE user_id = $1", [id])
        await other.query('UPDATE sign_ins SET ended_at = now() WHERE user_id = $1', [id])
        const { rows: before } = await other.query(state, [id])
        await other.query('COMMIT')
        expectProblem(await answer, 401, 'credentials_required')
        expect((await other.query(state, [id])).rows, what).toEqual(before)
      } finally {
        other.release()
      }
    }
  })
})
