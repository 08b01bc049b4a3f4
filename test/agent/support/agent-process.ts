import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { askRunningAgent } from '../../../agent/lock.ts'
import { type Places, placesOf } from '../../../agent/places.ts'
import { systemClock } from '../../../agent/runtime.ts'
import { parseState } from '../../../agent/state.ts'
import type { AgentStatus } from '../../../agent/status.ts'
import { Mailbox } from './mailbox.ts'

const BEACON = join(import.meta.dirname, '../../../bin/beacon.js')

export const KEY = `rf_enroll_${'5a'.repeat(32)}`

/** A folder for one test. */
export function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'beacon-agent-')))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A real `beacon agent …` process. */
export class AgentProcess {
  /** Lines of the log. */
  readonly log = new Mailbox<string>()
  readonly answers = new Mailbox<string>()
  readonly exited: Promise<number | null>
  readonly #child: ChildProcess

  constructor(args: readonly string[], env: Readonly<Record<string, string>>) {
    this.#child = spawn(process.execPath, [BEACON, 'agent', ...args], {
      env: { PATH: process.env.PATH, NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    eachLine(this.#child.stderr!, this.log)
    eachLine(this.#child.stdout!, this.answers)
    this.exited = once(this.#child, 'close').then(([code]) => code)
  }

  get pid(): number {
    return this.#child.pid!
  }

  get logText(): string {
    return this.log.all.join('\n')
  }

  /** Waits for a line of the log. */
  says(pattern: RegExp): Promise<string> {
    return this.log.next((line) => pattern.test(line))
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Ends it as an operating system does, and answers with the exit code. */
  async stop(): Promise<number | null> {
    this.kill('SIGTERM')
    return this.exited
  }
}

function eachLine(stream: NodeJS.ReadableStream, lines: Mailbox<string>): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (part: string) => {
    const parts = (rest + part).split('\n')
    rest = parts.pop()!
    for (const line of parts) lines.put(line)
  })
}

export function placesAt(config: string): Places {
  return placesOf({ config, env: {}, isRoot: false, accountHome: '/nowhere' })
}

/** A robot of a test: a folder of its own, and agents that run in it. */
export class TestRobot {
  readonly folder = temporaryFolder()
  readonly config = join(this.folder, 'agent.toml')

  /** Starts `beacon agent run`. */
  run(args: readonly string[] = [], env: Readonly<Record<string, string>> = {}): AgentProcess {
    return this.#start(['run', ...args], env)
  }

  /** Runs `beacon agent <command>` to its end. */
  async command(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const started = this.#start(args, {})
    const code = await started.exited
    return { code, out: started.answers.all.join('\n'), err: started.logText }
  }

  /** What the running agent says of itself. */
  async status(): Promise<AgentStatus | undefined> {
    return (await askRunningAgent(placesAt(this.config), systemClock)) as AgentStatus | undefined
  }

  state() {
    return parseState(readFileSync(this.config, 'utf8'))
  }

  #start(args: readonly string[], env: Readonly<Record<string, string>>): AgentProcess {
    const started = new AgentProcess(args, { BEACON_CONFIG: this.config, ...env })
    onTestFinished(async () => {
      started.kill('SIGKILL')
      await started.exited
    })
    return started
  }
}
