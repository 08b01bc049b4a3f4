import type { HeartbeatBody } from './frames.ts'
import { MAX_CLOCK_OFFSET_MS, MAX_FRAME_BYTES, MAX_METRICS } from './limits.ts'
import { MAX_DEPTH } from './text.ts'

/** A heartbeat, checked, with its body still as the JSON text that goes into the database. */
export interface Heartbeat {
  readonly seq: number
  /** RFC 3339, the robot's clock. */
  readonly at: string
  /** The same in milliseconds since 1970. */
  readonly time: number
  readonly health: NonNullable<HeartbeatBody['health']>
  /** Undefined when it says nothing of faults. */
  readonly faults: HeartbeatBody['faults']
  /** JSON text of everything but type, seq and at. */
  readonly body: string
}

/**
 * Reads the text of a heartbeat in one pass, without building what it holds. Answers undefined for everything that is
 * not plainly a valid heartbeat made of known members: whether that is valid is for the schema to say. What it does
 * answer, the schema takes, too, and to the same effect (see its property test).
 *
 * All functions here take a position in the text, and answer with the position behind what they have read, or FAILED.
 * Where one value may be left to the schema, it is: escapes, surrogates, exponents, numbers of more than 17 digits,
 * members that come twice, and faults.
 */
export function scanHeartbeat(text: string): Heartbeat | undefined {
  if (!IS_LITTLE_ENDIAN || text.length > MAX_FRAME_BYTES) return undefined
  bytes.write(text, 'utf16le')
  units[text.length] = 0
  let at = skipSpace(0)
  if (units[at]! !== BRACE_OPEN) return undefined
  let seq = -1
  let instantAt = -1
  let instantEnd = -1
  let time = -1
  let health: Heartbeat['health'] = 'unknown'
  let faults: Heartbeat['faults']
  let bodyAt = -1
  let seen = 0
  do {
    const nameAt = skipSpace(at + 1)
    if (units[nameAt]! !== QUOTE) return undefined
    const found = memberAt(nameAt + 1)
    const member = found & MEMBERS
    if (member === 0 || (seen & member) !== 0) return undefined
    seen |= member
    at = skipSpace(nameAt + 1 + (found >> LENGTH_SHIFT))
    if (units[at]! !== COLON) return undefined
    at = skipSpace(at + 1)
    const valueAt = at
    if (member <= AT) {
      // What is left of the text behind these three is the body, as it stands.
      if (bodyAt >= 0) return undefined
      if (member === TYPE) at = scanLiteral(at, '"heartbeat"')
      else if (member === SEQ) {
        at = scanDigits(at)
        if (at === FAILED || at - valueAt > MAX_SEQ_DIGITS) return undefined
        if (at - valueAt > 1 && units[valueAt]! === ZERO) return undefined
        seq = digitsAt(valueAt, at - valueAt)
        if (seq > Number.MAX_SAFE_INTEGER) return undefined
      } else {
        at = scanString(at, MAX_INSTANT_LENGTH)
        if (at === FAILED) return undefined
        instantAt = valueAt + 1
        instantEnd = at - 1
        time = instantIn(instantAt, instantEnd)
        if (time < 0) return undefined
      }
    } else {
      if (bodyAt < 0) bodyAt = nameAt
      if (member === HEALTH) {
        const word = healthAt(at)
        if (word === undefined) return undefined
        health = word
        at += word.length + 2
      } else if (member === FAULTS) {
        if (units[at]! !== BRACKET_OPEN) return undefined
        at = skipSpace(at + 1)
        if (units[at]! !== BRACKET_CLOSE) return undefined
        at += 1
        faults = NO_FAULTS
      } else at = scanBodyMember(at, member)
    }
    if (at === FAILED) return undefined
    at = skipSpace(at)
  } while (units[at]! === COMMA)
  if (units[at]! !== BRACE_CLOSE || (seen & NEEDED) !== NEEDED) return undefined
  if (skipSpace(at + 1) !== text.length) return undefined
  return {
    seq,
    at: text.slice(instantAt, instantEnd),
    time,
    health,
    faults,
    body: bodyAt < 0 ? '{}' : `{${text.slice(bodyAt, at + 1)}`,
  }
}

/**
 * The text under the scanner, unit by unit, with a zero behind it, at which everything here stops: reading beyond the end
 * of a string is what makes a JavaScript engine read all strings slowly from then on.
 */
const units = new Uint16Array(MAX_FRAME_BYTES + 1)
const bytes = Buffer.from(units.buffer)
const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

const FAILED = -1

const QUOTE = 0x22
const PLUS = 0x2b
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const LETTER_T = 0x54
const LETTER_Z = 0x5a
const BRACKET_OPEN = 0x5b
const BACKSLASH = 0x5c
const BRACKET_CLOSE = 0x5d
const UNDERSCORE = 0x5f
const LETTER_A_SMALL = 0x61
const LETTER_F_SMALL = 0x66
const LETTER_N_SMALL = 0x6e
const LETTER_T_SMALL = 0x74
const LETTER_Z_SMALL = 0x7a
const BRACE_OPEN = 0x7b
const BRACE_CLOSE = 0x7d

// Members of a heartbeat, a bit for each.
const TYPE = 1
const SEQ = 2
const AT = 4
const NEEDED = TYPE | SEQ | AT
const HEALTH = 8
const MODE = 16
const ACTIVITY = 32
const BATTERY = 64
const POSE = 128
const SYSTEM = 256
const NETWORK = 512
const ESTOP = 1024
const FAULTS = 2048
const METRICS = 4096
const CLOCK_OFFSET = 8192
const CLOCK_UNSURE = 16384

const NO_FAULTS: NonNullable<HeartbeatBody['faults']> = []

const MAX_SEQ_DIGITS = 16
const MAX_CLOCK_OFFSET_DIGITS = 15
/** A double is told from all others by so many; what has more is not what it will be once it was one. */
const MAX_DIGITS = 17
const MAX_INSTANT_LENGTH = 35
const MAX_METRIC_NAME_LENGTH = 63
/** Left to the schema, for it may be rounded to what is not taken any more. */
const LAST_INSTANT = 253_402_300_799_999
/** PostgreSQL takes no more. */
const MAX_OFFSET_HOURS = 15

const MEMBERS = 0xffff
/** With a member goes the length of its name and the closing quote. */
const LENGTH_SHIFT = 16

/** The member whose name begins here, told by its first letter, and how long that is; 0 for any other name. */
function memberAt(from: number): number {
  switch (units[from]!) {
    case LETTER_A_SMALL:
      if (isAt(from, 'at"')) return AT | (3 << LENGTH_SHIFT)
      return isAt(from, 'activity"') ? ACTIVITY | (9 << LENGTH_SHIFT) : 0
    case 0x62:
      return isAt(from, 'battery"') ? BATTERY | (8 << LENGTH_SHIFT) : 0
    case 0x63:
      if (isAt(from, 'clock_offset_ms"')) return CLOCK_OFFSET | (16 << LENGTH_SHIFT)
      return isAt(from, 'clock_unsure"') ? CLOCK_UNSURE | (13 << LENGTH_SHIFT) : 0
    case 0x65:
      return isAt(from, 'estop"') ? ESTOP | (6 << LENGTH_SHIFT) : 0
    case LETTER_F_SMALL:
      return isAt(from, 'faults"') ? FAULTS | (7 << LENGTH_SHIFT) : 0
    case 0x68:
      return isAt(from, 'health"') ? HEALTH | (7 << LENGTH_SHIFT) : 0
    case 0x6d:
      if (isAt(from, 'mode"')) return MODE | (5 << LENGTH_SHIFT)
      return isAt(from, 'metrics"') ? METRICS | (8 << LENGTH_SHIFT) : 0
    case LETTER_N_SMALL:
      return isAt(from, 'network"') ? NETWORK | (8 << LENGTH_SHIFT) : 0
    case 0x70:
      return isAt(from, 'pose"') ? POSE | (5 << LENGTH_SHIFT) : 0
    case 0x73:
      if (isAt(from, 'seq"')) return SEQ | (4 << LENGTH_SHIFT)
      return isAt(from, 'system"') ? SYSTEM | (7 << LENGTH_SHIFT) : 0
    case LETTER_T_SMALL:
      return isAt(from, 'type"') ? TYPE | (5 << LENGTH_SHIFT) : 0
    default:
      return 0
  }
}

function scanBodyMember(at: number, member: number): number {
  switch (member) {
    case MODE:
      return scanString(at, 64)
    case ACTIVITY:
      return scanString(at, 256)
    case BATTERY:
      return scanRecord(at, BATTERY)
    case POSE:
      return scanRecord(at, POSE)
    case SYSTEM:
      return scanRecord(at, SYSTEM)
    case METRICS:
      return scanMetrics(at)
    case NETWORK:
      return units[at]! === BRACE_OPEN ? scanJson(at, 0) : FAILED
    case ESTOP:
      return scanBoolean(at)
    case CLOCK_OFFSET:
      return scanClockOffset(at)
    case CLOCK_UNSURE:
      return scanBoolean(at)
    default:
      return FAILED
  }
}

// Members of battery, pose and system, a bit for each among its own.
const CHARGE = 1
const CHARGING = 2
const VOLTAGE = 4
const FRAME = 1
const X = 2
const Y = 4
const THETA = 8
const LAT = 16
const LON = 32
const CPU = 1
const MEMORY = 2
const DISK = 4
const TEMPERATURE = 8
const LOAD = 16
const UPTIME = 32

/** As memberAt, for what is in a battery, a pose or a system. */
function innerMemberAt(from: number, record: number): number {
  if (record === BATTERY) {
    if (isAt(from, 'charge"')) return CHARGE | (7 << LENGTH_SHIFT)
    if (isAt(from, 'charging"')) return CHARGING | (9 << LENGTH_SHIFT)
    return isAt(from, 'voltage"') ? VOLTAGE | (8 << LENGTH_SHIFT) : 0
  }
  if (record === POSE) {
    if (isAt(from, 'x"')) return X | (2 << LENGTH_SHIFT)
    if (isAt(from, 'y"')) return Y | (2 << LENGTH_SHIFT)
    if (isAt(from, 'theta"')) return THETA | (6 << LENGTH_SHIFT)
    if (isAt(from, 'frame"')) return FRAME | (6 << LENGTH_SHIFT)
    if (isAt(from, 'lat"')) return LAT | (4 << LENGTH_SHIFT)
    return isAt(from, 'lon"') ? LON | (4 << LENGTH_SHIFT) : 0
  }
  if (isAt(from, 'cpu"')) return CPU | (4 << LENGTH_SHIFT)
  if (isAt(from, 'memory"')) return MEMORY | (7 << LENGTH_SHIFT)
  if (isAt(from, 'disk"')) return DISK | (5 << LENGTH_SHIFT)
  if (isAt(from, 'temperature_c"')) return TEMPERATURE | (14 << LENGTH_SHIFT)
  if (isAt(from, 'load_1m"')) return LOAD | (8 << LENGTH_SHIFT)
  return isAt(from, 'uptime_s"') ? UPTIME | (9 << LENGTH_SHIFT) : 0
}

function scanInnerMember(from: number, record: number, member: number): number {
  if (record === BATTERY) {
    if (member === CHARGE) return scanRatio(from)
    return member === CHARGING ? scanBoolean(from) : scanNumber(from)
  }
  if (record === POSE) {
    if (member === FRAME) return scanString(from, 64)
    const at = scanNumber(from)
    if (member === LAT) return isWithin(from, at, 90) ? at : FAILED
    if (member === LON) return isWithin(from, at, 180) ? at : FAILED
    return at
  }
  if (member <= DISK) return scanRatio(from)
  return member !== TEMPERATURE && units[from]! === MINUS ? FAILED : scanNumber(from)
}

function isWhole(record: number, seen: number): boolean {
  if (record === BATTERY) return (seen & CHARGE) !== 0
  return record !== POSE || seen === (FRAME | X | Y | THETA) || seen === (LAT | LON)
}

/** Reads an object with a closed set of members, each at most once. */
function scanRecord(from: number, record: number): number {
  if (units[from]! !== BRACE_OPEN) return FAILED
  let seen = 0
  let at = skipSpace(from + 1)
  if (units[at]! === BRACE_CLOSE) return record === SYSTEM ? at + 1 : FAILED
  for (;;) {
    if (units[at]! !== QUOTE) return FAILED
    const found = innerMemberAt(at + 1, record)
    const member = found & MEMBERS
    if (member === 0 || (seen & member) !== 0) return FAILED
    seen |= member
    at = skipSpace(at + 1 + (found >> LENGTH_SHIFT))
    if (units[at]! !== COLON) return FAILED
    at = scanInnerMember(skipSpace(at + 1), record, member)
    if (at === FAILED) return FAILED
    at = skipSpace(at)
    const next = units[at]!
    if (next === BRACE_CLOSE) return isWhole(record, seen) ? at + 1 : FAILED
    if (next !== COMMA) return FAILED
    at = skipSpace(at + 1)
  }
}

function scanMetrics(from: number): number {
  if (units[from]! !== BRACE_OPEN) return FAILED
  let at = skipSpace(from + 1)
  if (units[at]! === BRACE_CLOSE) return at + 1
  for (let count = 1; count <= MAX_METRICS; count++) {
    if (units[at]! !== QUOTE) return FAILED
    const nameAt = at + 1
    const first = units[nameAt]!
    const nameEnd = scanName(nameAt)
    if (nameEnd === FAILED || nameEnd - nameAt > MAX_METRIC_NAME_LENGTH) return FAILED
    if (first < LETTER_A_SMALL || first > LETTER_Z_SMALL) return FAILED
    at = skipSpace(nameEnd + 1)
    if (units[at]! !== COLON) return FAILED
    at = scanNumber(skipSpace(at + 1))
    if (at === FAILED) return FAILED
    at = skipSpace(at)
    const next = units[at]!
    if (next === BRACE_CLOSE) return at + 1
    if (next !== COMMA) return FAILED
    at = skipSpace(at + 1)
  }
  return FAILED
}

/** Any value, as deep as a free object may be. Of members that come twice, PostgreSQL keeps the last, as JSON.parse does. */
function scanJson(from: number, depth: number): number {
  switch (units[from]!) {
    case QUOTE:
      return scanString(from, MAX_FRAME_BYTES)
    case LETTER_T_SMALL:
    case LETTER_F_SMALL:
      return scanBoolean(from)
    case LETTER_N_SMALL:
      return scanLiteral(from, 'null')
    case BRACE_OPEN:
      return depth >= MAX_DEPTH ? FAILED : scanMembers(from, depth, BRACE_CLOSE)
    case BRACKET_OPEN:
      return depth >= MAX_DEPTH ? FAILED : scanMembers(from, depth, BRACKET_CLOSE)
    default:
      return scanNumber(from)
  }
}

function scanMembers(from: number, depth: number, close: number): number {
  let at = skipSpace(from + 1)
  if (units[at]! === close) return at + 1
  for (;;) {
    if (close === BRACE_CLOSE) {
      // `__proto__` is one of those that JavaScript has its own mind about.
      if (units[at]! !== QUOTE || units[at + 1]! === UNDERSCORE) return FAILED
      at = scanString(at, MAX_FRAME_BYTES)
      if (at === FAILED) return FAILED
      at = skipSpace(at)
      if (units[at]! !== COLON) return FAILED
      at = skipSpace(at + 1)
    }
    at = scanJson(at, depth + 1)
    if (at === FAILED) return FAILED
    at = skipSpace(at)
    const next = units[at]!
    if (next === close) return at + 1
    if (next !== COMMA) return FAILED
    at = skipSpace(at + 1)
  }
}

function skipSpace(from: number): number {
  return units[from]! > 0x20 ? from : skipSpaces(from)
}

function skipSpaces(from: number): number {
  for (let at = from; ; at++) {
    const code = units[at]!
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at
  }
}

/** From behind the opening quote to the closing one: small letters, digits and underscores. */
function scanName(from: number): number {
  for (let at = from; ; at++) {
    const code = units[at]!
    if (code >= LETTER_A_SMALL && code <= LETTER_Z_SMALL) continue
    if (code === UNDERSCORE || (code >= ZERO && code <= NINE)) continue
    return code === QUOTE ? at : FAILED
  }
}

/** A string of at most so many characters, quotes included in what is read. */
function scanString(from: number, maxLength: number): number {
  if (units[from]! !== QUOTE) return FAILED
  for (let at = from + 1; ; at++) {
    const code = units[at]!
    if (code === QUOTE) return at - from - 1 <= maxLength ? at + 1 : FAILED
    if (code < 0x20 || code === BACKSLASH || (code >= 0xd800 && code <= 0xdfff)) return FAILED
  }
}

function scanNumber(from: number): number {
  const start = units[from]! === MINUS ? from + 1 : from
  let at = scanDigits(start)
  if (at === FAILED) return FAILED
  let digits = at - start
  if (digits > 1 && units[start]! === ZERO) return FAILED
  if (units[at]! === DOT) {
    const fractionAt = at + 1
    at = scanDigits(fractionAt)
    if (at === FAILED) return FAILED
    digits += at - fractionAt
  }
  // An exponent is taken for the start of something else by whoever reads on, which fails.
  return digits <= MAX_DIGITS ? at : FAILED
}

function scanDigits(from: number): number {
  let at = from
  for (;;) {
    const code = units[at]!
    if (code >= ZERO && code <= NINE) at += 1
    else return at === from ? FAILED : at
  }
}

function scanClockOffset(from: number): number {
  const start = units[from]! === MINUS ? from + 1 : from
  const at = scanDigits(start)
  if (at === FAILED || at - start > MAX_CLOCK_OFFSET_DIGITS) return FAILED
  if (at - start > 1 && units[start]! === ZERO) return FAILED
  return digitsAt(start, at - start) <= MAX_CLOCK_OFFSET_MS ? at : FAILED
}

/** A number from 0 to 1. */
function scanRatio(from: number): number {
  const at = scanNumber(from)
  if (at === FAILED || units[from]! === ZERO) return at
  if (units[from]! === MINUS) return FAILED
  return isWithin(from, at, 1) ? at : FAILED
}

function isWithin(from: number, to: number, limit: number): boolean {
  if (to === FAILED) return false
  const start = units[from] === MINUS ? from + 1 : from
  let whole = 0
  for (let at = start; at < to && units[at] !== DOT; at++) whole = whole * 10 + (units[at]! - ZERO)
  return whole < limit || Math.abs(Number(bytes.toString('utf16le', from * 2, to * 2))) <= limit
}

function scanBoolean(from: number): number {
  return units[from]! === LETTER_T_SMALL ? scanLiteral(from, 'true') : scanLiteral(from, 'false')
}

function scanLiteral(from: number, literal: string): number {
  return isAt(from, literal) ? from + literal.length : FAILED
}

function isAt(from: number, word: string): boolean {
  for (let index = 0; index < word.length; index++)
    if (units[from + index] !== word.charCodeAt(index)) return false
  return true
}

function healthAt(at: number): Heartbeat['health'] | undefined {
  if (isAt(at, '"ok"')) return 'ok'
  if (isAt(at, '"warn"')) return 'warn'
  if (isAt(at, '"error"')) return 'error'
  return isAt(at, '"unknown"') ? 'unknown' : undefined
}

/** So many digits and nothing else, as a number; or a negative one. */
function digitsAt(from: number, count: number): number {
  let value = 0
  for (let at = from; at < from + count; at++) {
    const digit = units[at]! - ZERO
    if (!(digit >= 0 && digit <= 9)) return FAILED
    value = value * 10 + digit
  }
  return value
}

/**
 * The milliseconds since 1970 that lie between two positions as `2026-01-01T00:00:00Z`, with a fraction of up to nine
 * digits or without, in UTC or with an offset; or FAILED.
 */
function instantIn(from: number, to: number): number {
  const year = digitsAt(from, 4)
  const month = digitsAt(from + 5, 2)
  const day = digitsAt(from + 8, 2)
  const hour = digitsAt(from + 11, 2)
  const minute = digitsAt(from + 14, 2)
  const second = digitsAt(from + 17, 2)
  if (units[from + 4]! !== MINUS || units[from + 7]! !== MINUS) return FAILED
  if (units[from + 10]! !== LETTER_T) return FAILED
  if (units[from + 13]! !== COLON || units[from + 16]! !== COLON) return FAILED
  if (year < 1969 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return FAILED
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return FAILED
  let at = from + 19
  let milliseconds = 0
  if (units[at]! === DOT) {
    const end = scanDigits(at + 1)
    if (end === FAILED || end - at > 10) return FAILED
    // What is finer than a millisecond is cut off, as Date.parse does.
    for (let digit = 0, weight = 100; digit < 3 && at + 1 + digit < end; digit++, weight /= 10)
      milliseconds += (units[at + 1 + digit]! - ZERO) * weight
    at = end
  }
  let offsetMinutes = 0
  const zone = units[at]!
  if (zone === LETTER_Z) at += 1
  else if (zone === PLUS || zone === MINUS) {
    const hours = digitsAt(at + 1, 2)
    const minutes = digitsAt(at + 4, 2)
    if (hours < 0 || hours > MAX_OFFSET_HOURS || minutes < 0 || minutes > 59) return FAILED
    if (units[at + 3]! !== COLON) return FAILED
    offsetMinutes = (zone === PLUS ? 1 : -1) * (hours * 60 + minutes)
    at += 6
  } else return FAILED
  if (at !== to) return FAILED
  const minutes = (daysUntil(year, month, day) * 24 + hour) * 60 + minute - offsetMinutes
  const time = (minutes * 60 + second) * 1000 + milliseconds
  return time >= 0 && time < LAST_INSTANT ? time : FAILED
}

function daysIn(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/** Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that leap days end them. */
function daysUntil(year: number, month: number, day: number): number {
  const fromMarch = month > 2 ? month - 3 : month + 9
  const years = month > 2 ? year : year - 1
  const leapDays = Math.floor(years / 4) - Math.floor(years / 100) + Math.floor(years / 400)
  return years * 365 + leapDays + Math.floor((153 * fromMarch + 2) / 5) + day - 719_469
}
