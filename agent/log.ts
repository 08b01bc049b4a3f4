import { styleText } from 'node:util'
import type { Clock } from './runtime.ts'
import { printable } from './text.ts'

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** One sentence for each thing that happens. */
export interface Log {
  debug(sentence: string): void
  info(sentence: string): void
  warn(sentence: string): void
  error(sentence: string): void
}

export interface LogOutput {
  write(line: string): void
  /** A person watches: times are short and warnings stand out. */
  readonly isTerminal: boolean
}

const SECRET = /\b(rf_(?:enroll|setup|robot|pat|fleet)_|apt_)[0-9A-Za-z_-]{4,}/g
const MAX_LINE = 1_000

/** The text without the random part of any token in it. */
export function withoutSecrets(text: string): string {
  return text.replace(SECRET, '$1…')
}

/**
 * A log of plain lines. Nothing of ours hands it a secret; what a server says in an error or a reason is not ours,
 * so every line is cleaned here.
 */
export function createLog(level: LogLevel, output: LogOutput, clock: Clock): Log {
  const least = LOG_LEVELS.indexOf(level)
  const at = (lineLevel: Exclude<LogLevel, 'silent'>) => (sentence: string) => {
    if (LOG_LEVELS.indexOf(lineLevel) < least) return
    const text = printable(withoutSecrets(sentence), MAX_LINE)
    const time = new Date(clock.now())
    output.write(
      output.isTerminal ? forTerminal(lineLevel, text, time) : `${time.toISOString()} ${lineLevel} ${text}\n`,
    )
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

const STYLES = { debug: 'gray', warn: 'yellow', error: 'red' } as const

function forTerminal(level: Exclude<LogLevel, 'silent'>, text: string, time: Date): string {
  const line = `${time.toTimeString().slice(0, 8)}  ${text}`
  return `${level === 'info' ? line : styleText(STYLES[level], line, { validateStream: false })}\n`
}
