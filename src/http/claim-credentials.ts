import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { demandScope } from '../access/principal.ts'
import {
  CREDENTIAL_SORTS,
  type CredentialRow,
  type FleetCredentialKind,
  listCredentials,
  lockForRevoking,
  revokeCredential,
} from '../db/claim-credentials.ts'
import { BeaconError } from '../errors.ts'
import { audited, type Deed } from './audited.ts'
import { cidrs } from './cidrs.ts'
import { principalOf } from './guard.ts'
import { idempotently } from './idempotency.ts'
import type { HttpParts } from './parts.ts'
import { reachOf } from './reach.ts'
import { actorOf, revokeTokensOfCredential, robotDeed, robotMessages } from './robot-changes.ts'
import { cursor, id, labels, limit, name, time } from './schemas.ts'
import { sortedPage, sortKeys } from './sorted-lists.ts'

/** What enrollment keys and provisioning tokens have in common over REST. */

const onExisting = z
  .enum(['rebind', 'approve', 'reject'])
  .describe('What happens when a machine that is enrolled already claims again')
const requireApproval = z.boolean().describe('Whether robots wait until an operator approves them')

/** What a new credential may say of the robots that come with it. */
export const newPolicies = {
  labels: labels.default({}).describe('Given to the robots it admits'),
  allowed_cidrs: cidrs.default([]).describe('Where robots may claim from; none: from anywhere'),
  require_approval: requireApproval.default(false),
  on_existing: onExisting.default('rebind'),
}

/** What is shown of every credential. */
export const credentialFields = {
  id,
  name,
  site_id: id,
  fleet_id: id,
  prefix: z.string(),
  last_four: z.string(),
  uses: z.number().int().describe('How many robots it admitted'),
  labels,
  allowed_cidrs: z.array(z.string()),
  require_approval: requireApproval,
  on_existing: onExisting,
  created_at: time,
  created_by: id.nullable().describe('The token or person that made it'),
  expires_at: time.nullable(),
  revoked_at: time.nullable(),
  last_used_at: time.nullable(),
}

export function toCredentialFields(row: CredentialRow, prefix: string) {
  return {
    id: row.id,
    name: row.name,
    site_id: row.site_id,
    fleet_id: row.fleet_id,
    prefix,
    last_four: row.last_four,
    uses: row.uses,
    labels: row.labels,
    allowed_cidrs: row.allowed_cidrs,
    require_approval: row.require_approval,
    on_existing: row.on_existing,
    created_at: row.created_at.toISOString(),
    created_by: row.created_by,
    expires_at: row.expires_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
    last_used_at: row.last_used_at?.toISOString() ?? null,
  }
}

/** How people call them, in sentences. */
const NOUNS: Readonly<Record<FleetCredentialKind, string>> = {
  enrollment_key: 'enrollment key',
  provisioning_token: 'provisioning token',
}

/** The row, or the refusal that there is none. */
export function foundCredential(kind: FleetCredentialKind, row: CredentialRow | undefined): CredentialRow {
  if (!row) throw new BeaconError('not_found', `there is no such ${NOUNS[kind]}`)
  return row
}

/** What the audit log says of something that was done to a credential. */
export function credentialDeed(
  kind: FleetCredentialKind,
  verb: 'created' | 'revoked',
  row: CredentialRow,
  data?: Readonly<Record<string, unknown>>,
): Deed {
  return {
    action: `${kind}.${verb}`,
    target: { kind, id: row.id, name: row.name },
    place: { siteId: row.site_id, fleetId: row.fleet_id },
    ...(data ? { data } : {}),
  }
}

/** What a new credential allows, for the audit log. */
export function policiesOf(row: CredentialRow): Readonly<Record<string, unknown>> {
  return {
    max_uses: row.max_uses,
    single_use: row.single_use,
    expires_at: row.expires_at?.toISOString() ?? null,
    labels: row.labels,
    allowed_cidrs: row.allowed_cidrs,
    require_approval: row.require_approval,
    on_existing: row.on_existing,
  }
}

const SORT_KEYS = sortKeys(CREDENTIAL_SORTS)

/** The query of a list of credentials, given the states that its kind knows. */
export function listQuery<Status extends z.ZodType>(status: Status) {
  return z.strictObject({
    site: id.optional(),
    fleet: id.optional(),
    status: status.optional(),
    sort: z
      .enum(SORT_KEYS)
      .default('-created_at')
      .describe('With `-`: descending. Those without a value come last'),
    limit: limit(),
    cursor,
  })
}

interface ListQuery {
  readonly site?: string | undefined
  readonly fleet?: string | undefined
  readonly status?: CredentialRow['status'] | undefined
  readonly sort: (typeof SORT_KEYS)[number]
  readonly limit: number
  readonly cursor?: string | undefined
}

/** A page of the credentials of one kind that are within the caller's reach. */
export function pageOfCredentials<Item>(
  { database }: Pick<HttpParts, 'database'>,
  request: FastifyRequest,
  kind: FleetCredentialKind,
  query: ListQuery,
  show: (row: CredentialRow) => Item,
): Promise<{ items: Item[]; next_cursor: string | null }> {
  const { site, fleet, status } = query
  const filter = { kind, reach: reachOf(request), site, fleet, status }
  return sortedPage(kind, query, (page) => listCredentials(database, filter, page), show)
}

export const revokeBody = z
  .strictObject({ cascade: z.enum(['none', 'revoke_robots']).default('none') })
  .nullable()

/** What revoking a credential adds to what is shown of it. */
export const revokedFields = {
  robots_revoked: z.number().int().describe('Robots whose tokens this revoked'),
  robots_out_of_reach: z
    .number()
    .int()
    .describe(
      'Robots that hang on it and keep their tokens, for they are where the caller may not change robots',
    ),
}

/**
 * Carries out the revocation of a credential; with `cascade` also of the tokens of the robots that it admitted or whose
 * token came with it, as far as the caller may change those robots.
 */
export function revoking<Shown>(
  parts: HttpParts,
  request: FastifyRequest<{ Params: { id: string }; Body: z.output<typeof revokeBody> | undefined }>,
  reply: FastifyReply,
  kind: FleetCredentialKind,
  show: (row: CredentialRow) => Shown,
) {
  return idempotently(parts, request, reply, async (transaction) => {
    // The credential first: what a claim in flight admits is there once the credential is ours.
    const before = await lockForRevoking(transaction, kind, request.params.id)
    const row = foundCredential(kind, await revokeCredential(transaction, kind, request.params.id))
    const cascade = request.body?.cascade === 'revoke_robots'
    const principal = principalOf(request)
    if (cascade) demandScope(principal, 'robots:write', { siteId: row.site_id, fleetId: row.fleet_id })
    const { revoked, outOfReach } = cascade
      ? await revokeTokensOfCredential(transaction, row.id, actorOf(request, parts))
      : { revoked: [], outOfReach: 0 }
    const ids = revoked.map((robot) => robot.id)
    const deeds: Deed[] = revoked.map((robot) =>
      robotDeed('robot.token_revoked', robot, { credential_id: row.id }),
    )
    if (before?.revoked_at === null || ids.length > 0)
      deeds.unshift(
        credentialDeed(kind, 'revoked', row, {
          cascade: cascade ? 'revoke_robots' : 'none',
          robots_revoked: ids.length,
        }),
      )
    return {
      status: 200,
      body: { ...show(row), robots_revoked: ids.length, robots_out_of_reach: outOfReach },
      messages: robotMessages('robots_revoked', ids),
      audit: deeds.map((deed) => audited(request, parts, deed)),
    }
  })
}
