import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

/** Hands out `count` random bytes; `node:crypto`'s in production. */
export type RandomBytes = (count: number) => Uint8Array

const CHECKED_PREFIXES = { robot: 'rf_robot_', personal: 'rf_pat_' } as const
export type CheckedTokenKind = keyof typeof CHECKED_PREFIXES

const ENROLLMENT_KEY = /^rf_enroll_[0-9a-f]{64}$/

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0')
}

/** Mints a token that ends in the CRC-32 of all characters before it. */
export function mintCheckedToken(kind: CheckedTokenKind, random: RandomBytes = randomBytes): string {
  const body = CHECKED_PREFIXES[kind] + Buffer.from(random(32)).toString('hex')
  return body + checksum(body)
}

/** True when the text has this token's form and its checksum holds; says nothing of whether it was ever issued. */
export function isCheckedToken(kind: CheckedTokenKind, text: string): boolean {
  const prefix = CHECKED_PREFIXES[kind]
  if (text.length !== prefix.length + 72 || !text.startsWith(prefix)) return false
  const body = text.slice(0, -8)
  return /^[0-9a-f]{64}$/.test(body.slice(prefix.length)) && text.slice(-8) === checksum(body)
}

export function mintEnrollmentKey(random: RandomBytes = randomBytes): string {
  return `rf_enroll_${Buffer.from(random(32)).toString('hex')}`
}

export function isEnrollmentKey(text: string): boolean {
  return ENROLLMENT_KEY.test(text)
}

/** SHA-256 of a token's characters: all that the server keeps of it. */
export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest()
}

/** What a listing may show of a token: its kind and last four characters. */
export function describeToken(token: string): { prefix: string; last_four: string } {
  return { prefix: token.slice(0, token.lastIndexOf('_') + 1), last_four: token.slice(-4) }
}

const BEARER = /^Bearer +([\x21-\x7e]{1,512})$/i

/** The token in an `Authorization` header, or undefined. */
export function bearerToken(header: string | undefined): string | undefined {
  return header === undefined ? undefined : BEARER.exec(header)?.[1]
}
