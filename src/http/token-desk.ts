import type { FastifyRequest } from 'fastify'
import type { Place } from '../access/authority.ts'
import { demandOwnRights, demandRightsAt, standingToMint } from '../access/minting.ts'
import type { Principal } from '../access/principal.ts'
import { isScope, type Scope } from '../access/scopes.ts'
import { insertAccessToken } from '../db/access-tokens.ts'
import type { AuditEntry } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import {
  endToken,
  lockMinting,
  lockToken,
  networks,
  revokeToken,
  secondsFromNow,
} from '../db/token-changes.ts'
import { findToken, type HeldToken, type TokenRow } from '../db/token-list.ts'
import { BeaconError } from '../errors.ts'
import { newId } from '../ids.ts'
import { describeToken, hashToken, mintCheckedToken } from '../protocol/tokens.ts'
import { audited } from './audited.ts'
import { principalOf } from './guard.ts'
import type { Answer } from './idempotency.ts'
import type { HttpParts } from './parts.ts'
import {
  DEFAULT_ENDING,
  type Ending,
  endingOf,
  latestEnding,
  latestOverlap,
  type MintBody,
  overlapOf,
  type RotateBody,
  type Token,
  toToken,
} from './token-schema.ts'
import { invalidRequest } from './validation.ts'

/** What is done to the tokens of people and of fleets alike. Each takes a transaction. */

type Parts = Pick<HttpParts, 'clock' | 'random'>

interface NewToken {
  readonly kind: 'personal' | 'fleet'
  readonly userId: string | null
  readonly fleetId: string | null
  readonly name: string
  readonly scopes: readonly string[] | null
  readonly allowedCidrs: readonly string[]
  readonly ending: Ending
  readonly createdBy: string
  readonly replaces?: string
}

/** Throws for a time that is over, or too far ahead to be meant. */
function demandAhead(at: Date, latest: Date, now: number, pointer: string): void {
  if (at.getTime() <= now) throw invalidRequest([{ pointer, detail: 'has to lie in the future' }])
  if (at > latest)
    throw invalidRequest([{ pointer, detail: `must not be later than ${latest.toISOString()}` }])
}

function demandEnding(ending: Ending | undefined, now: number): void {
  if (ending !== undefined && ending !== 'never' && 'at' in ending)
    demandAhead(ending.at, latestEnding(now), now, '/expires_at')
}

/** Makes a token; its value is nowhere but in what this returns. */
async function insert(transaction: Database, random: Parts['random'], token: NewToken) {
  const id = newId()
  const value = mintCheckedToken(token.kind, (count) => random.bytes(count))
  const { ending } = token
  await insertAccessToken(transaction, {
    id,
    kind: token.kind,
    user_id: token.userId,
    fleet_id: token.fleetId,
    name: token.name,
    token_hash: hashToken(value),
    last_four: describeToken(value).last_four,
    scopes: token.scopes === null ? null : [...token.scopes],
    allowed_cidrs: networks(token.allowedCidrs),
    created_by: token.createdBy,
    expires_at: ending === 'never' ? null : 'at' in ending ? ending.at : secondsFromNow(ending.inSeconds),
    replaces: token.replaces ?? null,
  })
  return { row: await demandToken(transaction, id), value }
}

export async function demandToken(database: Database, id: string): Promise<HeldToken> {
  const row = await findToken(database, id)
  if (!row) throw new BeaconError('not_found', 'there is no such token')
  return row
}

function placeOf({ site_id, fleet_id }: TokenRow): Place {
  return { siteId: site_id, fleetId: fleet_id }
}

/** What the audit log tells of a token: its bounds and whose it is. Its value is not known to anybody by then. */
function described(row: TokenRow): Record<string, unknown> {
  return {
    kind: row.kind,
    holder_id: row.user_id ?? row.fleet_id,
    scopes: row.scopes,
    allowed_cidrs: row.allowed_cidrs,
    expires_at: row.expires_at?.toISOString() ?? null,
  }
}

function entry(
  request: FastifyRequest,
  parts: Parts,
  action: `access_token.${string}`,
  row: TokenRow,
  data: Record<string, unknown> = {},
): AuditEntry {
  return audited(request, parts, {
    action,
    target: { kind: 'access_token', id: row.id, name: row.name },
    place: placeOf(row),
    data: { ...described(row), ...data },
  })
}

type NewAnswer = Answer<Token & { token: string | null }>

/** In the order in which they are listed, each once. */
function sorted(scopes: readonly Scope[], all: readonly Scope[]): Scope[] {
  return all.filter((scope) => scopes.includes(scope))
}

/**
 * Makes a token of the caller's own person, or of a fleet at which `scopesHeld` are held. The caller is looked at again
 * within the transaction: see `standingToMint`.
 */
export async function mintToken(
  transaction: Database,
  request: FastifyRequest,
  parts: Parts,
  body: MintBody,
  holder: {
    readonly fleet?: Place
    /** May throw; what the caller could give at the most. */
    readonly scopesHeld: (now: Principal) => readonly Scope[]
  },
): Promise<NewAnswer> {
  const now = await standingToMint(transaction, principalOf(request))
  const ending = endingOf(body)
  demandEnding(ending, parts.clock.now())
  const held = holder.scopesHeld(now)
  const scopes = body.scopes ?? held
  const limits = { scopes, allowedCidrs: body.allowed_cidrs ?? now.limits.allowedCidrs }
  if (holder.fleet) demandRightsAt(now, limits, holder.fleet)
  else demandOwnRights(now, limits)
  // Somebody without any role yet.
  if (scopes.length === 0) throw new BeaconError('exceeds_own_rights', 'the caller holds nothing to give')
  const { row, value } = await insert(transaction, parts.random, {
    kind: holder.fleet ? 'fleet' : 'personal',
    userId: holder.fleet ? null : now.userId,
    fleetId: holder.fleet?.fleetId ?? null,
    name: body.name,
    scopes: sorted(scopes, held),
    allowedCidrs: limits.allowedCidrs,
    ending: ending ?? DEFAULT_ENDING,
    createdBy: now.id,
  })
  const shown = toToken(row)
  return {
    status: 201,
    body: { ...shown, token: value },
    kept: { ...shown, token: null },
    audit: [entry(request, parts, 'access_token.created', row)],
  }
}

/** Revokes a token that the caller may revoke; again is no error. */
export async function revoke(
  transaction: Database,
  request: FastifyRequest,
  parts: Parts,
  id: string,
): Promise<Answer<Token>> {
  const revoked = await revokeToken(transaction, id)
  const row = await demandToken(transaction, id)
  const lastUse = { last_used_at: row.last_used_at?.toISOString() ?? null, last_used_ip: row.last_used_ip }
  return {
    status: 200,
    body: toToken(row),
    // Told even where nothing changed: whoever missed it the first time hears it now.
    messages: [{ type: 'access_changed' }],
    audit: revoked ? [entry(request, parts, 'access_token.revoked', row, lastUse)] : [],
  }
}

/** How long a token was made to live; null: for ever. */
function lifetimeSeconds({ created_at, expires_at }: TokenRow): number | null {
  return expires_at === null ? null : (expires_at.getTime() - created_at.getTime()) / 1000
}

function endsAfter(ending: Ending, seconds: number, now: number): boolean {
  if (ending === 'never') return true
  return 'at' in ending ? ending.at.getTime() > now + seconds * 1000 : ending.inSeconds > seconds
}

/** Why a token cannot be rotated, unless it can. */
async function demandRotatable(transaction: Database, row: TokenRow): Promise<void> {
  if (row.status === 'revoked') throw new BeaconError('token_not_active', 'it was revoked')
  if (row.status === 'expired') throw new BeaconError('token_not_active', 'it has expired')
  const newer = row.replaced_by === null ? undefined : await findToken(transaction, row.replaced_by)
  if (newer?.status === 'active')
    throw new BeaconError(
      'token_not_active',
      `it was rotated before: ${newer.id} takes its place. Revoke that one to rotate this one again`,
    )
}

/**
 * Makes another token like the one named, and lets that one end soon. `mayRotate` throws unless the caller may.
 * Whoever rotates is told a value: they have to hold all that it is good for.
 */
export async function rotate(
  transaction: Database,
  request: FastifyRequest,
  parts: Parts,
  id: string,
  mayRotate: (now: Principal, row: HeldToken) => void,
): Promise<Answer<Token & { token: string | null; old: RotatedOld }>> {
  const body = request.body as RotateBody
  const asker = principalOf(request)
  // Before the caller's own row is held: it may be this one.
  await lockMinting(transaction)
  await lockToken(transaction, id)
  const now = await standingToMint(transaction, asker)
  const before = await demandToken(transaction, id)
  mayRotate(now, before)
  await demandRotatable(transaction, before)
  const time = parts.clock.now()
  const chosen = body === null ? undefined : endingOf(body)
  demandEnding(chosen, time)
  if (body?.old_expires_at) demandAhead(body.old_expires_at, latestOverlap(time), time, '/old_expires_at')
  const lifetime = lifetimeSeconds(before)
  const isItself = now.kind !== 'session' && now.id === before.id
  if (!isItself) {
    const limits = {
      scopes: before.scopes === null ? null : before.scopes.filter(isScope),
      allowedCidrs: before.allowed_cidrs,
    }
    if (before.kind === 'fleet')
      demandRightsAt(now, { ...limits, scopes: limits.scopes ?? [] }, placeOf(before))
    else demandOwnRights(now, limits)
  } else if (
    chosen &&
    lifetime !== null &&
    !now.authority.holds('tokens:manage') &&
    endsAfter(chosen, lifetime, time)
  ) {
    const detail = 'a token that rotates itself lives no longer than it was made to'
    throw new BeaconError('exceeds_own_rights', detail)
  }
  const { row, value } = await insert(transaction, parts.random, {
    kind: before.kind,
    userId: before.user_id,
    fleetId: before.fleet_id,
    name: before.name,
    scopes: before.scopes,
    allowedCidrs: before.allowed_cidrs,
    ending: chosen ?? (lifetime === null ? 'never' : { inSeconds: lifetime }),
    createdBy: now.id,
    replaces: before.id,
  })
  await endToken(transaction, before.id, overlapOf(body))
  const ended = await demandToken(transaction, before.id)
  const old: RotatedOld = {
    id: ended.id,
    expires_at: ended.expires_at!.toISOString(),
    last_used_at: ended.last_used_at?.toISOString() ?? null,
  }
  const shown = toToken(row)
  const lastUse = {
    replaces: old.id,
    old_expires_at: old.expires_at,
    old_last_used_at: old.last_used_at,
    old_last_used_ip: ended.last_used_ip,
  }
  return {
    status: 201,
    body: { ...shown, token: value, old },
    kept: { ...shown, token: null, old },
    // The old one may end sooner than whoever hangs on it was told.
    messages: [{ type: 'access_changed' }],
    audit: [entry(request, parts, 'access_token.rotated', row, lastUse)],
  }
}

interface RotatedOld {
  readonly id: string
  readonly expires_at: string
  readonly last_used_at: string | null
}
