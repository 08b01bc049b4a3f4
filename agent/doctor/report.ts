import { withoutSecrets } from '../log.ts'
import { printable } from '../text.ts'

export type Verdict = 'ok' | 'warn' | 'fail' | 'skip'

/** What one look found. */
export interface Finding {
  /** Stable: for programs that read the report. */
  readonly check: string
  readonly verdict: Verdict
  /** One line for a person. */
  readonly message: string
  /** What to do about it; with every `warn` and `fail`. */
  readonly remedy?: string
}

export interface Report {
  /** Nothing failed. */
  readonly ok: boolean
  readonly findings: readonly Finding[]
}

export function ok(check: string, message: string): Finding {
  return { check, verdict: 'ok', message }
}

export function skip(check: string, message: string): Finding {
  return { check, verdict: 'skip', message }
}

export function warn(check: string, message: string, remedy: string): Finding {
  return { check, verdict: 'warn', message, remedy }
}

export function fail(check: string, message: string, remedy: string): Finding {
  return { check, verdict: 'fail', message, remedy }
}

/** The report as it may be shown to anybody: what came from elsewhere cannot forge lines, and no token is in it. */
export function reportOf(findings: readonly Finding[]): Report {
  const clean = (text: string) => printable(withoutSecrets(text), 500)
  const shown = findings.map((finding) => ({
    ...finding,
    message: clean(finding.message),
    ...(finding.remedy === undefined ? {} : { remedy: clean(finding.remedy) }),
  }))
  return { ok: shown.every(({ verdict }) => verdict !== 'fail'), findings: shown }
}

const MARKS: Readonly<Record<Verdict, string>> = { ok: 'ok  ', warn: 'warn', fail: 'FAIL', skip: '–   ' }

/** The report as lines for a person. */
export function reportLines({ findings, ok: isFine }: Report): string[] {
  const width = Math.max(...findings.map(({ check }) => check.length))
  const lines = findings.flatMap(({ check, verdict, message, remedy }) => [
    `${MARKS[verdict]}  ${check.padEnd(width)}  ${message}`,
    ...(remedy === undefined ? [] : [`${' '.repeat(width + 8)}What to do: ${remedy}`]),
  ])
  const failed = findings.filter(({ verdict }) => verdict === 'fail').length
  const warned = findings.filter(({ verdict }) => verdict === 'warn').length
  const worth = warned === 0 ? '' : `, ${warned} worth a look`
  return [...lines, '', isFine ? `nothing failed${worth}` : `${failed} failed${worth}`]
}
