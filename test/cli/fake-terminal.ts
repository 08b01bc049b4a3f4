import { stripVTControlCharacters } from 'node:util'
import { run } from '../../src/cli/program.ts'
import type { Output, Terminal } from '../../src/cli/terminal.ts'
import { type Clock, systemClock } from '../../src/runtime.ts'

export interface TerminalOptions {
  readonly env?: Readonly<Record<string, string>>
  /** A terminal this wide with a person before it; undefined: a pipe. */
  readonly columns?: number
  readonly rows?: number
  /** What the person answers. */
  readonly answer?: string
  /** What the person answers to one question after the other, secrets included; then `answer`. */
  readonly answers?: readonly (string | ((seen: string) => string))[]
  readonly clock?: Clock
}

/** A terminal that remembers what was written to it. */
export class FakeTerminal implements Terminal {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly out: Output
  readonly err: Output
  /** Everything asked of the person. */
  readonly questions: string[] = []
  readonly #options: TerminalOptions
  readonly #interrupted = new AbortController()
  readonly #waiting: { pattern: RegExp; resolve: () => void }[] = []
  #answered = 0
  #written = { out: '', err: '' }

  constructor(options: TerminalOptions = {}) {
    this.#options = options
    this.env = options.env ?? {}
    this.clock = options.clock ?? systemClock
    this.out = this.#output('out')
    this.err = this.#output('err')
  }

  get stdout(): string {
    return this.#written.out
  }

  get stderr(): string {
    return this.#written.err
  }

  /** What a person saw, without colours and cursor movements. */
  get text(): string {
    return stripVTControlCharacters(this.stdout)
  }

  interruption(): AbortSignal {
    return this.#interrupted.signal
  }

  /** Presses Ctrl-C. */
  interrupt(): void {
    this.#interrupted.abort()
  }

  async ask(question: string): Promise<string | undefined> {
    this.questions.push(question)
    const next = this.#options.answers?.[this.#answered++]
    return typeof next === 'function' ? next(this.stdout + this.stderr) : (next ?? this.#options.answer)
  }

  askSecret(question: string): Promise<string | undefined> {
    return this.ask(question)
  }

  /** Resolves once standard output and standard error together hold the pattern. */
  wrote(pattern: RegExp): Promise<void> {
    if (pattern.test(this.stdout + this.stderr)) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push({ pattern, resolve }))
  }

  #output(name: 'out' | 'err'): Output {
    const { columns, rows } = this.#options
    return {
      isTerminal: columns !== undefined,
      columns,
      rows,
      write: (text) => {
        this.#written[name] += text
        for (const { pattern, resolve } of this.#waiting)
          if (pattern.test(this.stdout + this.stderr)) resolve()
      },
      style: (_style, text) => text,
    }
  }
}

/** Runs one command line on a fake terminal to its end. */
export async function beacon(
  argv: readonly string[],
  options: TerminalOptions = {},
): Promise<{ exitCode: number; stdout: string; stderr: string; terminal: FakeTerminal }> {
  const terminal = new FakeTerminal(options)
  const exitCode = (await run(argv, terminal)) ?? 0
  return { exitCode, stdout: terminal.stdout, stderr: terminal.stderr, terminal }
}
