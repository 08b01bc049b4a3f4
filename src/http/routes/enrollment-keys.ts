import { isIP } from 'node:net'
import { z } from 'zod'
import {
  type EnrollmentKeyRow,
  findEnrollmentKey,
  insertEnrollmentKey,
  listEnrollmentKeys,
  revokeEnrollmentKey,
} from '../../db/claim-credentials.ts'
import { violatesReference } from '../../db/references.ts'
import { sealContext } from '../../db/sealed.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { describeToken, hashToken, mintEnrollmentKey } from '../../protocol/tokens.ts'
import { decodeCursor, pageOf } from '../cursors.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts, Origin } from '../parts.ts'
import { publicUrl, shellWord } from '../public-url.ts'
import { demandFleetInSite, unknownReference } from '../references.ts'
import { actorOf, revokeTokensOfCredential, robotMessages } from '../robot-changes.ts'
import {
  byId,
  component,
  cursor,
  id,
  idempotencyHeaders,
  labels,
  limit,
  listOf,
  name,
  time,
} from '../schemas.ts'

const PREFIX = 'rf_enroll_'
const MAX_CIDRS = 64
const MAX_HOURS = 24 * 366 * 10

const cidr = z.string().refine((text) => {
  const found = /^([0-9A-Fa-f:.]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text)
  const family = isIP(found?.[1] ?? '')
  return family !== 0 && Number(found?.[2] ?? 0) <= (family === 4 ? 32 : 128)
}, 'must be an address or a CIDR range')

const STATUSES = ['active', 'revoked', 'expired', 'exhausted'] as const
const onExisting = z
  .enum(['rebind', 'approve', 'reject'])
  .describe('What happens when a machine that is enrolled already claims again')
const retrievable = z.boolean().describe('Whether the key can be read again later')

const keySchema = component(
  'EnrollmentKey',
  z.object({
    id,
    name,
    site_id: id,
    fleet_id: id,
    prefix: z.string(),
    last_four: z.string(),
    retrievable,
    key_value: z.string().nullable().describe('Null where the caller may not read it, or nobody can'),
    setup_command: z.string().nullable().describe('What to run on a robot; null where key_value is'),
    status: z.enum(STATUSES),
    max_uses: z.number().int(),
    uses: z.number().int().describe('How many robots it admitted'),
    labels,
    allowed_cidrs: z.array(z.string()),
    require_approval: z.boolean(),
    on_existing: onExisting,
    created_at: time,
    created_by: id.nullable().describe('The token that made it'),
    expires_at: time.nullable(),
    revoked_at: time.nullable(),
    last_used_at: time.nullable(),
  }),
)
type Key = z.infer<typeof keySchema>

const revokedKeySchema = component(
  'RevokedEnrollmentKey',
  keySchema.extend({ robots_revoked: z.number().int().describe('Robots whose tokens this revoked') }),
)

const newKeySchema = z.strictObject({
  site_id: id,
  fleet_id: id,
  name,
  max_uses: z.number().int().min(1).max(1_000_000).default(100),
  expires_in_hours: z
    .number()
    .positive()
    .max(MAX_HOURS)
    .nullable()
    .default(24)
    .describe('Null: it never expires'),
  labels: labels.default({}).describe('Given to the robots it admits'),
  allowed_cidrs: z
    .array(cidr)
    .max(MAX_CIDRS)
    .default([])
    .describe('Where robots may claim from; none: from anywhere'),
  require_approval: z.boolean().default(false),
  on_existing: onExisting.default('rebind'),
  retrievable: retrievable.default(true),
})

const placeSchema = z.strictObject({ list: z.literal('enrollment_keys'), id })

function toKey(row: EnrollmentKeyRow, value: string | null, server: string): Key {
  return {
    id: row.id,
    name: row.name,
    site_id: row.site_id,
    fleet_id: row.fleet_id,
    prefix: PREFIX,
    last_four: row.last_four,
    retrievable: row.secret_sealed !== null,
    key_value: value,
    setup_command:
      value === null ? null : `beacon agent run --enrollment-key ${value} --server ${shellWord(server)}`,
    status: row.status,
    max_uses: row.max_uses!,
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

/** How keys are shown to one caller: with their value when the caller may read it and it can be read. */
function showFor({ config, seal, log }: HttpParts, request: Parameters<typeof principalOf>[0] & Origin) {
  const { authority } = principalOf(request)
  const server = publicUrl(config, request)
  return (row: EnrollmentKeyRow): Key => {
    const reveal = authority.covers('enrollment-keys:reveal', { siteId: row.site_id, fleetId: row.fleet_id })
    if (!reveal || row.secret_sealed === null) return toKey(row, null, server)
    try {
      return toKey(row, seal.open(row.secret_sealed, sealContext('enrollment_keys', row.id)), server)
    } catch (err) {
      log.warn({ err, credential_id: row.id }, 'an enrollment key cannot be read')
      return toKey(row, null, server)
    }
  }
}

function found(row: EnrollmentKeyRow | undefined): EnrollmentKeyRow {
  if (!row) throw new BeaconError('not_found', 'there is no such enrollment key')
  return row
}

export function enrollmentKeyRoutes(app: App, parts: HttpParts): void {
  const { config, database, random, seal } = parts

  app.route({
    method: 'POST',
    url: '/api/enrollment-keys',
    config: {
      scope: 'enrollment-keys:write',
      on: 'body',
      problems: ['fleet_not_in_site', 'unknown_reference'],
    },
    schema: {
      operationId: 'createEnrollmentKey',
      summary: 'Create an enrollment key for a fleet',
      description: 'The answer holds the key and the command that enrols a robot with it.',
      tags: ['Enrollment keys'],
      headers: idempotencyHeaders,
      body: newKeySchema,
      response: { 201: keySchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { body } = request
        await demandFleetInSite(transaction, principalOf(request), 'enrollment-keys:write', {
          siteId: body.site_id,
          fleetId: body.fleet_id,
        })
        const keyId = newId()
        const value = mintEnrollmentKey((count) => random.bytes(count))
        const row = await insertEnrollmentKey(transaction, {
          id: keyId,
          secretHash: hashToken(value),
          secretSealed: body.retrievable ? seal.seal(value, sealContext('enrollment_keys', keyId)) : null,
          lastFour: describeToken(value).last_four,
          name: body.name,
          siteId: body.site_id,
          fleetId: body.fleet_id,
          maxUses: body.max_uses,
          labels: body.labels,
          allowedCidrs: body.allowed_cidrs,
          requireApproval: body.require_approval,
          onExisting: body.on_existing,
          createdBy: principalOf(request).id,
          expiresInSeconds: body.expires_in_hours === null ? null : body.expires_in_hours * 3600,
        }).catch((error: unknown) => {
          throw violatesReference(error) ? unknownReference('/fleet_id', 'fleet', error) : error
        })
        const server = publicUrl(config, request)
        const answer = { status: 201, body: toKey(row, value, server) } as const
        return body.retrievable ? answer : { ...answer, kept: toKey(row, null, server) }
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/enrollment-keys',
    config: { scope: 'enrollment-keys:read', on: 'listed' },
    schema: {
      operationId: 'listEnrollmentKeys',
      summary: 'List the enrollment keys, newest first',
      tags: ['Enrollment keys'],
      querystring: z.strictObject({
        site: id.optional(),
        fleet: id.optional(),
        status: z.enum(STATUSES).optional(),
        limit: limit(),
        cursor,
      }),
      response: { 200: listOf(keySchema) },
    },
    handler: async (request) => {
      const { site, fleet, status, limit, cursor } = request.query
      const before = decodeCursor(cursor, placeSchema)?.id
      const rows = await listEnrollmentKeys(database, { site, fleet, status }, { limit: limit + 1, before })
      return pageOf(rows, limit, showFor(parts, request), ({ id }) => ({ list: 'enrollment_keys', id }))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/enrollment-keys/:id',
    config: { scope: 'enrollment-keys:read', on: 'enrollment_key' },
    schema: {
      operationId: 'getEnrollmentKey',
      summary: 'Get an enrollment key',
      tags: ['Enrollment keys'],
      params: byId,
      response: { 200: keySchema },
    },
    handler: async (request) =>
      showFor(parts, request)(found(await findEnrollmentKey(database, request.params.id))),
  })

  app.route({
    method: 'POST',
    url: '/api/enrollment-keys/:id/revoke',
    config: { scope: 'enrollment-keys:write', on: 'enrollment_key' },
    schema: {
      operationId: 'revokeEnrollmentKey',
      summary: 'Revoke an enrollment key',
      description:
        'Later claims are refused. Robots that it admitted keep their tokens, unless `cascade` says otherwise. Revoking it again is no error.',
      tags: ['Enrollment keys'],
      headers: idempotencyHeaders,
      params: byId,
      body: z.strictObject({ cascade: z.enum(['none', 'revoke_robots']).default('none') }).nullable(),
      response: { 200: revokedKeySchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        // The key first: what a claim in flight admits is there once the key is ours.
        const row = found(await revokeEnrollmentKey(transaction, request.params.id))
        const revoked =
          request.body?.cascade === 'revoke_robots'
            ? await revokeTokensOfCredential(transaction, row.id, actorOf(request, parts))
            : []
        return {
          status: 200,
          body: { ...showFor(parts, request)(row), robots_revoked: revoked.length },
          messages: robotMessages('robots_revoked', revoked),
        }
      }),
  })
}
