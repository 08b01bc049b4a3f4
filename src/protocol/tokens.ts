import { hash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

/** Hands out `count` random bytes; `node:crypto`'s in production. */
export type RandomBytes = (count: number) => Uint8Array

const CHECKED_PREFIXES = { robot: 'rf_robot_', personal: 'rf_pat_', fleet: 'rf_fleet_' } as const
export type CheckedTokenKind = keyof typeof CHECKED_PREFIXES

/** The forms of what a robot may claim an identity with. */
const CLAIM_CREDENTIALS = {
  enrollment_key: /^rf_enroll_[0-9a-f]{64}$/,
  provisioning_token: /^apt_[0-9a-f]{64}$/,
  setup_token: /^rf_setup_[a-z2-7]{55}$/,
} as const
export type ClaimCredentialKind = keyof typeof CLAIM_CREDENTIALS

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

export function mintProvisioningToken(random: RandomBytes = randomBytes): string {
  return `apt_${Buffer.from(random(32)).toString('hex')}`
}

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

/** 64 characters without one that looks like another: five random bits in each of the last 55. */
export function mintSetupToken(random: RandomBytes = randomBytes): string {
  return `rf_setup_${Array.from(random(55), (byte) => BASE32[byte & 31]).join('')}`
}

/** Which kind of claim credential has this form; says nothing of whether it was ever issued. */
export function claimCredentialKind(text: string): ClaimCredentialKind | undefined {
  const kinds = Object.keys(CLAIM_CREDENTIALS) as ClaimCredentialKind[]
  return kinds.find((kind) => CLAIM_CREDENTIALS[kind].test(text))
}

export function isEnrollmentKey(text: string): boolean {
  return claimCredentialKind(text) === 'enrollment_key'
}

/** SHA-256 of a token's characters: all that the server keeps of it. */
export function hashToken(token: string): Buffer {
  // A third of what createHash costs, for each upgrade has one.
  return hash('sha256', token, 'buffer')
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
