import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { DIAL_TIMEOUT_MS, dial, ProxyRefusal } from '../../agent/network/dial.ts'
import { proxyAuthorization, proxyFor, readProxies, shownProxy } from '../../agent/network/proxy.ts'
import { faultOfCaFile, Trust } from '../../agent/network/trust.ts'
import { systemClock } from '../../agent/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { KEY, TestRobot, temporaryFolder } from './support/agent-process.ts'
import { startControlPlane } from './support/control-plane.ts'
import { certificateFor, plainNetwork, startProxy } from './support/network.ts'

/** Which proxy an address goes through in an environment. */
function chosen(address: string, env: Record<string, string>): string | undefined {
  const mistakes: string[] = []
  const proxy = proxyFor(new URL(address), readProxies(env, mistakes))
  expect(mistakes).toEqual([])
  return proxy && shownProxy(proxy)
}

describe('the proxy of an address', () => {
  test('is named by the variable of its kind', () => {
    const env = { HTTP_PROXY: 'http://plain:1', HTTPS_PROXY: 'http://secure:2' }
    expect(chosen('wss://beacon.example/agent/ws', env)).toBe('http://secure:2')
    expect(chosen('https://beacon.example', env)).toBe('http://secure:2')
    expect(chosen('ws://beacon.example', env)).toBe('http://plain:1')
    expect(chosen('http://beacon.example', env)).toBe('http://plain:1')
    expect(chosen('https://beacon.example', { HTTP_PROXY: 'http://plain:1' })).toBeUndefined()
    expect(chosen('https://beacon.example', { ALL_PROXY: 'http://all:3' })).toBe('http://all:3')
    expect(chosen('https://beacon.example', {})).toBeUndefined()
  })

  test('is named in lower case first, and without a scheme is http', () => {
    const env = { https_proxy: 'lower:3128', HTTPS_PROXY: 'http://upper:1' }
    expect(chosen('https://beacon.example', env)).toBe('http://lower:3128')
    expect(chosen('https://beacon.example', { ...env, https_proxy: '' })).toBe('http://upper:1')
  })

  test.each([
    ['*', 'https://beacon.example', true],
    ['beacon.example', 'https://beacon.example', true],
    ['BEACON.example', 'https://beacon.example.', true],
    ['example', 'https://beacon.example', true],
    ['.example', 'https://beacon.example', true],
    ['*.example', 'https://beacon.example', true],
    ['con.example', 'https://beacon.example', false],
    ['beacon.example:443', 'https://beacon.example', true],
    ['beacon.example:443', 'https://beacon.example:8443', false],
    ['beacon.example:80', 'ws://beacon.example', true],
    ['other.example,  beacon.example', 'https://beacon.example', true],
    ['other.example beacon.example', 'https://beacon.example', true],
    ['192.0.2.7', 'https://192.0.2.7', true],
    ['192.0.2.0/24', 'https://192.0.2.7:8443', true],
    ['192.0.2.0/24', 'https://192.0.3.7', false],
    ['192.0.2.0/33', 'https://192.0.2.7', false],
    ['192.0.2.7', 'https://beacon.example', false],
    ['fd00::/8', 'https://[fd00::7]', true],
    ['fd00::7', 'https://[fd00::7]:8443', true],
    ['[fd00::7]:443', 'https://[fd00::7]', true],
    ['[fd00::7]:443', 'https://[fd00::7]:8443', false],
    ['', 'https://beacon.example', false],
  ])('NO_PROXY=%s and %s: excepted %s', (exceptions, address, isExcepted) => {
    const found = chosen(address, { ALL_PROXY: 'http://proxy:1', NO_PROXY: exceptions })
    expect(found === undefined).toBe(isExcepted)
  })

  test('is never asked for the machine itself', () => {
    for (const host of ['127.0.0.1', 'localhost', 'a.localhost', '[::1]'])
      expect(chosen(`http://${host}:8080`, { ALL_PROXY: 'http://proxy:1' })).toBeUndefined()
  })

  test('is refused when it is none, without quoting it', () => {
    const mistakes: string[] = []
    readProxies({ HTTPS_PROXY: 'socks5://user:s3cret@proxy', http_proxy: 'http://' }, mistakes)
    expect(mistakes).toEqual([
      expect.stringMatching(/^http_proxy must be/),
      expect.stringMatching(/^HTTPS_PROXY must be/),
    ])
    expect(mistakes.join()).not.toContain('s3cret')
  })

  test('shows nothing of its user and password', () => {
    const proxies = readProxies({ HTTPS_PROXY: 'http://ro%40bot:p%3Ass@proxy:3128' }, [])
    const proxy = proxyFor(new URL('https://a.example'), proxies)!
    expect(shownProxy(proxy)).toBe('http://proxy:3128')
    expect(proxyAuthorization(proxy)).toBe(`Basic ${Buffer.from('ro@bot:p:ss').toString('base64')}`)
  })
})

/** A certificate and the file that makes robots believe it. */
async function authority(...names: string[]) {
  const tls = await certificateFor(names)
  const caFile = join(temporaryFolder(), 'ca.pem')
  writeFileSync(caFile, tls.cert)
  return { tls, caFile }
}

describe('an agent behind a proxy', () => {
  test('enrols and holds its session through it, with TLS and an authority of its own', async () => {
    const { tls, caFile } = await authority('beacon.test')
    const server = await startControlPlane({ tls })
    server.gatewayUrl = 'wss://beacon.test:8443/agent/ws'
    const proxy = await startProxy({ 'beacon.test:8443': server.port }, { credentials: 'robot:s3 cret' })
    const robot = new TestRobot()
    const agent = robot.run(
      ['--enrollment-key', KEY, '--server', 'https://beacon.test:8443', '--ca-file', caFile],
      { HTTPS_PROXY: `http://robot:s3%20cret@${proxy.address}` },
    )
    const session = await server.sessions.next()
    await session.heartbeats.first(2)

    expect(proxy.asked).toEqual(['beacon.test:8443', 'beacon.test:8443'])
    await agent.says(/through the proxy http:\/\/127\.0\.0\.1:\d+ \(HTTPS_PROXY\)/)
    expect(await agent.stop()).toBe(0)
    expect(agent.logText).not.toMatch(/s3.*cret/)
  })

  test('goes through an encrypted proxy, too, and without encryption beyond it', async () => {
    const { tls, caFile } = await authority('127.0.0.1')
    const server = await startControlPlane()
    server.gatewayUrl = 'ws://beacon.test:8080/agent/ws'
    const proxy = await startProxy({ 'beacon.test:8080': server.port }, { tls })
    const robot = new TestRobot()
    robot.run(['--enrollment-key', KEY, '--server', 'http://beacon.test:8080'], {
      http_proxy: `https://${proxy.address}`,
      BEACON_CA_FILE: caFile,
    })
    const session = await server.sessions.next()
    await session.heartbeats.first(1)
    expect(proxy.asked).toHaveLength(2)
  })

  test.each([
    ['401 Unauthorized', /answers HTTP 401 Unauthorized/],
    ['403 Forbidden', /answers HTTP 403 Forbidden/],
    ['407 Proxy Authentication Required', /407.*https_proxy has to hold the right user and password/],
  ])('that refuses with %s goes on trying: the server said nothing', async (refusal, sentence) => {
    const proxy = await startProxy({}, { refusal })
    const robot = new TestRobot()
    const agent = robot.run(['--enrollment-key', KEY, '--server', 'https://beacon.test'], {
      https_proxy: proxy.address,
    })
    expect(await agent.says(sentence)).toMatch(/trying again in/)
    await eventually(() => proxy.asked.length > 1, 'the next attempt')
    expect(await agent.stop()).toBe(0)
  })

  test('does not start with a proxy that it cannot use', async () => {
    const agent = new TestRobot().run(['--enrollment-key', KEY], { HTTPS_PROXY: 'socks5://u:s3cret@p' })
    expect(await agent.exited).toBe(2)
    expect(agent.logText).toMatch(/HTTPS_PROXY must be/)
    expect(agent.logText).not.toContain('s3cret')
  })
})

describe('whom the agent believes', () => {
  test('a server whose authority nobody named is not talked to', async () => {
    const { tls } = await authority('127.0.0.1')
    const server = await startControlPlane({ tls })
    const agent = new TestRobot().run(['--enrollment-key', KEY, '--server', server.url])
    await agent.says(/self.signed certificate.*trying again/)
    expect(server.claims.all).toEqual([])
  })

  test.each([
    [
      'agent.toml',
      (caFile: string, robot: TestRobot) => writeFileSync(robot.config, `ca_file = "${caFile}"\n`),
    ],
    ['NODE_EXTRA_CA_CERTS', () => {}],
  ])('an authority may come from %s', async (source, prepare) => {
    const { tls, caFile } = await authority('127.0.0.1')
    const other = await authority('other.test')
    const server = await startControlPlane({ tls })
    const robot = new TestRobot()
    prepare(caFile, robot)
    const env: Record<string, string> =
      source === 'NODE_EXTRA_CA_CERTS'
        ? // Not pushed aside by a file of the robot's own.
          { NODE_EXTRA_CA_CERTS: caFile, BEACON_CA_FILE: other.caFile }
        : {}
    robot.run(['--enrollment-key', KEY, '--server', server.url], env)
    await (await server.sessions.next()).hello()
  })

  test('a file without certificates, or with damaged ones, is a mistake', async () => {
    const folder = temporaryFolder()
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    expect(faultOfCaFile(join(folder, 'none.pem'))).toMatch(/none\.pem cannot be read \(ENOENT\)/)
    expect(faultOfCaFile(file('empty.pem', 'x'))).toMatch(/holds no certificate/)
    const { cert } = await certificateFor(['a'])
    expect(faultOfCaFile(file('cut.pem', cert.replace(/\n.{60}/, '\n')))).toMatch(/damaged certificate/)
    expect(faultOfCaFile(file('good.pem', cert))).toBeUndefined()

    const agent = new TestRobot().run(['--enrollment-key', KEY, '--ca-file', join(folder, 'empty.pem')])
    expect(await agent.exited).toBe(2)
    expect(agent.logText).toMatch(/--ca-file: .*holds no certificate/)
  })

  test('a renewed file counts for the next connection, and one half written does not', async () => {
    const first = await certificateFor(['127.0.0.1'])
    const second = await certificateFor(['127.0.0.1'])
    const caFile = join(temporaryFolder(), 'ca.pem')
    writeFileSync(caFile, first.cert)
    const trust = new Trust({ caFile, systemFiles: [] })
    const network = { ...plainNetwork(systemClock), trust }
    const [old, renewed] = [await startControlPlane({ tls: first }), await startControlPlane({ tls: second })]
    const reach = async (url: string) => (await dial(new URL(url), network)).destroy()

    await reach(old.url)
    await expect(reach(renewed.url)).rejects.toThrow(/self.signed/)
    writeFileSync(caFile, second.cert.slice(0, 200))
    await reach(old.url)
    writeFileSync(caFile, second.cert)
    await reach(renewed.url)
  })

  test('a certificate for another name is refused, by address as by name', async () => {
    const { tls, caFile } = await authority('other.test')
    const server = await startControlPlane({ tls })
    const network = { ...plainNetwork(systemClock), trust: new Trust({ caFile, systemFiles: [] }) }
    await expect(dial(new URL(server.url), network)).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    })
  })
})

const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
)

describe('dialling', () => {
  test.runIf(hasIpv6)('reaches an IPv6 address, with a certificate for it', async () => {
    const { tls, caFile } = await authority('::1')
    const server = await startControlPlane({ tls, host: '::1' })
    const robot = new TestRobot()
    robot.run(['--enrollment-key', KEY, '--server', server.url, '--ca-file', caFile])
    expect(server.url).toMatch(/^https:\/\/\[::1\]:/)
    await (await server.sessions.next()).heartbeats.first(1)
  })

  test('ends in time when nobody says anything', async () => {
    const silent = createServer(() => {})
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    onTestFinished(() => void silent.close())
    const arrived = once(silent, 'connection')
    const clock = new ManualClock()
    const { port } = silent.address() as AddressInfo
    const dialled = dial(new URL(`wss://127.0.0.1:${port}`), plainNetwork(clock))
    const [socket] = await arrived
    clock.advance(DIAL_TIMEOUT_MS)
    await expect(dialled).rejects.toThrow('no connection in time')
    await once(socket, 'close')
  })

  test('tells a refusal of the proxy from everything else', async () => {
    const proxy = await startProxy({}, { refusal: '503 Busy' })
    const proxies = readProxies({ ALL_PROXY: proxy.address }, [])
    const network = { ...plainNetwork(systemClock), proxies }
    await expect(dial(new URL('ws://beacon.test'), network)).rejects.toMatchObject({
      constructor: ProxyRefusal,
      status: 503,
    })
    proxy.stop()
    await expect(dial(new URL('ws://beacon.test'), network)).rejects.toThrow(
      /the proxy http:\/\/127.* cannot be reached: .*ECONNREFUSED/,
    )
  })
})
