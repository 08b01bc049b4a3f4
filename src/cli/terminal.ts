import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { styleText } from 'node:util'
import { type Clock, systemClock } from '../runtime.ts'

type Style = Parameters<typeof styleText>[0]

/** One of the process's outputs. */
export interface Output {
  write(text: string): void
  /** A terminal with a person before it, not a file or pipe. */
  readonly isTerminal: boolean
  /** Undefined unless it is a terminal. */
  readonly columns: number | undefined
  readonly rows: number | undefined
  /** Styles the text when this output shows colours. */
  style(style: Style, text: string): string
}

/** All that a command sees of the process it runs in. */
export interface Terminal {
  readonly out: Output
  readonly err: Output
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  /** Aborts at Ctrl-C, SIGTERM or when nobody reads the output any more. Asking for it takes the signals over. */
  interruption(): AbortSignal
  /** Asks a person; undefined when there is none to ask. */
  ask(question: string): Promise<string | undefined>
  /** As `ask`; what is typed does not show. */
  askSecret(question: string): Promise<string | undefined>
}

function wantsColour(stream: NodeJS.WriteStream): boolean {
  if (process.env.NO_COLOR || process.env.TERM === 'dumb') return false
  return stream.isTTY === true
}

function outputTo(stream: NodeJS.WriteStream): Output {
  const colour = wantsColour(stream)
  return {
    write: (text) => void stream.write(text),
    isTerminal: stream.isTTY === true,
    get columns() {
      return stream.columns
    },
    get rows() {
      return stream.rows
    },
    style: (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text),
  }
}

/** The process's own terminal. A reader that goes away (`beacon robots list | head`) is no error. */
export function processTerminal(): Terminal {
  const interrupted = new AbortController()
  let listening = false
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      interrupted.abort()
    })
  }
  return {
    out: outputTo(process.stdout),
    err: outputTo(process.stderr),
    env: process.env,
    clock: systemClock,
    interruption() {
      if (!listening)
        for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => interrupted.abort())
      listening = true
      return interrupted.signal
    },
    async ask(question) {
      if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined
      const lines = createInterface({ input: process.stdin, output: process.stderr })
      try {
        return await lines.question(question)
      } finally {
        lines.close()
      }
    },
    async askSecret(question) {
      if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined
      const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
      const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true })
      // Ctrl-C and Ctrl-D close the lines without an answer.
      const ended = new AbortController()
      lines.once('close', () => ended.abort())
      process.stderr.write(question)
      try {
        return await lines.question('', { signal: ended.signal })
      } catch (error) {
        if (ended.signal.aborted) return undefined
        throw error
      } finally {
        lines.close()
        process.stderr.write('\n')
      }
    },
  }
}
