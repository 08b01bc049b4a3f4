import { createHash } from 'node:crypto'
import {
  type AuditEnds,
  type ChainedLine,
  findIdleGuards,
  findLink,
  type Link,
  readAuditEnds,
  readChain,
} from '../db/audit-chain.ts'
import type { Database } from '../db/database.ts'

export type { Link } from '../db/audit-chain.ts'

/** What can be wrong with the log. */
export type Flaw =
  /** A line is not what its hash is of. */
  | 'line_changed'
  /** Lines are not there. */
  | 'lines_missing'
  /** A line does not follow the one before: either was replaced by another that is sound in itself. */
  | 'line_replaced'
  /** A line has a number that no line has. */
  | 'line_added'
  /** The newest lines are not there. */
  | 'end_missing'
  /** The head is not what the newest line says, or is gone. */
  | 'head_changed'
  /** A line is not what somebody noted of it. */
  | 'not_as_noted'
  /** Every line is right, and the database no longer refuses to change them. */
  | 'unguarded'

export interface Finding {
  /** The first number that is wrong. */
  readonly seq: number
  readonly flaw: Flaw
  readonly detail: string
}

export interface Verification {
  /** Lines that were looked at and found right. */
  readonly checked: number
  readonly head: Link | undefined
  readonly finding: Finding | undefined
  /** The last line that was looked at, where there are more. */
  readonly next: Link | undefined
}

export interface VerifyOptions {
  /** Goes on behind this line, which was found right. */
  readonly after?: Link | undefined
  readonly maxLines?: number | undefined
  /** What was noted of a line some time ago. */
  readonly noted?: Link | undefined
}

const BATCH = 1_000
const START: Link = { seq: 0, hash: '0'.repeat(64) }

/** Recomputes the log's hashes line by line, and says what is the first thing wrong with it. */
export async function verifyAudit(database: Database, options: VerifyOptions = {}): Promise<Verification> {
  const { after = START, maxLines = Number.POSITIVE_INFINITY, noted } = options
  const ends = await readAuditEnds(database)
  let last = after
  let checked = 0
  const result = (finding: Finding | undefined, next?: Link): Verification => ({
    checked,
    head: ends.head,
    finding,
    next,
  })
  const begun = after.seq === 0
  if (begun && ends.lowest !== null && ends.lowest < 1)
    return result(found(ends.lowest, 'line_added', `a line has the number ${ends.lowest}`))
  // What was added since the ends were read is for the next time.
  const end = ends.highest ?? 0
  while (last.seq < end && checked < maxLines) {
    const lines = await readChain(database, last.seq, Math.min(BATCH, maxLines - checked))
    for (const line of lines) {
      if (line.seq > end) break
      const finding = flawOf(line, last)
      if (finding) return result(finding)
      last = line
      checked += 1
    }
    if (lines.length === 0) break
  }
  if (last.seq < end) return result(undefined, last)
  return result(
    flawOfHead(ends, last) ??
      (noted && (await flawOfNote(database, noted, last))) ??
      (await flawOfGuards(database, last)),
  )
}

function found(seq: number, flaw: Flaw, detail: string): Finding {
  return { seq, flaw, detail }
}

/** The hash that a line should have: SHA-256 over the hash before it and the JSON array of its columns' texts. */
export function hashOf({ previousHash, fields }: Pick<ChainedLine, 'previousHash' | 'fields'>): string {
  return createHash('sha256')
    .update(Buffer.from(previousHash, 'hex'))
    .update(JSON.stringify(fields))
    .digest('hex')
}

function flawOf(line: ChainedLine, last: Link): Finding | undefined {
  const due = last.seq + 1
  if (line.seq !== due) {
    const many = line.seq - due
    return found(
      due,
      'lines_missing',
      many === 1 ? `line ${due} is missing` : `lines ${due} to ${line.seq - 1} are missing`,
    )
  }
  if (hashOf(line) !== line.hash) return found(due, 'line_changed', `line ${due} is not what its hash is of`)
  if (line.previousHash !== last.hash)
    return found(
      due,
      'line_replaced',
      due === 1
        ? 'line 1 is not the beginning of a log'
        : `line ${due} does not follow line ${last.seq}: one of them was replaced`,
    )
  return undefined
}

function flawOfHead({ head }: AuditEnds, last: Link): Finding | undefined {
  if (!head) return found(last.seq, 'head_changed', 'the head of the log is gone')
  if (head.seq > last.seq)
    return found(last.seq + 1, 'end_missing', `the log ends with line ${last.seq}, and had ${head.seq}`)
  if (head.seq < last.seq)
    return found(
      head.seq + 1,
      'head_changed',
      `the log ends with line ${last.seq}, and its head says ${head.seq}: the head was set back, or lines were added around it`,
    )
  if (head.hash !== last.hash)
    return found(last.seq, 'head_changed', `the head of the log is not that of line ${last.seq}`)
  return undefined
}

async function flawOfNote(database: Database, noted: Link, last: Link): Promise<Finding | undefined> {
  if (noted.seq === 0 && noted.hash === START.hash) return undefined
  if (noted.seq > last.seq)
    return found(
      last.seq + 1,
      'end_missing',
      `the log ends with line ${last.seq}, and line ${noted.seq} was noted`,
    )
  const link = await findLink(database, noted.seq)
  if (link?.hash === noted.hash) return undefined
  return found(
    noted.seq,
    'not_as_noted',
    `line ${noted.seq} has another hash than was noted: the log was rewritten up to there, or further`,
  )
}

async function flawOfGuards(database: Database, last: Link): Promise<Finding | undefined> {
  const idle = await findIdleGuards(database)
  if (idle.length === 0) return undefined
  return found(
    last.seq + 1,
    'unguarded',
    `the database no longer refuses to change the log: ${idle.join(', ')} switched off or gone`,
  )
}
