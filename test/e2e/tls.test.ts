import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { chooseEngine } from '../../src/transport/engines.ts'
import { type TestCertificate, writeCertificate } from '../support/certificate.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  makeDataFolder,
  removeDataFolder,
  type ServerProcess,
  startServer,
} from '../support/server-process.ts'
import { mintToken } from './independent/operator.ts'
import { settings } from './scene.ts'

const BEACON = join(import.meta.dirname, '../../bin/beacon.js')
const adminToken = mintToken('rf_pat_')

let certificate: TestCertificate
let database: TestDatabase
let folder: string
beforeAll(async () => {
  certificate = await writeCertificate()
  database = await createTestDatabase()
  folder = await makeDataFolder()
})
afterAll(async () => {
  await removeDataFolder(folder)
  await database.drop()
  certificate.remove()
})

interface Reply {
  readonly status: number | undefined
  readonly headers: IncomingHttpHeaders
  // biome-ignore lint/suspicious/noExplicitAny: what the server says
  readonly body: any
}

/** Asks over HTTPS, trusting the one certificate alone. */
function call(server: ServerProcess, method: string, path: string, body?: object): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asked = request(
      `${server.url}${path}`,
      {
        method,
        ca: certificate.cert,
        agent: false,
        headers: {
          authorization: `Bearer ${adminToken}`,
          ...(body ? { 'content-type': 'application/json' } : {}),
        },
      },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('end', () =>
          resolve({ status: response.statusCode, headers: response.headers, body: JSON.parse(text) }),
        )
      },
    )
    asked.on('error', reject)
    asked.end(body && JSON.stringify(body))
  })
}

function startAgent(args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess {
  const home = join(folder, `agent-${args.length}-${Math.round(performance.now())}`)
  const child = spawn(process.execPath, [BEACON, 'agent', 'run', ...args], {
    env: {
      PATH: process.env.PATH ?? '',
      HOME: home,
      NO_COLOR: '1',
      BEACON_CONFIG: join(home, 'agent.toml'),
      ...env,
    },
    stdio: 'ignore',
  })
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })
  return child
}

describe.each(['ws', 'auto'])('a server with a certificate, engine %s,', (engine) => {
  test('serves operators over HTTPS, and robots over WSS', { timeout: 90_000 }, async () => {
    const server = await startServer({
      ...settings(folder, adminToken),
      BEACON_DATABASE_URL: database.url,
      BEACON_GATEWAY_ENGINE: engine,
      BEACON_TLS_CERT_FILE: certificate.certFile,
      BEACON_TLS_KEY_FILE: certificate.keyFile,
    })
    onTestFinished(() => server.kill9())
    expect(server.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/)
    expect(server.gatewayUrl).toMatch(/^wss:\/\/127\.0\.0\.1:\d+\/agent\/ws$/)
    const { port } = new URL(server.gatewayUrl)
    const hasPortOfItsOwn = (await chooseEngine(engine as 'ws' | 'auto')).engine.name === 'uws'
    expect(port !== new URL(server.url).port).toBe(hasPortOfItsOwn)

    const info = await call(server, 'GET', '/api/info')
    expect(info.body.gateway_url).toBe(server.gatewayUrl)
    expect(info.headers['strict-transport-security']).toBe('max-age=31536000')

    const site = await call(server, 'POST', '/api/sites', { name: `site ${engine}` })
    const fleet = await call(server, 'POST', '/api/fleets', { site_id: site.body.id, name: 'fleet' })
    const key = await call(server, 'POST', '/api/enrollment-keys', {
      site_id: site.body.id,
      fleet_id: fleet.body.id,
      name: 'key',
      max_uses: 1,
    })
    expect(key.body.setup_command).toContain(server.url)

    const args = ['--enrollment-key', key.body.key_value, '--server', server.url]
    // Without the certificate's authority it does not say its key to anybody.
    const distrustful = startAgent(args, { BEACON_NAME: 'distrustful' })
    startAgent(args, { BEACON_NAME: 'trusting', NODE_EXTRA_CA_CERTS: certificate.certFile })
    const robot = await eventually(async () => {
      const { body } = await call(server, 'GET', `/api/robots?fleet=${fleet.body.id}`)
      return body.items.find((item: { name: string; connection: string }) => item.connection === 'online')
    }, 'a robot online over TLS')
    expect(robot.name).toBe('trusting')
    await eventually(async () => {
      const { body } = await call(server, 'GET', `/api/robots/${robot.id}`)
      return body.heartbeat ?? body.latest_heartbeat ?? body.last_heartbeat_at
    }, 'a heartbeat over TLS')
    distrustful.kill('SIGKILL')
    const { body } = await call(server, 'GET', `/api/robots?fleet=${fleet.body.id}`)
    expect(body.items).toHaveLength(1)
    expect(await server.stop()).toBe(0)
  })
})
