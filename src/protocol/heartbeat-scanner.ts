import type { HeartbeatBody } from './frames.ts'
import { MAX_METRICS } from './limits.ts'
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
 * All functions here take the text and a position, and answer with the position behind what they have read, or FAILED.
 * Where one value may be left to the schema, it is: escapes, surrogates, exponents, numbers of more than 17 digits,
 * members that come twice, and faults.
 */
export function scanHeartbeat(text: string): Heartbeat | undefined {
  let at = skipSpace(text, 0)
  if (text.charCodeAt(at) !== BRACE_OPEN) return undefined
  let seq = -1
  let instantAt = -1
  let instantEnd = -1
  let time = -1
  let health: Heartbeat['health'] = 'unknown'
  let faults: Heartbeat['faults']
  let bodyAt = -1
  let seen = 0
  do {
    const nameAt = skipSpace(text, at + 1)
    if (text.charCodeAt(nameAt) !== QUOTE) return undefined
    const nameEnd = scanName(text, nameAt + 1)
    if (nameEnd === FAILED) return undefined
    const member = memberAt(text, nameAt + 1, nameEnd)
    if (member === 0 || (seen & member) !== 0) return undefined
    seen |= member
    at = skipSpace(text, nameEnd + 1)
    if (text.charCodeAt(at) !== COLON) return undefined
    at = skipSpace(text, at + 1)
    const valueAt = at
    if (member <= AT) {
      // What is left of the text behind these three is the body, as it stands.
      if (bodyAt >= 0) return undefined
      if (member === TYPE) at = scanLiteral(text, at, '"heartbeat"')
      else if (member === SEQ) {
        at = scanDigits(text, at)
        if (at === FAILED || at - valueAt > MAX_SEQ_DIGITS) return undefined
        if (at - valueAt > 1 && text.charCodeAt(valueAt) === ZERO) return undefined
        seq = digitsAt(text, valueAt, at - valueAt)
        if (seq > Number.MAX_SAFE_INTEGER) return undefined
      } else {
        at = scanString(text, at, MAX_INSTANT_LENGTH)
        if (at === FAILED) return undefined
        instantAt = valueAt + 1
        instantEnd = at - 1
        time = instantIn(text, instantAt, instantEnd)
        if (time < 0) return undefined
      }
    } else {
      if (bodyAt < 0) bodyAt = nameAt
      if (member === HEALTH) {
        const word = healthAt(text, at)
        if (word === undefined) return undefined
        health = word
        at += word.length + 2
      } else if (member === FAULTS) {
        if (text.charCodeAt(at) !== BRACKET_OPEN) return undefined
        at = skipSpace(text, at + 1)
        if (text.charCodeAt(at) !== BRACKET_CLOSE) return undefined
        at += 1
        faults = NO_FAULTS
      } else at = scanBodyMember(text, at, member)
    }
    if (at === FAILED) return undefined
    at = skipSpace(text, at)
  } while (text.charCodeAt(at) === COMMA)
  if (text.charCodeAt(at) !== BRACE_CLOSE || (seen & NEEDED) !== NEEDED) return undefined
  if (skipSpace(text, at + 1) !== text.length) return undefined
  return {
    seq,
    at: text.slice(instantAt, instantEnd),
    time,
    health,
    faults,
    body: bodyAt < 0 ? '{}' : `{${text.slice(bodyAt, at + 1)}`,
  }
}

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

const NO_FAULTS: NonNullable<HeartbeatBody['faults']> = []

const MAX_SEQ_DIGITS = 16
/** A double is told from all others by so many; what has more is not what it will be once it was one. */
const MAX_DIGITS = 17
const MAX_INSTANT_LENGTH = 35
const MAX_METRIC_NAME_LENGTH = 63
const LAST_INSTANT = 253_402_300_799_999

function memberAt(text: string, from: number, to: number): number {
  switch (to - from) {
    case 2:
      return isAt(text, from, 'at') ? AT : 0
    case 3:
      return isAt(text, from, 'seq') ? SEQ : 0
    case 4:
      if (isAt(text, from, 'type')) return TYPE
      if (isAt(text, from, 'mode')) return MODE
      return isAt(text, from, 'pose') ? POSE : 0
    case 5:
      return isAt(text, from, 'estop') ? ESTOP : 0
    case 6:
      if (isAt(text, from, 'health')) return HEALTH
      if (isAt(text, from, 'system')) return SYSTEM
      return isAt(text, from, 'faults') ? FAULTS : 0
    case 7:
      if (isAt(text, from, 'battery')) return BATTERY
      if (isAt(text, from, 'metrics')) return METRICS
      return isAt(text, from, 'network') ? NETWORK : 0
    case 8:
      return isAt(text, from, 'activity') ? ACTIVITY : 0
    default:
      return 0
  }
}

function scanBodyMember(text: string, at: number, member: number): number {
  switch (member) {
    case MODE:
      return scanString(text, at, 64)
    case ACTIVITY:
      return scanString(text, at, 256)
    case BATTERY:
      return scanRecord(text, at, BATTERY)
    case POSE:
      return scanRecord(text, at, POSE)
    case SYSTEM:
      return scanRecord(text, at, SYSTEM)
    case METRICS:
      return scanMetrics(text, at)
    case NETWORK:
      return text.charCodeAt(at) === BRACE_OPEN ? scanJson(text, at, 0) : FAILED
    case ESTOP:
      return scanBoolean(text, at)
    default:
      return FAILED
  }
}

// Members of battery, pose and system, a bit for each among its own.
const CHARGE = 1
const FRAME_X_Y_THETA = 1 | 2 | 4 | 8
const LAT_LON = 16 | 32

/** Reads an object with a closed set of members, each at most once. */
function scanRecord(text: string, from: number, record: number): number {
  if (text.charCodeAt(from) !== BRACE_OPEN) return FAILED
  let seen = 0
  let at = skipSpace(text, from + 1)
  if (text.charCodeAt(at) === BRACE_CLOSE) return record === SYSTEM ? at + 1 : FAILED
  for (;;) {
    if (text.charCodeAt(at) !== QUOTE) return FAILED
    const nameAt = at + 1
    const nameEnd = scanName(text, nameAt)
    if (nameEnd === FAILED) return FAILED
    at = skipSpace(text, nameEnd + 1)
    if (text.charCodeAt(at) !== COLON) return FAILED
    at = skipSpace(text, at + 1)
    let member = 0
    const valueAt = at
    if (record === BATTERY) {
      if (isName(text, nameAt, nameEnd, 'charge')) {
        member = CHARGE
        at = scanRatio(text, at)
      } else if (isName(text, nameAt, nameEnd, 'charging')) {
        member = 2
        at = scanBoolean(text, at)
      } else if (isName(text, nameAt, nameEnd, 'voltage')) {
        member = 4
        at = scanNumber(text, at)
      }
    } else if (record === POSE) {
      if (isName(text, nameAt, nameEnd, 'x')) member = 1
      else if (isName(text, nameAt, nameEnd, 'y')) member = 2
      else if (isName(text, nameAt, nameEnd, 'theta')) member = 4
      else if (isName(text, nameAt, nameEnd, 'frame')) member = 8
      else if (isName(text, nameAt, nameEnd, 'lat')) member = 16
      else if (isName(text, nameAt, nameEnd, 'lon')) member = 32
      at = member === 8 ? scanString(text, at, 64) : scanNumber(text, at)
      if (member === 16 && !isWithin(text, valueAt, at, 90)) return FAILED
      if (member === 32 && !isWithin(text, valueAt, at, 180)) return FAILED
    } else {
      if (isName(text, nameAt, nameEnd, 'cpu')) member = 1
      else if (isName(text, nameAt, nameEnd, 'memory')) member = 2
      else if (isName(text, nameAt, nameEnd, 'disk')) member = 4
      else if (isName(text, nameAt, nameEnd, 'temperature_c')) member = 8
      else if (isName(text, nameAt, nameEnd, 'load_1m')) member = 16
      else if (isName(text, nameAt, nameEnd, 'uptime_s')) member = 32
      if (member < 8) at = scanRatio(text, at)
      else {
        if (member > 8 && text.charCodeAt(at) === MINUS) return FAILED
        at = scanNumber(text, at)
      }
    }
    if (at === FAILED || member === 0 || (seen & member) !== 0) return FAILED
    seen |= member
    at = skipSpace(text, at)
    const next = text.charCodeAt(at)
    if (next === BRACE_CLOSE) break
    if (next !== COMMA) return FAILED
    at = skipSpace(text, at + 1)
  }
  if (record === BATTERY && (seen & CHARGE) === 0) return FAILED
  if (record === POSE && seen !== FRAME_X_Y_THETA && seen !== LAT_LON) return FAILED
  return at + 1
}

function scanMetrics(text: string, from: number): number {
  if (text.charCodeAt(from) !== BRACE_OPEN) return FAILED
  let at = skipSpace(text, from + 1)
  if (text.charCodeAt(at) === BRACE_CLOSE) return at + 1
  for (let count = 1; count <= MAX_METRICS; count++) {
    if (text.charCodeAt(at) !== QUOTE) return FAILED
    const nameAt = at + 1
    const first = text.charCodeAt(nameAt)
    const nameEnd = scanName(text, nameAt)
    if (nameEnd === FAILED || nameEnd - nameAt > MAX_METRIC_NAME_LENGTH) return FAILED
    if (first < LETTER_A_SMALL || first > LETTER_Z_SMALL) return FAILED
    at = skipSpace(text, nameEnd + 1)
    if (text.charCodeAt(at) !== COLON) return FAILED
    at = scanNumber(text, skipSpace(text, at + 1))
    if (at === FAILED) return FAILED
    at = skipSpace(text, at)
    const next = text.charCodeAt(at)
    if (next === BRACE_CLOSE) return at + 1
    if (next !== COMMA) return FAILED
    at = skipSpace(text, at + 1)
  }
  return FAILED
}

/** Any value, as deep as a free object may be. Of members that come twice, PostgreSQL keeps the last, as JSON.parse does. */
function scanJson(text: string, from: number, depth: number): number {
  switch (text.charCodeAt(from)) {
    case QUOTE:
      return scanString(text, from, text.length)
    case LETTER_T_SMALL:
    case LETTER_F_SMALL:
      return scanBoolean(text, from)
    case LETTER_N_SMALL:
      return scanLiteral(text, from, 'null')
    case BRACE_OPEN:
      return depth >= MAX_DEPTH ? FAILED : scanMembers(text, from, depth, BRACE_CLOSE)
    case BRACKET_OPEN:
      return depth >= MAX_DEPTH ? FAILED : scanMembers(text, from, depth, BRACKET_CLOSE)
    default:
      return scanNumber(text, from)
  }
}

function scanMembers(text: string, from: number, depth: number, close: number): number {
  let at = skipSpace(text, from + 1)
  if (text.charCodeAt(at) === close) return at + 1
  for (;;) {
    if (close === BRACE_CLOSE) {
      // `__proto__` is one of those that JavaScript has its own mind about.
      if (text.charCodeAt(at) !== QUOTE || text.charCodeAt(at + 1) === UNDERSCORE) return FAILED
      at = scanString(text, at, text.length)
      if (at === FAILED) return FAILED
      at = skipSpace(text, at)
      if (text.charCodeAt(at) !== COLON) return FAILED
      at = skipSpace(text, at + 1)
    }
    at = scanJson(text, at, depth + 1)
    if (at === FAILED) return FAILED
    at = skipSpace(text, at)
    const next = text.charCodeAt(at)
    if (next === close) return at + 1
    if (next !== COMMA) return FAILED
    at = skipSpace(text, at + 1)
  }
}

function skipSpace(text: string, from: number): number {
  let at = from
  for (;;) {
    const code = text.charCodeAt(at)
    if (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) at += 1
    else return at
  }
}

/** From behind the opening quote to the closing one: small letters, digits and underscores. */
function scanName(text: string, from: number): number {
  for (let at = from; ; at++) {
    const code = text.charCodeAt(at)
    if (code >= LETTER_A_SMALL && code <= LETTER_Z_SMALL) continue
    if (code === UNDERSCORE || (code >= ZERO && code <= NINE)) continue
    return code === QUOTE ? at : FAILED
  }
}

/** A string of at most so many characters, quotes included in what is read. */
function scanString(text: string, from: number, maxLength: number): number {
  if (text.charCodeAt(from) !== QUOTE) return FAILED
  for (let at = from + 1; ; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at - from - 1 <= maxLength ? at + 1 : FAILED
    // The comparison fails for NaN, too: the text has ended.
    if (!(code >= 0x20) || code === BACKSLASH || (code >= 0xd800 && code <= 0xdfff)) return FAILED
  }
}

function scanNumber(text: string, from: number): number {
  const start = text.charCodeAt(from) === MINUS ? from + 1 : from
  let at = scanDigits(text, start)
  if (at === FAILED) return FAILED
  let digits = at - start
  if (digits > 1 && text.charCodeAt(start) === ZERO) return FAILED
  if (text.charCodeAt(at) === DOT) {
    const fractionAt = at + 1
    at = scanDigits(text, fractionAt)
    if (at === FAILED) return FAILED
    digits += at - fractionAt
  }
  // An exponent is taken for the start of something else by whoever reads on, which fails.
  return digits <= MAX_DIGITS ? at : FAILED
}

function scanDigits(text: string, from: number): number {
  let at = from
  for (;;) {
    const code = text.charCodeAt(at)
    if (code >= ZERO && code <= NINE) at += 1
    else return at === from ? FAILED : at
  }
}

/** A number from 0 to 1. */
function scanRatio(text: string, from: number): number {
  const at = scanNumber(text, from)
  if (at === FAILED || text.charCodeAt(from) === ZERO) return at
  if (text.charCodeAt(from) === MINUS) return FAILED
  return isWithin(text, from, at, 1) ? at : FAILED
}

function isWithin(text: string, from: number, to: number, limit: number): boolean {
  return to !== FAILED && Math.abs(Number(text.slice(from, to))) <= limit
}

function scanBoolean(text: string, from: number): number {
  return text.charCodeAt(from) === LETTER_T_SMALL
    ? scanLiteral(text, from, 'true')
    : scanLiteral(text, from, 'false')
}

function scanLiteral(text: string, from: number, literal: string): number {
  return isAt(text, from, literal) ? from + literal.length : FAILED
}

function isName(text: string, from: number, to: number, name: string): boolean {
  return to - from === name.length && isAt(text, from, name)
}

function isAt(text: string, from: number, word: string): boolean {
  for (let index = 0; index < word.length; index++)
    if (text.charCodeAt(from + index) !== word.charCodeAt(index)) return false
  return true
}

function healthAt(text: string, at: number): Heartbeat['health'] | undefined {
  if (isAt(text, at, '"ok"')) return 'ok'
  if (isAt(text, at, '"warn"')) return 'warn'
  if (isAt(text, at, '"error"')) return 'error'
  return isAt(text, at, '"unknown"') ? 'unknown' : undefined
}

/** So many digits and nothing else, as a number; or a negative one. */
function digitsAt(text: string, from: number, count: number): number {
  let value = 0
  for (let at = from; at < from + count; at++) {
    const digit = text.charCodeAt(at) - ZERO
    if (!(digit >= 0 && digit <= 9)) return FAILED
    value = value * 10 + digit
  }
  return value
}

/**
 * The milliseconds since 1970 that lie between two positions as `2026-01-01T00:00:00Z`, with a fraction of up to nine
 * digits or without, in UTC or with an offset; or FAILED.
 */
function instantIn(text: string, from: number, to: number): number {
  const year = digitsAt(text, from, 4)
  const month = digitsAt(text, from + 5, 2)
  const day = digitsAt(text, from + 8, 2)
  const hour = digitsAt(text, from + 11, 2)
  const minute = digitsAt(text, from + 14, 2)
  const second = digitsAt(text, from + 17, 2)
  if (text.charCodeAt(from + 4) !== MINUS || text.charCodeAt(from + 7) !== MINUS) return FAILED
  if (text.charCodeAt(from + 10) !== LETTER_T) return FAILED
  if (text.charCodeAt(from + 13) !== COLON || text.charCodeAt(from + 16) !== COLON) return FAILED
  if (year < 1969 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return FAILED
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return FAILED
  let at = from + 19
  let milliseconds = 0
  if (text.charCodeAt(at) === DOT) {
    const end = scanDigits(text, at + 1)
    if (end === FAILED || end - at > 10) return FAILED
    // What is finer than a millisecond is cut off, as Date.parse does.
    for (let digit = 0, weight = 100; digit < 3 && at + 1 + digit < end; digit++, weight /= 10)
      milliseconds += (text.charCodeAt(at + 1 + digit) - ZERO) * weight
    at = end
  }
  let offsetMinutes = 0
  const zone = text.charCodeAt(at)
  if (zone === LETTER_Z) at += 1
  else if (zone === PLUS || zone === MINUS) {
    const hours = digitsAt(text, at + 1, 2)
    const minutes = digitsAt(text, at + 4, 2)
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return FAILED
    if (text.charCodeAt(at + 3) !== COLON) return FAILED
    offsetMinutes = (zone === PLUS ? 1 : -1) * (hours * 60 + minutes)
    at += 6
  } else return FAILED
  if (at !== to) return FAILED
  const minutes = (daysUntil(year, month, day) * 24 + hour) * 60 + minute - offsetMinutes
  const time = (minutes * 60 + second) * 1000 + milliseconds
  return time >= 0 && time <= LAST_INSTANT ? time : FAILED
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
