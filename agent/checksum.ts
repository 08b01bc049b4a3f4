import { createHash } from 'node:crypto'

/** What of agent.toml the agent alone writes. The rest are settings: a person may change them, and the checksum still fits. */
const COVERED = [
  'state',
  'robot_id',
  'site_id',
  'fleet_id',
  'gateway_url',
  'heartbeat_interval_ms',
  'machine_id',
  'bound_to',
  'credential_sha256',
  'refused_credentials',
  'token_made_at',
  'robot_token',
  'next_token',
]
const COVERED_OF_PENDING = ['server', 'claim_id', 'robot_token', 'credential_sha256']

const SCHEME = 'sha256:'

/** The checksum of agent.toml, given as a table: of values, so that spaces, comments and the order of lines are free. */
export function checksumOf(table: Readonly<Record<string, unknown>>): string {
  const pending = (table.pending ?? {}) as Record<string, unknown>
  const covered = [
    ...COVERED.map((key) => [key, table[key]]),
    ...COVERED_OF_PENDING.map((key) => [`pending.${key}`, pending[key]]),
  ].filter(([, value]) => value !== undefined)
  return `${SCHEME}${createHash('sha256').update(JSON.stringify(covered)).digest('hex')}`
}

/** A table without a checksum, or with one of a kind that a later version may have, fits whatever it holds. */
export function fitsChecksum(table: Readonly<Record<string, unknown>>): boolean {
  const { checksum } = table
  if (checksum === undefined || (typeof checksum === 'string' && !checksum.startsWith(SCHEME))) return true
  return checksum === checksumOf(table)
}
