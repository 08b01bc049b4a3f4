import type { Link, Verification } from '../audit/direct.ts'
import { CliError, EXIT } from './failure.ts'
import { connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

interface VerifyOptions extends OperatorOptions {
  readonly expect?: string
  readonly direct?: boolean
}

/** What the server answers; without `next_cursor`, what a whole verification came to. */
interface Answer {
  readonly checked: number
  readonly head: Link | null
  readonly finding: { readonly seq: number; readonly flaw: string; readonly detail: string } | null
  readonly next_cursor: string | null
}

type Result = Omit<Answer, 'next_cursor'>

function notedOf(text: string | undefined): Link | undefined {
  if (text === undefined) return undefined
  const [, seq, hash = ''] = /^(\d{1,15}):([0-9a-f]{64})$/i.exec(text) ?? []
  if (seq === undefined)
    throw new CliError('--expect takes what an earlier verification printed: <seq>:<hash>', EXIT.usage)
  return { seq: Number(seq), hash: hash.toLowerCase() }
}

/** `beacon audit verify`: ends with 1 when anything is wrong with the log. */
export async function verifyAudit(
  terminal: Terminal,
  options: VerifyOptions,
  finish: (exitCode: number) => void,
): Promise<void> {
  const noted = notedOf(options.expect)
  const result = options.direct ? await askDatabase(terminal, noted) : await askServer(terminal, options)
  if (options.json) printJson(terminal, result)
  else printLines(terminal, linesOf(result, noted))
  finish(result.finding ? EXIT.error : EXIT.fine)
}

function linesOf({ checked, head, finding }: Result, noted: Link | undefined): string[] {
  if (finding?.flaw === 'unguarded')
    return [`THE AUDIT LOG IS NOT GUARDED: ${printable(finding.detail)}`, `(its ${checked} lines are right)`]
  if (finding)
    return [
      `THE AUDIT LOG IS NOT WHOLE, from line ${finding.seq} on: ${printable(finding.detail)}`,
      `(${printable(finding.flaw)}; ${checked} lines before it are right)`,
    ]
  const compared = noted ? `, and line ${noted.seq} is what was noted of it` : ''
  return [
    `the audit log is whole: ${checked} lines are right${compared}`,
    ...(head && head.seq > 0
      ? [`note this, and compare next time with --expect:`, `${head.seq}:${printable(head.hash)}`]
      : []),
  ]
}

async function askServer(terminal: Terminal, options: VerifyOptions): Promise<Result> {
  const client = connect(options, terminal)
  let checked = 0
  let cursor: string | undefined
  for (;;) {
    const answer = await client.get<Answer>('/api/audit/verify', { expect: options.expect, cursor })
    checked += answer.checked
    const { head, finding } = answer
    if (answer.next_cursor === null) return { checked, head, finding }
    if (answer.next_cursor === cursor) throw new CliError('the server does not get on with it')
    cursor = answer.next_cursor
  }
}

async function askDatabase(terminal: Terminal, noted: Link | undefined): Promise<Result> {
  const { DirectError, verifyDirectly } = await import('../audit/direct.ts')
  let found: Verification
  try {
    found = await verifyDirectly(terminal.env, noted)
  } catch (error) {
    if (error instanceof DirectError)
      throw new CliError(error.message, error.away ? EXIT.unreachable : EXIT.error)
    throw error
  }
  return { checked: found.checked, head: found.head ?? null, finding: found.finding ?? null }
}
