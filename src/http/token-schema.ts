import { z } from 'zod'
import { FLEET_TOKEN_SCOPES, SCOPES, type Scope } from '../access/scopes.ts'
import type { Placed, SortedPage } from '../db/sorting.ts'
import { TOKEN_SORTS, TOKEN_STATUSES, type TokenRow, type TokenSort } from '../db/token-list.ts'
import { cidrs } from './cidrs.ts'
import { component, cursor, id, limit, name, time } from './schemas.ts'
import { sortedPage, sortKeys } from './sorted-lists.ts'

const PREFIXES = { personal: 'rf_pat_', fleet: 'rf_fleet_' } as const

export const tokenSchema = component(
  'AccessToken',
  z.object({
    id,
    kind: z.enum(['personal', 'fleet']),
    name,
    prefix: z.string(),
    last_four: z.string(),
    scopes: z
      .array(z.string())
      .nullable()
      .describe('What it may be used for; null: all that its owner may do. Never more than its owner may do'),
    allowed_cidrs: z.array(z.string()).describe('Where it may be used from; none: from anywhere'),
    user_id: id.nullable().describe('Whose it is; null: a fleet’s'),
    user_name: z.string().nullable(),
    fleet_id: id.nullable().describe('The fleet it belongs to; null: a person’s'),
    status: z.enum(TOKEN_STATUSES),
    created_at: time,
    created_by: id.nullable().describe('The token or person that made it'),
    expires_at: time.nullable(),
    revoked_at: time.nullable(),
    last_used_at: time.nullable().describe('Written some seconds later'),
    last_used_ip: z.string().nullable(),
    replaces: id.nullable().describe('The token that it was made to take the place of'),
    replaced_by: id.nullable().describe('The token that was made to take its place'),
  }),
)
export type Token = z.infer<typeof tokenSchema>

const value = z.string().nullable().describe('The token itself: only here. Null in a repeated answer')

export const newTokenSchema = component('NewAccessToken', tokenSchema.extend({ token: value }))

export const rotatedTokenSchema = component(
  'RotatedAccessToken',
  newTokenSchema.extend({
    old: z
      .object({ id, expires_at: time, last_used_at: time.nullable() })
      .describe('The token that was replaced: when it ends, and when it was used last'),
  }),
)

export function toToken(row: TokenRow): Token {
  return {
    id: row.id,
    kind: row.kind,
    name: row.name,
    prefix: PREFIXES[row.kind],
    last_four: row.last_four,
    scopes: row.scopes,
    allowed_cidrs: row.allowed_cidrs,
    user_id: row.user_id,
    user_name: row.user_name,
    fleet_id: row.fleet_id,
    status: row.status,
    created_at: row.created_at.toISOString(),
    created_by: row.created_by,
    expires_at: row.expires_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
    last_used_at: row.last_used_at?.toISOString() ?? null,
    last_used_ip: row.last_used_ip,
    replaces: row.replaces,
    replaced_by: row.replaced_by,
  }
}

const DAY_SECONDS = 86_400
const MAX_DAYS = 3_650
const DEFAULT_DAYS = 90
const DEFAULT_OVERLAP_SECONDS = DAY_SECONDS
const MAX_OVERLAP_SECONDS = 30 * DAY_SECONDS

const date = z.iso.datetime({ offset: true }).transform((text) => new Date(text))

/** When a token ends: so many seconds from now, at a time, or never. */
export type Ending = { readonly inSeconds: number } | { readonly at: Date } | 'never'

const expiry = {
  expires_in_days: z.number().positive().max(MAX_DAYS).nullable().optional().describe('Null: never'),
  expires_at: date.optional().describe('A time instead, at most ten years ahead'),
}
type Expiry = { readonly [Field in keyof typeof expiry]?: z.output<(typeof expiry)[Field]> }

/** What the two fields say; undefined where neither does. */
export function endingOf({ expires_in_days: days, expires_at: at }: Expiry): Ending | undefined {
  if (at) return { at }
  if (days === undefined) return undefined
  return days === null ? 'never' : { inSeconds: days * DAY_SECONDS }
}

export const DEFAULT_ENDING: Ending = { inSeconds: DEFAULT_DAYS * DAY_SECONDS }

/** The latest that a token may end at, unless it never does. */
export const latestEnding = (now: number): Date => new Date(now + MAX_DAYS * DAY_SECONDS * 1000)

function oneExpiry(given: Expiry): boolean {
  return given.expires_in_days === undefined || given.expires_at === undefined
}
const TWO_EXPIRIES = { error: 'give expires_in_days or expires_at, not both', path: ['expires_at'] }

function mintSchema(scopes: readonly Scope[], all: string) {
  return z
    .strictObject({
      name,
      scopes: z.array(z.enum(scopes)).min(1).max(scopes.length).optional().describe(all),
      ...expiry,
      allowed_cidrs: cidrs
        .optional()
        .describe('Where it may be used from; none: from anywhere. Left out: as the token that asks'),
    })
    .refine(oneExpiry, TWO_EXPIRIES)
}

export const mintBody = {
  personal: mintSchema(SCOPES, 'Left out: all that the caller holds at this moment'),
  fleet: mintSchema(
    FLEET_TOKEN_SCOPES,
    'Left out: all that the caller holds at the fleet at this moment, without managing tokens or people',
  ),
}
export type MintBody = z.output<(typeof mintBody)[keyof typeof mintBody]>

export const rotateBody = z
  .strictObject({
    overlap_seconds: z
      .number()
      .int()
      .min(0)
      .max(MAX_OVERLAP_SECONDS)
      .optional()
      .describe('How long the old token still works: a day unless told, 0: no longer, at most 30 days'),
    old_expires_at: date.optional().describe('When the old token ends, instead; at most 30 days ahead'),
    ...expiry,
  })
  .refine(oneExpiry, TWO_EXPIRIES)
  .refine((given) => given.overlap_seconds === undefined || given.old_expires_at === undefined, {
    error: 'give overlap_seconds or old_expires_at, not both',
    path: ['old_expires_at'],
  })
  .nullable()
export type RotateBody = z.output<typeof rotateBody>

/** When the old token ends. */
export function overlapOf(body: RotateBody): { readonly at: Date } | { readonly inSeconds: number } {
  if (body?.old_expires_at) return { at: body.old_expires_at }
  return { inSeconds: body?.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS }
}

export const latestOverlap = (now: number): Date => new Date(now + MAX_OVERLAP_SECONDS * 1000)

/** What every list of tokens is asked with. */
export const tokenListQuery = {
  status: z.enum(TOKEN_STATUSES).optional(),
  sort: z
    .enum(sortKeys(TOKEN_SORTS))
    .default('-created_at')
    .describe('With `-`: descending. Tokens without a value come last'),
  limit: limit(),
  cursor,
}
type TokenListQuery = z.output<z.ZodObject<typeof tokenListQuery>>

/** The page that the query asks for, out of what `list` finds. */
export function tokenPage(
  query: Pick<TokenListQuery, 'sort' | 'limit' | 'cursor'>,
  list: (page: SortedPage<TokenSort>) => Promise<Placed<TokenRow>[]>,
) {
  return sortedPage('tokens', query, list, toToken)
}
