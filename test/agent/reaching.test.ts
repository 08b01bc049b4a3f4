import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { DIAL_TIMEOUT_MS, dial } from '../../agent/network/dial.ts'
import { readProxies } from '../../agent/network/proxy.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { KEY, TestRobot, temporaryFolder } from './support/agent-process.ts'
import { type ControlPlane, startControlPlane } from './support/control-plane.ts'
import { plainNetwork, startProxy } from './support/network.ts'

const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
)

/** Addresses of names, or the code with which they cannot be looked up. */
type Names = Readonly<Record<string, readonly string[] | string>>

/** An agent to which names are what the test says. */
function startNaming(names: Names, args: readonly string[], env: Record<string, string> = {}) {
  const file = join(temporaryFolder(), 'names.json')
  const set = (next: Names) => writeFileSync(file, JSON.stringify(next))
  set(names)
  const preload = pathToFileURL(join(import.meta.dirname, 'support/names.mjs')).href
  const agent = new TestRobot().run(['--enrollment-key', KEY, ...args], {
    NODE_OPTIONS: `--import ${preload}`,
    TEST_NAMES: file,
    ...env,
  })
  return { agent, set }
}

/** A control plane that is reached by its name alone. */
async function named(): Promise<{ server: ControlPlane; address: string }> {
  const server = await startControlPlane()
  server.gatewayUrl = `ws://beacon.test:${server.port}/agent/ws`
  return { server, address: `http://beacon.test:${server.port}` }
}

describe('a name', () => {
  test('that cannot be looked up is tried again, before the enrolment and after it', async () => {
    const { server, address } = await named()
    const { agent, set } = startNaming({ 'beacon.test': 'EAI_AGAIN' }, ['--server', address])
    await agent.says(/cannot be reached: getaddrinfo EAI_AGAIN beacon\.test; trying again/)
    set({ 'beacon.test': ['127.0.0.1'] })
    const session = await server.sessions.next()
    await session.heartbeats.first(1)

    set({ 'beacon.test': 'ENOTFOUND' })
    session.vanish()
    await agent.says(/cannot connect: getaddrinfo ENOTFOUND beacon\.test; trying again/)
    set({ 'beacon.test': ['127.0.0.1'] })
    await (await server.sessions.next(undefined, 1)).heartbeats.first(1)
    expect(await agent.stop()).toBe(0)
  })

  test.each([
    ['refuses', '::1'],
    ['cannot be reached', '2001:db8::1'],
  ])('whose IPv6 address %s is reached by its IPv4 address', async (_how, dead) => {
    const { server, address } = await named()
    startNaming({ 'beacon.test': [dead, '127.0.0.1'] }, ['--server', address])
    await (await server.sessions.next()).heartbeats.first(1)
  })

  test.runIf(hasIpv6)('whose IPv6 address never answers is reached by its IPv4 address', async () => {
    const { server, address } = await named()
    await occupy('::1', server.port)
    const startedAt = performance.now()
    startNaming({ 'beacon.test': ['::1', '127.0.0.1'] }, ['--server', address])
    await (await server.sessions.next()).heartbeats.first(1)
    // The claim and the session each gave the first address its time.
    expect(performance.now() - startedAt).toBeGreaterThan(5_000)
  })

  test('that NO_PROXY names is dialled without the proxy', async () => {
    const { server, address } = await named()
    const proxy = await startProxy({}, { refusal: '403 Forbidden' })
    startNaming({ 'beacon.test': ['127.0.0.1'] }, ['--server', address], {
      http_proxy: proxy.address,
      no_proxy: `.test:${server.port}`,
    })
    await (await server.sessions.next()).heartbeats.first(1)
    expect(proxy.asked).toEqual([])
  })
})

/** Makes a port take no further connection, as a network does that drops packets: a process that is stopped, and its queue full. */
async function occupy(host: string, port: number): Promise<void> {
  const program = `require('node:net').createServer().listen({host: '${host}', port: ${port}, backlog: 1}, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  child.kill('SIGSTOP')
  // Until one is left waiting.
  for (;;) {
    const socket = connect(port, host)
    onTestFinished(() => void socket.destroy())
    const late = new Promise<'late'>((resolve) => setTimeout(resolve, 250, 'late'))
    if ((await Promise.race([once(socket, 'connect'), late])) === 'late') return
  }
}

describe('what stands between', () => {
  test('a sign-in page is no control plane: it is waited for, and gets no token', async () => {
    const server = await startControlPlane()
    const portal = await startControlPlane()
    const asked: string[] = []
    portal.onGet = (path) => {
      asked.push(path)
      return { status: 200, text: 'sign in' }
    }
    const page = { status: 200, headers: { 'content-type': 'text/html' }, text: '<html>Sign in</html>' }
    const elsewhere = { status: 302, headers: { location: `${portal.url}/login` }, text: '<html>' }
    server.onClaim = (number) => [page, elsewhere][number - 1] ?? 'grant'
    server.onUpgrade = (number) => [page, elsewhere][number - 1]
    const agent = new TestRobot().run(['--enrollment-key', KEY, '--server', server.url])
    await agent.says(/not enrolled yet: the answer is not one of a control plane.*trying again/)
    await agent.says(/not enrolled yet: the server sends elsewhere, to .*\/login.*trying again/)
    await agent.says(/cannot connect: the server answers HTTP 200; trying again/)
    await agent.says(/cannot connect: the server answers HTTP 302; trying again/)
    await (await server.sessions.next()).heartbeats.first(1)
    expect([asked, portal.claims.all, portal.upgrades.all]).toEqual([[], [], []])
    expect(await agent.stop()).toBe(0)
  })

  test('a proxy that takes connections and says nothing is given up in time', async () => {
    const silent = createServer(() => {})
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    onTestFinished(() => void silent.close())
    const { port } = silent.address() as AddressInfo
    const clock = new ManualClock()
    const proxies = readProxies({ ALL_PROXY: `127.0.0.1:${port}` }, [])
    const arrived = once(silent, 'connection')
    const dialled = dial(new URL('wss://beacon.test'), { ...plainNetwork(clock), proxies })
    const [socket] = await arrived
    await once(socket, 'data')
    clock.advance(DIAL_TIMEOUT_MS)
    await expect(dialled).rejects.toThrow('no connection in time')
    await eventually(() => socket.destroyed || socket.readableEnded, 'the end of the connection')
  })
})
