import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Browser } from '../../support/browser.ts'
import { CALLBACK, startForger, startProvider } from '../../support/identity-provider.ts'
import {
  codeAt,
  insertSigner,
  newBrowser,
  PASSWORD,
  setUpSecondFactor,
  signedIn,
} from '../../support/people.ts'
import { expectProblem, unique } from '../api.ts'
import { type PeopleApi, startPeopleApi } from './people-api.ts'

const pathOf = (url: string) => url.slice('http://localhost'.length)

/** Starts at our door; answers with where the provider is. */
async function start(browser: Browser): Promise<string> {
  const answer = await browser.get('/api/sign-in/oidc')
  expect(answer.status, answer.text).toBe(302)
  return String(answer.headers.location)
}

describe('with a real provider', () => {
  let api: PeopleApi
  let provider: Awaited<ReturnType<typeof startProvider>>
  beforeAll(async () => {
    provider = await startProvider()
    api = await startPeopleApi({ oidc: provider.settings })
  })
  afterAll(async () => {
    await api?.close()
    await provider?.close()
  })

  /** Somebody who was invited and has an account with the same email. */
  async function invited() {
    const email = `${unique('oidc')}@example.test`
    const user = (await api.post('/api/users', { name: 'somebody', email, roles: [{ role: 'viewer' }] })).body
    const account = unique('account')
    provider.accounts.set(account, { email: email.toUpperCase(), email_verified: true })
    return { user, email, account }
  }

  async function come(account: string, browser = newBrowser(api)) {
    const back = await provider.visit(await start(browser), account)
    return { browser, back, answer: await browser.get(pathOf(back)) }
  }

  test('lets in whoever was invited with that verified email, and knows them by issuer and subject from then on', async () => {
    const { user, email, account } = await invited()
    const { browser, answer } = await come(account)
    expect([answer.status, answer.headers.location]).toEqual([302, 'http://localhost/'])
    expect((await browser.get('/api/session')).body).toMatchObject({
      user: { id: user.id, email },
      has_password: false,
    })
    const { rows } = await api.db.pool.query('SELECT issuer, subject FROM identities WHERE user_id = $1', [
      user.id,
    ])
    expect(rows).toEqual([{ issuer: provider.issuer, subject: account }])
    // The invitation is used up with it.
    const accept = { token: user.invitation_token, password: PASSWORD }
    expectProblem(await newBrowser(api).post('/api/invitations/accept', accept), 403, 'invitation_invalid')
    // The email at the provider counts no more.
    provider.accounts.set(account, { email: 'changed@example.test', email_verified: false })
    expect((await come(account)).answer.status).toBe(302)
    expect((await api.auditOf(user.id)).map(({ action, data }) => [action, data.method])).toEqual([
      ['user.invited', undefined],
      ['identity.bound', undefined],
      ['sign_in.succeeded', 'oidc'],
      ['sign_in.succeeded', 'oidc'],
    ])
  })

  test('asks with PKCE, a state and a nonce of its own each time', async () => {
    const [one, two] = [new URL(await start(newBrowser(api))), new URL(await start(newBrowser(api)))]
    for (const url of [one, two])
      expect(Object.fromEntries(url.searchParams)).toMatchObject({
        response_type: 'code',
        client_id: 'beacon',
        scope: 'openid email',
        code_challenge_method: 'S256',
        redirect_uri: CALLBACK,
      })
    for (const name of ['state', 'nonce', 'code_challenge'])
      expect(one.searchParams.get(name)).not.toBe(two.searchParams.get(name))
    expect(one.href).not.toContain(provider.settings.clientSecret)
  })

  test.each([
    ['was not invited', { email: 'stranger@example.test', email_verified: true }, 'not_invited'],
    ['says no email', {}, 'no_email'],
  ])('refuses somebody who %s', async (_, claims, reason) => {
    const account = unique('account')
    provider.accounts.set(account, claims)
    const { browser, answer } = await come(account)
    expectProblem(answer, 401, 'sign_in_failed')
    expect(api.refused.at(-1)).toMatchObject({ action: 'sign_in.failed', data: { method: 'oidc', reason } })
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
  })

  test.each([[{ email_verified: false }], [{}], [{ email_verified: 'true' }]])(
    'refuses the email of somebody who was invited when it is not verified: %j',
    async (verified) => {
      const { email, user } = await invited()
      const account = unique('account')
      provider.accounts.set(account, { email, ...(verified as { email_verified?: boolean }) })
      expectProblem((await come(account)).answer, 401, 'sign_in_failed')
      expect(api.refused.at(-1)).toMatchObject({
        target: { id: user.id },
        data: { reason: 'email_not_verified' },
      })
    },
  )

  test('refuses another subject with the same verified email, until somebody says otherwise', async () => {
    const { user, email, account } = await invited()
    expect((await come(account)).answer.status).toBe(302)
    const impostor = unique('account')
    provider.accounts.set(impostor, { email, email_verified: true })
    expectProblem((await come(impostor)).answer, 401, 'sign_in_failed')
    expect(api.refused.at(-1)).toMatchObject({ data: { reason: 'other_identity' } })
    await api.post(`/api/users/${user.id}/invite`)
    expectProblem((await come(impostor)).answer, 401, 'sign_in_failed')
    await api.post(`/api/users/${user.id}/invite`, { forget_identity: true })
    expect((await come(impostor)).answer.status).toBe(302)
    expectProblem((await come(account)).answer, 401, 'sign_in_failed')
  })

  test('lets nobody in who was removed', async () => {
    const { user, account } = await invited()
    const { browser } = await come(account)
    await api.delete(`/api/users/${user.id}`)
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    expectProblem((await come(account)).answer, 401, 'sign_in_failed')
  })

  test('takes an answer once, and only in the browser that asked', async () => {
    const { account } = await invited()
    const browser = newBrowser(api)
    const url = await start(browser)
    const cookie = browser.cookies.get('beacon_session')!
    const back = pathOf(await provider.visit(url, account))
    expectProblem(await newBrowser(api).get(back), 401, 'sign_in_failed')
    const other = newBrowser(api)
    await start(other)
    expectProblem(await other.get(back), 401, 'sign_in_failed')
    const twin = newBrowser(api)
    twin.cookies.set('beacon_session', cookie)
    const answers = await Promise.all([browser.get(back), twin.get(back)])
    expect(answers.map(({ status }) => status).sort()).toEqual([302, 401])
    browser.cookies.set('beacon_session', cookie)
    expectProblem(await browser.get(back), 401, 'sign_in_failed')
  })

  test('refuses a code that was used before, with a new start', async () => {
    const { account } = await invited()
    const { back } = await come(account)
    const browser = newBrowser(api)
    const state = new URL(await start(browser)).searchParams.get('state')!
    const replayed = new URL(back)
    replayed.searchParams.set('state', state)
    expectProblem(await browser.get(pathOf(replayed.href)), 401, 'sign_in_failed')
  })

  test.each([
    ['state', 'wrong'],
    ['state', undefined],
    ['code', 'wrong'],
    ['code', undefined],
    ['iss', 'https://evil.example'],
  ])('refuses an answer whose %s is %s', async (name, value) => {
    const { account } = await invited()
    const browser = newBrowser(api)
    const back = new URL(await provider.visit(await start(browser), account))
    if (value === undefined) back.searchParams.delete(name)
    else back.searchParams.set(name, value)
    const problem = expectProblem(await browser.get(pathOf(back.href)), 401, 'sign_in_failed')
    expect(JSON.stringify(problem)).not.toContain(provider.settings.clientSecret)
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
  })

  test('says so when the person declined', async () => {
    const browser = newBrowser(api)
    const back = await provider.visit(await start(browser), 'nobody')
    const problem = expectProblem(await browser.get(pathOf(back)), 401, 'sign_in_failed')
    expect(problem.detail).toBe('the identity provider answered access_denied')
  })

  test('does not stand in for a second factor that is set up here', async () => {
    const { email, account } = await invited()
    const { browser } = await come(account)
    const { secret } = await setUpSecondFactor(browser, api.clock.now())
    const again = await come(account)
    expect(again.answer.headers.location).toBe('http://localhost/#second-factor')
    expectProblem(await again.browser.get('/api/session'), 401, 'credentials_required')
    api.clock.advance(60_000)
    await again.browser.post('/api/sign-in/second-factor', { code: codeAt(secret, api.clock.now()) })
    expect((await again.browser.get('/api/session')).body.user.email).toBe(email)
  })

  test('ends nobody’s session by a link on another site', async () => {
    const { email } = await insertSigner(api)
    const browser = await signedIn(api, email)
    const answer = await browser.get('/api/sign-in/oidc')
    expect(answer.headers.location).toBe('http://localhost/')
    expectProblem(await browser.get('/api/sign-in/oidc/callback?code=a&state=b'), 401, 'sign_in_failed')
    expect((await browser.get('/api/session')).body.user.email).toBe(email)
  })

  test('gives a session another secret than the start had', async () => {
    const { account } = await invited()
    const browser = newBrowser(api)
    const url = await start(browser)
    const before = browser.cookies.get('beacon_session')!
    await browser.get(pathOf(await provider.visit(url, account)))
    expect(browser.cookies.get('beacon_session')).not.toBe(before)
    const attacker = newBrowser(api)
    attacker.cookies.set('beacon_session', before)
    expectProblem(await attacker.get('/api/session'), 401, 'credentials_required')
  })

  test('keeps what has to come back sealed, and no longer than needed', async () => {
    const browser = newBrowser(api)
    const state = new URL(await start(browser)).searchParams.get('state')!
    const { rows } = await api.db.pool.query(
      `SELECT encode(flow_sealed, 'escape') AS flow, expires_at - created_at <= interval '10 minutes' AS short
       FROM sign_ins WHERE stage = 'oidc' AND ended_at IS NULL`,
    )
    for (const row of rows) expect([row.short, row.flow.includes(state)]).toEqual([true, false])
    const ended = await api.db.pool.query(
      'SELECT FROM sign_ins WHERE ended_at IS NOT NULL AND flow_sealed IS NOT NULL',
    )
    expect(ended.rowCount).toBe(0)
  })
})

describe('with a provider that answers what it should not', () => {
  let api: PeopleApi
  let forger: Awaited<ReturnType<typeof startForger>>
  beforeAll(async () => {
    forger = await startForger()
    api = await startPeopleApi({
      oidc: { ...forger.settings, secondFactorValues: ['mfa', 'urn:example:gold'] },
    })
  })
  afterAll(async () => {
    await api?.close()
    await forger?.close()
  })

  const claimsOf = (email: string, more = {}) => ({
    sub: unique('sub'),
    email,
    email_verified: true,
    ...more,
  })

  async function come() {
    const browser = newBrowser(api)
    return { browser, answer: await browser.get(pathOf(forger.visit(await start(browser)))) }
  }

  test('lets in by an answer that is as it should be, proving the code with its verifier', async () => {
    const { email } = await insertSigner(api)
    forger.forge({ claims: claimsOf(email) })
    expect((await come()).answer.status).toBe(302)
    expect(forger.exchanges.at(-1)!.get('code_verifier')).toMatch(/^[\w-]{43,128}$/)
    expect(forger.exchanges.at(-1)!.get('client_secret')).toBeNull()
  })

  test.each([
    ['another nonce', { claims: { nonce: 'another' } }],
    ['no nonce', { claims: { nonce: undefined } }],
    ['a foreign issuer', { claims: { iss: 'https://evil.example' } }],
    ['a foreign audience', { claims: { aud: 'another client' } }],
    ['two audiences and none it was made for', { claims: { aud: ['beacon', 'other'], azp: 'other' } }],
    ['a time that is over', { claims: { exp: 1_000_000 } }],
    ['no time at all', { claims: { exp: undefined } }],
    ['no subject', { claims: { sub: undefined } }],
    ['a foreign signature', { signature: 'foreign' }],
    ['no signature', { signature: 'none' }],
    ['no ID token', { withoutIdToken: true }],
  ] as const)('refuses an ID token with %s', async (_, forgery) => {
    const { id, email } = await insertSigner(api)
    const claims = { ...claimsOf(email), ...('claims' in forgery ? forgery.claims : {}) }
    forger.forge({ ...forgery, claims })
    const { browser, answer } = await come()
    expectProblem(answer, 401, 'sign_in_failed')
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    expect((await api.db.pool.query('SELECT FROM identities WHERE user_id = $1', [id])).rowCount).toBe(0)
  })

  test.each([
    [{ amr: ['pwd', 'mfa'] }, true],
    [{ acr: 'urn:example:gold' }, true],
    [{ amr: ['pwd'] }, false],
    [{ amr: 'mfa' }, false],
    [{ acr: 'mfa2' }, false],
    [{}, false],
  ])('takes %j for a second factor: %s', async (said, counts) => {
    const { email } = await insertSigner(api)
    const claims = claimsOf(email, said)
    forger.forge({ claims })
    const first = await come()
    await setUpSecondFactor(first.browser, api.clock.now())
    const { answer } = await come()
    expect(answer.headers.location).toBe(`http://localhost/${counts ? '' : '#second-factor'}`)
  })

  test('where everybody has to have one, only what counts lets somebody go on', async () => {
    await api.db.pool.query('UPDATE security_settings SET require_second_factor = true')
    onTestFinished(async () => {
      await api.db.pool.query('UPDATE security_settings SET require_second_factor = false')
    })
    const { email } = await insertSigner(api)
    const claims = claimsOf(email)
    forger.forge({ claims })
    expectProblem(await (await come()).browser.get('/api/sites'), 403, 'second_factor_required')
    forger.forge({ claims: { ...claims, amr: ['mfa'] } })
    expect((await (await come()).browser.get('/api/sites')).status).toBe(200)
  })

  test('says so when the provider cannot be had, and finds it again', async () => {
    const lost = await startForger()
    const other = await startPeopleApi({ oidc: lost.settings })
    onTestFinished(() => other.close())
    onTestFinished(() => lost.close())
    lost.setDiscoverable(false)
    const answer = await newBrowser(other).get('/api/sign-in/oidc')
    expectProblem(answer, 502, 'identity_provider_failed')
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
    lost.setDiscoverable(true)
    await start(newBrowser(other))
  })
})

test('without a provider there is no such door', async () => {
  const api = await startPeopleApi()
  onTestFinished(() => api.close())
  expect((await api.get('/api/sign-in')).body).toEqual({ password: true, oidc: false, second_factor: null })
  for (const path of ['/api/sign-in/oidc', '/api/sign-in/oidc/callback'])
    expectProblem(await newBrowser(api).get(path), 404, 'not_found')
})
