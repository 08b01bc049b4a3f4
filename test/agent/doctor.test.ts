import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { judgeRoom } from '../../agent/doctor/disk.ts'
import { EXAMINATION_MS, examine } from '../../agent/doctor/doctor.ts'
import { judgeCertificate } from '../../agent/doctor/reach.ts'
import { type Finding, ok, type Report, reportLines, reportOf } from '../../agent/doctor/report.ts'
import { judgeClock } from '../../agent/doctor/server.ts'
import { type AskService, lookAtService } from '../../agent/doctor/service.ts'
import { takeLock } from '../../agent/lock.ts'
import { type Clock, systemClock, systemRandom } from '../../agent/runtime.ts'
import { type Identity, renderState } from '../../agent/state.ts'
import { NOT_LINKED } from '../../agent/status.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { KEY, placesAt, temporaryFolder } from './support/agent-process.ts'
import { type ControlPlane, problem, startControlPlane } from './support/control-plane.ts'
import { certificateFor, startProxy } from './support/network.ts'

const TOKEN = mintCheckedToken('robot')
const inactive: AskService = async () => 'inactive'

/** A control plane that answers as the real one does; what each test is about is changed in it. */
async function plane(options?: Parameters<typeof startControlPlane>[0]): Promise<ControlPlane> {
  const server = await startControlPlane(options)
  server.onUpgrade = () => problem(401, 'credentials_required', 'A robot token is needed')
  server.onGet = (path) => {
    if (path === '/api/info')
      return { status: 200, body: { name: 'beacon', version: '1.2.3', protocol: 'beacon.v1' } }
    return path === '/agent/check' ? { status: 200, body: checked } : undefined
  }
  const checked = { kind: 'robot_token', status: 'active', server_time: '2026-01-01T00:00:00Z' }
  return server
}

/** The folder of a robot, and what the doctor says of it. */
class Patient {
  readonly folder = temporaryFolder()
  readonly config = join(this.folder, 'agent.toml')

  enrol(server: string, changes: Partial<Identity> = {}): this {
    const identity: Identity = {
      server,
      robotId: 'robot-1',
      name: 'cart',
      siteId: 'site-1',
      fleetId: 'fleet-1',
      gatewayUrl: `${server.replace(/^http/, 'ws')}/agent/ws`,
      heartbeatIntervalMs: 10_000,
      robotToken: TOKEN,
      machineId: undefined,
      ...changes,
    }
    writeFileSync(this.config, renderState({ settings: {}, identity, others: {} }), { mode: 0o600 })
    return this
  }

  examine(env: Record<string, string> = {}, clock: Clock = systemClock): Promise<Report> {
    const places = placesAt(this.config)
    return examine({ places, flags: {}, env, clock, scope: 'system', askService: inactive })
  }
}

const of = (report: Report, check: string): Finding | undefined =>
  report.findings.find((finding) => finding.check === check)

describe('the doctor', () => {
  test('finds nothing wrong where nothing is, and sends the token nowhere but to be checked', async () => {
    const server = await plane()
    const asked: string[] = []
    const answer = server.onGet
    server.onGet = (path, headers) => {
      asked.push(`${path} ${headers.authorization ?? '-'}`)
      return answer(path, headers)
    }
    const report = await new Patient().enrol(server.url).examine()

    expect(report.findings.filter(({ verdict }) => verdict === 'fail')).toEqual([])
    expect(report.ok).toBe(true)
    for (const check of [
      'identity',
      'files',
      'disk',
      'server.connection',
      'server.http',
      'clock',
      'credential',
    ])
      expect(of(report, check), check).toMatchObject({ verdict: 'ok' })
    expect(of(report, 'gateway.websocket')).toMatchObject({ verdict: 'ok' })
    expect(asked).toEqual(['/api/info -', `/agent/check Bearer ${TOKEN}`])
    expect(server.upgrades.all.map(({ authorization }) => authorization)).toEqual([undefined])
    expect(JSON.stringify(report)).not.toContain(TOKEN)
    expect(reportLines(report).at(-1)).toMatch(/^nothing failed/)
  })

  test('has a remedy for everything that is wrong', async () => {
    const patient = new Patient().enrol('http://127.0.0.1:9')
    chmodSync(patient.config, 0o644)
    const { findings } = await patient.examine({ HTTPS_PROXY: 'socks5://p' })
    const wrong = findings.filter(({ verdict }) => verdict === 'warn' || verdict === 'fail')
    expect(wrong.length).toBeGreaterThan(3)
    for (const { check, remedy } of wrong) expect(remedy, check).toMatch(/\w/)
  })

  test('tells a closed port', async () => {
    const report = await new Patient().enrol('http://127.0.0.1:9').examine()
    expect(report.ok).toBe(false)
    expect(of(report, 'server.connection')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('ECONNREFUSED'),
      remedy: expect.stringContaining('port'),
    })
    expect(of(report, 'credential')).toMatchObject({ verdict: 'skip' })
    expect(reportLines(report).at(-1)).toMatch(/^1 failed/)
  })

  test('tells a name that nobody knows', async () => {
    const report = await new Patient().enrol('http://nobody.invalid:8080').examine()
    expect(of(report, 'server.dns')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('nobody.invalid'),
    })
  })

  test('tells an authority that is not believed, and believes it when it is named', async () => {
    const tls = await certificateFor(['127.0.0.1'])
    const server = await plane({ tls })
    const patient = new Patient().enrol(server.url)
    expect(of(await patient.examine(), 'server.tls')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('SELF_SIGNED'),
      remedy: expect.stringContaining('--ca-file'),
    })
    const caFile = join(patient.folder, 'ca.pem')
    writeFileSync(caFile, tls.cert)
    const report = await patient.examine({ BEACON_CA_FILE: caFile })
    expect(of(report, 'server.tls')).toMatchObject({ verdict: 'ok' })
    expect(of(report, 'credential')).toMatchObject({ verdict: 'ok' })
    expect(of(report, 'gateway.websocket')).toMatchObject({ verdict: 'ok' })
  })

  test.each([
    [
      'ended',
      { notBeforeDate: new Date('2020-01-01'), notAfterDate: new Date('2021-01-01') },
      ['127.0.0.1'],
      /ended at/,
      /renew/,
    ],
    [
      'of the future',
      { notBeforeDate: new Date('2120-01-01'), notAfterDate: new Date('2121-01-01') },
      ['127.0.0.1'],
      /begins at/,
      /clock/,
    ],
    ['for another name', {}, ['other.test'], /not for 127\.0\.0\.1, but for DNS:other\.test/, /name/],
  ])('tells a certificate that is %s', async (_, validity, names, message, remedy) => {
    const tls = await certificateFor(names, validity)
    const server = await plane({ tls })
    const patient = new Patient().enrol(server.url)
    writeFileSync(join(patient.folder, 'ca.pem'), tls.cert)
    const report = await patient.examine({ BEACON_CA_FILE: join(patient.folder, 'ca.pem') })
    expect(of(report, 'server.tls')).toMatchObject({
      verdict: 'fail',
      message: expect.stringMatching(message),
      remedy: expect.stringMatching(remedy),
    })
    // Nothing secret goes to somebody who is not who he should be.
    expect(of(report, 'credential')).toMatchObject({ verdict: 'skip' })
  })

  test('tells a proxy, and one that refuses', async () => {
    const server = await plane()
    const good = await startProxy({ 'beacon.test:8080': server.port })
    const patient = new Patient().enrol('http://beacon.test:8080')
    const report = await patient.examine({ HTTP_PROXY: `http://u:s3cret@${good.address}` })
    expect(of(report, 'server.proxy')).toMatchObject({
      message: `goes through http://${good.address} (HTTP_PROXY)`,
    })
    expect(of(report, 'credential')).toMatchObject({ verdict: 'ok' })
    expect(JSON.stringify(report)).not.toContain('s3cret')

    const bad = await startProxy({}, { credentials: 'a:b' })
    expect(of(await patient.examine({ HTTP_PROXY: bad.address }), 'server.connection')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('407'),
      remedy: expect.stringContaining('NO_PROXY'),
    })
    // Nobody is told to look after the server for a proxy that is gone.
    expect(of(await patient.examine({ HTTP_PROXY: '127.0.0.1:9' }), 'server.connection')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('the proxy http://127.0.0.1:9 cannot be reached'),
      remedy: expect.stringMatching(/the proxy runs, and that its address in HTTP_PROXY is right/),
    })
  })

  test('takes the address of the server as the agent does', async () => {
    const server = await plane()
    const report = await new Patient().enrol(server.url).examine({ BEACON_SERVER: `${server.url}/` })
    expect(of(report, 'gateway.address')).toBeUndefined()
    expect(of(report, 'gateway.websocket')).toMatchObject({ verdict: 'ok' })
  })

  test('does not blame the server for an address that only this call names', async () => {
    const server = await plane()
    const report = await new Patient().enrol('https://before.example').examine({ BEACON_SERVER: server.url })
    expect(of(report, 'gateway.address')).toMatchObject({
      verdict: 'warn',
      message: `enrolled with https://before.example, connecting to ${server.url} as asked`,
      remedy: expect.stringContaining('BEACON_SERVER'),
    })
  })

  test('sends whoever has no agent to root, where the machine has one', async () => {
    const { config } = new Patient()
    const places = placesAt(config)
    const report = await examine({
      places,
      flags: {},
      env: {},
      clock: systemClock,
      scope: 'system',
      mayMeanOther: true,
      askService: inactive,
    })
    expect(of(report, 'identity')).toMatchObject({
      remedy: expect.stringMatching(/sudo beacon agent doctor/),
    })
    expect(of(report, 'server.connection')).toMatchObject({ verdict: 'skip' })
  })

  test('looks for no server where it cannot know which', async () => {
    const patient = new Patient()
    writeFileSync(patient.config, 'state = "enrolled"\nrobot_id = ', { mode: 0o600 })
    const { findings } = await patient.examine()
    expect(findings.filter(({ verdict }) => verdict === 'fail').map(({ check }) => check)).toEqual([
      'identity',
    ])
    expect(findings.find(({ check }) => check === 'server.connection')).toMatchObject({ verdict: 'skip' })
  })

  test('sees the key that install left for the agent', async () => {
    const server = await plane()
    const patient = new Patient()
    writeFileSync(`${patient.config}.enrollment-key`, KEY, { mode: 0o600 })
    const report = await patient.examine({ BEACON_SERVER: server.url })
    expect(of(report, 'credential')).toMatchObject({
      verdict: 'ok',
      message: expect.stringContaining(`${patient.config}.enrollment-key`),
    })
  })

  test('tells somebody else at the address', async () => {
    const server = await plane()
    server.onGet = () => ({ status: 302, headers: { location: 'http://login.example/' }, body: {} })
    expect(of(await new Patient().enrol(server.url).examine(), 'server.http')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('points to http://login.example/'),
    })
  })

  test.each([
    [problem(426, 'upgrade_required', 'Upgrade'), 'fail', /takes it out/],
    [problem(404, 'not_found', 'No'), 'fail', /HTTP 404 \(not_found\)/],
    [{ status: 401, text: '<html>' }, 'fail', /HTTP 401, not by a gateway/],
    [problem(503, 'draining', 'It stops'), 'warn', /takes nobody now: It stops/],
  ])('tells what becomes of an upgrade: %j', async (reply, verdict, message) => {
    const server = await plane()
    server.onUpgrade = () => reply
    expect(of(await new Patient().enrol(server.url).examine(), 'gateway.websocket')).toMatchObject({
      verdict,
      message: expect.stringMatching(message),
    })
  })

  test.each([
    [{ status: 200, body: { kind: 'robot_token', status: 'revoked' } }, 'fail', /is revoked/],
    [{ status: 200, body: { kind: 'robot_token', status: 'retired' } }, 'fail', /is retired/],
    [problem(401, 'invalid_token', 'No'), 'fail', /does not know this robot's token/],
    [problem(429, 'rate_limited', 'Wait'), 'warn', /Wait/],
    [{ status: 404 }, 'skip', /too old/],
  ])('tells what the token is worth: %j', async (reply, verdict, message) => {
    const server = await plane()
    const others = server.onGet
    server.onGet = (path, headers) => (path === '/agent/check' ? reply : others(path, headers))
    expect(of(await new Patient().enrol(server.url).examine(), 'credential')).toMatchObject({
      verdict,
      message: expect.stringMatching(message),
    })
  })

  test('looks at the key of a robot that is not enrolled yet', async () => {
    const server = await plane()
    const others = server.onGet
    let bearer: string | undefined
    server.onGet = (path, headers) => {
      if (path !== '/agent/check') return others(path, headers)
      bearer = headers.authorization
      return {
        status: 200,
        body: { kind: 'enrollment_key', status: 'active', uses_left: 7, address_allowed: true },
      }
    }
    const env = { BEACON_SERVER: server.url, BEACON_ENROLLMENT_KEY: KEY }
    const report = await new Patient().examine(env)
    expect(bearer).toBe(`Bearer ${KEY}`)
    expect(of(report, 'credential')).toMatchObject({
      verdict: 'ok',
      message: expect.stringContaining('for 7 more robots'),
    })
    expect(of(report, 'identity')).toMatchObject({ verdict: 'warn' })
    expect(JSON.stringify(report)).not.toContain(KEY)
    expect(of(await new Patient().examine({ BEACON_SERVER: server.url }), 'credential')).toMatchObject({
      verdict: 'warn',
    })
  })

  test('tells a clock that is wrong', async () => {
    const server = await plane()
    const skewed = (ms: number): Clock => ({ ...systemClock, now: () => systemClock.now() + ms })
    const patient = new Patient().enrol(server.url)
    for (const [ms, words] of [
      [-7_200_000, /2 h behind the server's/],
      [86_400_000, /24 h ahead of the server's/],
    ] as const)
      expect(of(await patient.examine({}, skewed(ms)), 'clock')).toMatchObject({
        verdict: 'warn',
        message: expect.stringMatching(words),
      })
    expect(judgeClock(undefined, 0, 0).verdict).toBe('skip')
  })

  test('tells files that others can read, and mends nothing', async () => {
    const server = await plane()
    const patient = new Patient().enrol(server.url)
    chmodSync(patient.config, 0o640)
    mkdirSync(`${patient.config}.d`, { mode: 0o755 })
    const before = readFileSync(patient.config, 'utf8')
    const report = await patient.examine()
    expect(report.ok).toBe(false)
    expect(of(report, 'files')).toMatchObject({
      verdict: 'fail',
      message: expect.stringContaining('mode 0640'),
      remedy: expect.stringContaining(`chmod 600 ${patient.config}`),
    })
    expect(report.findings.filter(({ check }) => check === 'files')).toHaveLength(1)
    expect(statSync(patient.config).mode & 0o777).toBe(0o640)
    expect(readFileSync(patient.config, 'utf8')).toBe(before)
  })

  test('tells a damaged identity, and one whose copy can be used', async () => {
    const patient = new Patient().enrol('http://127.0.0.1:9')
    writeFileSync(`${patient.config}.bak`, readFileSync(patient.config), { mode: 0o600 })
    writeFileSync(patient.config, 'state = "enrolled"\n', { mode: 0o600 })
    expect(of(await patient.examine(), 'identity')).toMatchObject({ verdict: 'warn' })
    writeFileSync(`${patient.config}.bak`, 'x', { mode: 0o600 })
    expect(of(await patient.examine(), 'identity')).toMatchObject({ verdict: 'fail' })
  })

  test('asks the running agent about its session', async () => {
    const server = await plane()
    const patient = new Patient().enrol(server.url)
    const lock = (await takeLock(placesAt(patient.config), systemClock, systemRandom))!
    onTestFinished(() => lock.release())
    const link = {
      ...NOT_LINKED,
      connection: 'connected',
      session_no: 12,
      connected_since: 'noon',
      last_ack_age_ms: 3_000,
    }
    lock.answerWith(() => ({ pid: 4711, link }))
    expect(of(await patient.examine(), 'agent')).toMatchObject({
      verdict: 'ok',
      message: 'runs with pid 4711, session 12 since noon, last acknowledged 3 s ago',
    })
    lock.answerWith(() => ({
      pid: 4711,
      link: { ...NOT_LINKED, connection: 'waiting', last_error: 'no route' },
    }))
    expect(of(await patient.examine(), 'agent')).toMatchObject({
      verdict: 'warn',
      message: expect.stringContaining('no route'),
    })
  })

  test('keeps nobody waiting for a server that says nothing', async () => {
    const silent: Server = createServer(() => {})
    await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening))
    onTestFinished(() => void silent.close())
    const { port } = silent.address() as { port: number }
    const clock = new ManualClock()
    const connected = new Promise((resolve) => silent.once('connection', resolve))
    const second = new Promise((resolve) => connected.then(() => silent.once('connection', resolve)))
    const examined = new Patient().enrol(`http://127.0.0.1:${port}`).examine({}, clock)
    await second
    clock.advance(EXAMINATION_MS)
    expect(of(await examined, 'server.http')).toMatchObject({ verdict: 'fail' })
  })
})

describe('what is judged by itself', () => {
  const room = { bsize: 4_096, bavail: 1_000_000, files: 1_000_000, ffree: 500_000 }
  test.each([
    ['ok', {}],
    ['ok', { files: 0, ffree: 0 }],
    ['fail', { bavail: 0 }],
    ['warn', { bavail: 20_000 }],
    ['fail', { ffree: 0 }],
    ['warn', { ffree: 10 }],
  ])('room on the disk: %s with %j', (verdict, changes) => {
    expect(judgeRoom('disk', '/x', { ...room, ...changes })).toMatchObject({ verdict })
  })

  test('a certificate that ends soon is worth a look', () => {
    const certificate = { valid_from: 'Jan 1 2026 GMT', valid_to: 'Jan 20 2026 GMT', subjectaltname: 'DNS:a' }
    const seen = (now: string, code?: string) =>
      judgeCertificate('tls', { certificate: certificate as never, code, host: 'a', now: Date.parse(now) })
        .verdict
    expect(seen('2026-01-02')).toBe('ok')
    expect(seen('2026-01-12')).toBe('warn')
    expect(seen('2026-01-12', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY')).toBe('fail')
  })

  test.each([
    ['active', true, 'ok'],
    ['failed', false, 'warn'],
    ['inactive', true, 'skip'],
    ['inactive', false, 'warn'],
    [undefined, false, 'skip'],
  ])('a service that is %s, an agent that runs: %s', async (state, isRunning, verdict) => {
    expect(await lookAtService('x.service', 'system', isRunning, async () => state)).toMatchObject({
      verdict,
    })
  })

  test("a user's own service is asked about at that user's systemd, and its remedies are for that", async () => {
    const ask: AskService = async (unit, own) =>
      [...own, unit].join(' ') === '--user x.service' ? 'failed' : ''
    expect(await lookAtService('x.service', 'user', false, ask)).toMatchObject({
      message: 'x.service is failed',
      remedy: 'see why: journalctl --user -u x.service -n 50; then: systemctl --user restart x.service',
    })
  })

  test('what comes from elsewhere forges no lines and shows no token', () => {
    const report = reportOf([ok('a', `evil\nFAIL  b  ${TOKEN}\u001b[31m`)])
    const lines = reportLines(report)
    expect(lines).toHaveLength(3)
    expect(lines.join('\n')).not.toContain(TOKEN)
    expect(lines.join('\n')).not.toContain('\u001b')
  })
})
