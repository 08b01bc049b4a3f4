import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { joinEchoedSignals } from '../../src/cli/signals.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { fakeServer, page } from './fake-server.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'beacon.js')

/** A server with so many robots that their list does not fit into a pipe. */
async function environment(more: object = {}): Promise<NodeJS.ProcessEnv> {
  const robots = Array.from({ length: 200 }, (_, index) => ({
    id: String(index),
    name: `bot-${index}`.padEnd(1_000, '.'),
    connection: 'online',
    connection_reason: 'connected',
    health: 'ok',
    lifecycle: 'active',
  }))
  const server = await fakeServer({ 'GET /api/robots': page(robots), 'GET /api/fleets': page([]) })
  return { ...process.env, BEACON_URL: server.url, BEACON_API_KEY: mintCheckedToken('personal'), ...more }
}

async function exitCode(child: ChildProcess): Promise<number | null> {
  const [code] = await once(child, 'exit')
  return code as number | null
}

describe('a reader that goes away', () => {
  test.each([
    ['a list', ['robots', 'list', '--json']],
    ['a watch', ['robots', 'watch', '--json']],
  ])('ends %s without a word', async (_what, args) => {
    const child = spawn(process.execPath, [program, ...args], {
      env: await environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += chunk
    })
    child.stdout?.once('data', () => child.stdout?.destroy())
    expect(await exitCode(child)).toBe(0)
    expect(said).toBe('')
  })
})

test('Ctrl-C ends a watch with 0', async () => {
  const child = spawn(process.execPath, [program, 'robots', 'watch'], {
    env: await environment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.stdout?.once('data', () => child.kill('SIGINT'))
  child.stdout?.resume()
  expect(await exitCode(child)).toBe(0)
})

describe('below npm', () => {
  test('the end of the shell between is the end of the command', async () => {
    // A second command keeps the shell from handing its place over.
    const shell = spawn('sh', ['-c', `"${process.execPath}" "${program}" robots watch --json; true`], {
      env: await environment({ npm_lifecycle_event: 'npx' }),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    shell.stdout.once('data', () => shell.kill('SIGKILL'))
    shell.stdout.resume()
    // The command is the last to hold the pipe.
    await once(shell.stdout, 'close')
  })

  test('a signal that is echoed counts once, and one that a person repeats twice', () => {
    const { emit } = process
    const clock = new ManualClock()
    let signals = 0
    const count = () => {
      signals += 1
    }
    process.on('SIGTERM', count)
    onTestFinished(() => {
      process.emit = emit
      process.off('SIGTERM', count)
    })
    joinEchoedSignals(clock)
    process.emit('SIGTERM')
    process.emit('SIGTERM')
    expect(signals).toBe(1)
    clock.advance(250)
    process.emit('SIGTERM')
    expect(signals).toBe(2)
  })
})
