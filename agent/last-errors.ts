import { type Log, withoutSecrets } from './log.ts'
import type { Clock } from './runtime.ts'
import { printable } from './text.ts'

/** A warning or an error of the log, as `status` tells of it. */
export interface LoggedError {
  readonly at: string
  /** How often it came in a row. */
  readonly times: number
  readonly sentence: string
}

const KEPT = 8

/** A log whose last warnings and errors can be asked for, the newest first. */
export function remembering(log: Log, clock: Clock): { readonly log: Log; lastErrors(): LoggedError[] } {
  let kept: LoggedError[] = []
  const remember = (text: string) => {
    const sentence = printable(withoutSecrets(text))
    const [newest, ...older] = kept
    const at = new Date(clock.now()).toISOString()
    kept =
      newest?.sentence === sentence
        ? [{ at, times: newest.times + 1, sentence }, ...older]
        : [{ at, times: 1, sentence }, ...kept].slice(0, KEPT)
  }
  const kinds = (level: 'warn' | 'error') => (sentence: string) => {
    remember(sentence)
    log[level](sentence)
  }
  return {
    log: { debug: log.debug, info: log.info, warn: kinds('warn'), error: kinds('error') },
    lastErrors: () => kept,
  }
}
