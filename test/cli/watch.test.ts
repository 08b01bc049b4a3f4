import { describe, expect, test } from 'vitest'
import { run } from '../../src/cli/program.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { type Clock, systemClock } from '../../src/runtime.ts'
import { fakeServer, page, problem, type Script } from './fake-server.ts'
import { FakeTerminal, type TerminalOptions } from './fake-terminal.ts'

/** A clock on which waiting takes no longer than a turn of the event loop. */
const hurried: Clock = {
  ...systemClock,
  sleep: (_delayMs, signal) =>
    new Promise((resolve, reject) =>
      setImmediate(() => (signal?.aborted ? reject(signal.reason as Error) : resolve())),
    ),
}

const robotWith = (more: object) => ({
  id: 'robot-1',
  site_id: 'site-1',
  fleet_id: 'fleet-1',
  name: 'bot-01',
  labels: {},
  lifecycle: 'active',
  connection: 'online',
  connection_reason: 'connected',
  connection_since: '2026-01-01T00:00:00Z',
  health: 'ok',
  last_seen_at: null,
  heartbeat: null,
  ...more,
})

const showing = (...robots: readonly object[]): Script => ({
  'GET /api/fleets': page([{ id: 'fleet-1', site_id: 'site-1', name: 'pickers' }]),
  'GET /api/robots': page(robots),
})

async function watching(options: TerminalOptions = {}, argv: readonly string[] = []) {
  const server = await fakeServer(showing(robotWith({})))
  const env = { BEACON_URL: server.url, BEACON_API_KEY: mintCheckedToken('personal') }
  const terminal = new FakeTerminal({ clock: hurried, env, ...options })
  const ended = run(['robots', 'watch', ...argv], terminal)
  return { server, terminal, ended }
}

describe('watching robots', () => {
  test('writes one line per change, and heartbeats alone are none', async () => {
    const { server, terminal, ended } = await watching()
    await terminal.wrote(/bot-01: online/)
    server.say(showing(robotWith({ heartbeat: { age_ms: 1 } })))
    server.say(
      showing(
        robotWith({ connection: 'offline', connection_reason: 'bye' }),
        robotWith({ id: 'robot-2', name: 'bot-02' }),
      ),
    )
    await terminal.wrote(/bot-02/)
    server.say(showing())
    await terminal.wrote(/bot-02: no longer in the list/)
    terminal.interrupt()
    expect((await ended) ?? 0).toBe(0)
    expect(
      terminal.text
        .trimEnd()
        .split('\n')
        .map((line) => line.slice(9)),
    ).toEqual([
      'bot-01: online (connected), health ok, active',
      'bot-01: connection online → offline (bye)',
      'bot-02: online (connected), health ok, active',
      'bot-01: no longer in the list',
      'bot-02: no longer in the list',
    ])
  })

  test('as JSON is one object per line', async () => {
    const { server, terminal, ended } = await watching({}, ['--json'])
    await terminal.wrote(/appeared/)
    server.say(showing(robotWith({ health: 'warn' })))
    await terminal.wrote(/changed/)
    terminal.interrupt()
    await ended
    const lines = terminal.stdout.trimEnd().split('\n')
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { change: 'appeared', robot: { name: 'bot-01', health: 'ok' } },
      { change: 'changed', robot: { name: 'bot-01', health: 'warn' }, before: { health: 'ok' } },
    ])
  })

  test('waits for a server that restarts, and says so once', async () => {
    const { server, terminal, ended } = await watching()
    await terminal.wrote(/bot-01: online/)
    server.say({ 'GET /api/robots': problem(503, 'draining', 'The server is shutting down') })
    await terminal.wrote(/shutting down/)
    server.say({ 'GET /api/robots': { body: 'cut' } })
    server.say(showing(robotWith({ connection: 'stale' })))
    await terminal.wrote(/stale/)
    terminal.interrupt()
    expect((await ended) ?? 0).toBe(0)
    expect(terminal.stderr.match(/waiting for it/g)).toHaveLength(1)
    expect(terminal.stderr).toContain('the server is back after')
  })

  test('ends when the key is refused', async () => {
    const { server, terminal, ended } = await watching()
    await terminal.wrote(/bot-01: online/)
    server.say({ 'GET /api/robots': problem(401, 'token_revoked', 'The token was revoked') })
    expect(await ended).toBe(3)
    expect(terminal.stderr).toContain('The token was revoked')
  })

  test('does not wait for a server that was never there', async () => {
    const terminal = new FakeTerminal({
      clock: hurried,
      env: { BEACON_URL: 'http://127.0.0.1:1', BEACON_API_KEY: mintCheckedToken('personal') },
    })
    expect(await run(['robots', 'watch'], terminal)).toBe(4)
  })

  test('draws a table on a terminal, and gives the screen back', async () => {
    const { server, terminal, ended } = await watching({ columns: 80, rows: 5 })
    await terminal.wrote(/bot-01 +pickers +online/)
    server.say(
      showing(
        ...Array.from({ length: 9 }, (_, index) => robotWith({ id: `${index}`, name: `bot-${index}` })),
      ),
    )
    await terminal.wrote(/9 robots, 9 online/)
    terminal.interrupt()
    await ended
    const frames = terminal.stdout.split('\u001b[H').slice(1, -1)
    for (const frame of frames) expect(frame.split('\r\n').length).toBeLessThanOrEqual(5)
    expect(terminal.stdout.split('\u001b[?1049h')).toHaveLength(2)
    const around = terminal.stdout.split('\u001b[?1049l')
    expect(around).toHaveLength(2)
    expect(around[1]).toContain('bot-8')
  })
})
