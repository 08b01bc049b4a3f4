import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { unlessInterrupted } from './interrupt.ts'

/** Ends a child whose bench was killed. */
const LEASH = fileURLToPath(new URL('../../src/cli/demo/leash.js', import.meta.url))
const GRACE_MS = 15_000

export interface ChildOptions {
  readonly args?: readonly string[]
  /** Settings of the server under test; none of the caller's own reach it. */
  readonly settings?: Readonly<Record<string, string>>
  /** Arguments of node itself. */
  readonly node?: readonly string[]
}

export type StartChild = (program: URL, options?: ChildOptions) => Child

function environmentWith(settings: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('BEACON_'))
  return { ...Object.fromEntries(inherited), ...settings }
}

/** Runs the work, which may start processes, and ends them afterwards, the last one first. */
export async function withChildren<Result>(work: (start: StartChild) => Promise<Result>): Promise<Result> {
  const children: Child[] = []
  let over = false
  try {
    return await unlessInterrupted(() =>
      work((program, options = {}) => {
        // Interrupted work knows nothing of it, and goes on until it meets something that fails.
        if (over) throw new Error('it is too late to start another process')
        const child = new Child(program, options)
        children.push(child)
        return child
      }),
    )
  } finally {
    over = true
    for (const child of children.toReversed()) await child.stop()
  }
}

/** A process of its own: a server under test, or a program that puts it under load. */
export class Child {
  readonly #process: ChildProcess
  readonly #ended: Promise<unknown>
  #printed = ''

  constructor(program: URL, { args = [], settings = {}, node = [] }: ChildOptions) {
    this.#process = spawn(
      process.execPath,
      ['--import', LEASH, ...node, fileURLToPath(program), ...args],
      // A group of its own: Ctrl-C reaches the bench alone, which then ends its children in order.
      { env: environmentWith(settings), stdio: ['ignore', 'pipe', 'inherit', 'ipc'], detached: true },
    )
    this.#ended = once(this.#process, 'exit')
    this.#process.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#printed += text
    })
  }

  get pid(): number {
    return this.#process.pid!
  }

  /** The first match in what the child prints on standard output. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.#printed)
      if (match) return match
      await this.#orEnd(once(this.#process.stdout!, 'data'))
    }
  }

  /** Asks a program that answers (see answering.ts). One question at a time. */
  async ask<Answer>(question: object): Promise<Answer> {
    const answered = once(this.#process, 'message')
    this.#process.send(question)
    const [reply] = (await this.#orEnd(answered)) as [{ answer: Answer } | { error: string }]
    if ('error' in reply) throw new Error(reply.error)
    return reply.answer
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    this.#process.kill('SIGTERM')
    const impatience = setTimeout(() => this.#process.kill('SIGKILL'), GRACE_MS)
    await this.#ended
    clearTimeout(impatience)
  }

  #orEnd<Value>(awaited: Promise<Value>): Promise<Value> {
    return Promise.race([
      awaited,
      this.#ended.then(() => {
        throw new Error(`${this.#process.spawnargs.at(-1)} has ended`)
      }),
    ])
  }
}
