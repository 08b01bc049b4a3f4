import { createHash } from 'node:crypto'
import { fieldsOf, finiteIn, itemsOf, textIn } from './reading.ts'

/** One `diagnostic_msgs/msg/DiagnosticStatus`, as it is looked at here. */
export interface Status {
  /** Of the fault that it raises: the same for the same name and hardware, for ever. */
  readonly code: string
  readonly name: string
  readonly hardware: string
  readonly level: StatusLevel
  readonly message: string
  readonly values: readonly (readonly [key: string, value: string])[]
}
export type StatusLevel = 'ok' | 'warn' | 'error' | 'stale'

export interface ReadDiagnostics {
  /** One for each code: of several in one message the gravest. */
  readonly statuses: readonly Status[]
  /** Statuses without a name, or with a level that there is not. */
  readonly malformed: number
}

export const FAULT_PREFIX = 'ros2:'
/** A message has room for some 100; more than this is a program gone wrong. */
const MAX_STATUSES = 1_000
const MAX_VALUES = 256
const MAX_CODE = 64
const MAX_NAME = 200
const MAX_MESSAGE = 400
/** OK, WARN, ERROR, STALE. */
const LEVELS: readonly StatusLevel[] = ['ok', 'warn', 'error', 'stale']
export const GRAVITY: Readonly<Record<StatusLevel, number>> = { ok: 0, warn: 1, error: 2, stale: 3 }

/** Reads a `diagnostic_msgs/msg/DiagnosticArray`; undefined when it is none. Never throws. */
export function readDiagnostics(message: unknown): ReadDiagnostics | undefined {
  const { status } = fieldsOf(message)
  if (!Array.isArray(status)) return undefined
  const byCode = new Map<string, Status>()
  let malformed = Math.max(0, status.length - MAX_STATUSES)
  for (const item of status.slice(0, MAX_STATUSES)) {
    const read = readStatus(item)
    if (!read) {
      malformed++
      continue
    }
    const other = byCode.get(read.code)
    if (!other || GRAVITY[read.level] > GRAVITY[other.level]) byCode.set(read.code, read)
  }
  return { statuses: [...byCode.values()], malformed }
}

function readStatus(item: unknown): Status | undefined {
  const fields = fieldsOf(item)
  const level = levelIn(fields.level)
  const hardware = hardwareIn(fields.hardware_id)
  const name = typeof fields.name === 'string' && fields.name.trim() !== '' ? fields.name : hardware
  if (!level || name === '') return undefined
  return {
    code: codeOf(name, hardware),
    name: textIn(name, MAX_NAME),
    hardware: textIn(hardware, MAX_NAME),
    level,
    message: textIn(fields.message, MAX_MESSAGE),
    values: itemsOf(fields.values, MAX_VALUES).flatMap((pair) => {
      const { key, value } = fieldsOf(pair)
      return typeof key === 'string' && typeof value === 'string' ? [[key, value] as const] : []
    }),
  }
}

/** `byte` is a number in rclnodejs, and one of a few bytes elsewhere. */
function levelIn(value: unknown): StatusLevel | undefined {
  const [first] = ArrayBuffer.isView(value) ? itemsOf(value, 1) : [value]
  const number = finiteIn(first)
  return number === undefined ? undefined : LEVELS[number]
}

/** diagnostic_updater says "none" where nobody named the hardware. */
function hardwareIn(value: unknown): string {
  return typeof value !== 'string' || value.trim() === '' || value === 'none' ? '' : value
}

const ENDS_LIKE_HASHED = /~[0-9a-f]{10}$/

/**
 * `ros2:<name>@<hardware>`. Where that is too long or could mean two things, its beginning and a part of the SHA-256 of
 * both, so that different statuses have different codes.
 */
export function codeOf(name: string, hardware: string): string {
  const whole = hardware === '' || hardware === name ? name : `${name}@${hardware}`
  const room = MAX_CODE - FAULT_PREFIX.length
  const clean = textIn(whole, MAX_CODE * 2)
  const isClear =
    clean === whole &&
    clean.length <= room &&
    !name.includes('@') &&
    !hardware.includes('@') &&
    hardware !== name &&
    !ENDS_LIKE_HASHED.test(clean)
  if (isClear) return `${FAULT_PREFIX}${clean}`
  const hash = createHash('sha256')
    .update(JSON.stringify([name, hardware]))
    .digest('hex')
    .slice(0, 10)
  const beginning = clean
    .slice(0, room - hash.length - 1)
    .toWellFormed()
    .trim()
  return `${FAULT_PREFIX}${beginning}~${hash}`
}
