import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { type CredentialRow, findCredential, insertCredential } from '../../db/claim-credentials.ts'
import { violatesReference } from '../../db/references.ts'
import { sealContext } from '../../db/sealed.ts'
import { newId } from '../../ids.ts'
import { describeToken, hashToken, mintEnrollmentKey } from '../../protocol/tokens.ts'
import { audited } from '../audited.ts'
import {
  credentialDeed,
  credentialFields,
  foundCredential,
  listQuery,
  newPolicies,
  pageOfCredentials,
  policiesOf,
  revokeBody,
  revokedFields,
  revoking,
  toCredentialFields,
} from '../claim-credentials.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import { renewCaller } from '../minting.ts'
import type { App, HttpParts } from '../parts.ts'
import { publicUrl } from '../public-url.ts'
import { demandFleetInSite, unknownReference } from '../references.ts'
import { robotsOfCredential } from '../robot-list.ts'
import { robotSchema } from '../robot-schema.ts'
import { byId, component, cursor, id, idempotencyHeaders, limit, listOf, name } from '../schemas.ts'
import { setupCommand } from '../setup-command.ts'
import { useOf } from '../use-of.ts'

const KIND = 'enrollment_key'
const PREFIX = 'rf_enroll_'
const MAX_HOURS = 24 * 366 * 10

const STATUSES = ['active', 'revoked', 'expired', 'exhausted'] as const
const retrievable = z.boolean().describe('Whether the key can be read again later')

export const keySchema = component(
  'EnrollmentKey',
  z.object({
    ...credentialFields,
    retrievable,
    key_value: z.string().nullable().describe('Null where the caller may not read it, or nobody can'),
    setup_command: z.string().nullable().describe('What to run on a robot; null where key_value is'),
    status: z.enum(STATUSES),
    max_uses: z.number().int(),
  }),
)
type Key = z.infer<typeof keySchema>

const revokedKeySchema = component('RevokedEnrollmentKey', keySchema.extend(revokedFields))

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
  ...newPolicies,
  retrievable: retrievable.default(true),
})

const reveal = z
  .enum(['true', 'false'])
  .default('true')
  .transform((text) => text === 'true')
  .describe('`false`: without the values of keys, so that none counts as revealed')

function toKey(row: CredentialRow, value: string | null, server: string): Key {
  return {
    ...toCredentialFields(row, PREFIX),
    retrievable: row.secret_sealed !== null,
    key_value: value,
    setup_command: value === null ? null : setupCommand(server, '--enrollment-key', value),
    // Only what revokes itself is ever consumed.
    status: row.status as Key['status'],
    max_uses: row.max_uses!,
  }
}

/**
 * How keys are shown to one caller: with their value when it is wanted, the caller may read it and it can be read. Who
 * read which is written into the audit log.
 */
function showFor({ audit, clock, config, seal, log }: HttpParts, request: FastifyRequest, isWanted = true) {
  const principal = principalOf(request)
  const { authority } = principal
  const server = publicUrl(config, request)
  return (row: CredentialRow): Key => {
    const place = { siteId: row.site_id, fleetId: row.fleet_id }
    if (!isWanted || row.secret_sealed === null || !authority.covers('enrollment-keys:reveal', place))
      return toKey(row, null, server)
    try {
      const value = seal.open(row.secret_sealed, sealContext('enrollment_keys', row.id))
      audit.used({
        ...useOf(principal, request.ip, clock.now()),
        ...place,
        deed: {
          action: 'enrollment_key.revealed',
          target: { kind: 'enrollment_key', id: row.id, name: row.name },
        },
      })
      return toKey(row, value, server)
    } catch (err) {
      log.warn({ err, credential_id: row.id }, 'an enrollment key cannot be read')
      return toKey(row, null, server)
    }
  }
}

export function enrollmentKeyRoutes(app: App, parts: HttpParts): void {
  const { config, database, random, seal } = parts

  app.route({
    method: 'POST',
    url: '/api/enrollment-keys',
    config: {
      scope: 'enrollment-keys:write',
      on: 'body',
      audit: ['enrollment_key.created'],
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
        await renewCaller(transaction, request)
        await demandFleetInSite(transaction, principalOf(request), 'enrollment-keys:write', {
          siteId: body.site_id,
          fleetId: body.fleet_id,
        })
        const keyId = newId()
        const value = mintEnrollmentKey((count) => random.bytes(count))
        const row = await insertCredential(transaction, {
          id: keyId,
          kind: KIND,
          secretHash: hashToken(value),
          secretSealed: body.retrievable ? seal.seal(value, sealContext('enrollment_keys', keyId)) : null,
          lastFour: describeToken(value).last_four,
          name: body.name,
          siteId: body.site_id,
          fleetId: body.fleet_id,
          maxUses: body.max_uses,
          singleUse: false,
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
        const deed = credentialDeed(KIND, 'created', row, {
          ...policiesOf(row),
          retrievable: body.retrievable,
        })
        const audit = [audited(request, parts, deed)]
        const answer = { status: 201, body: toKey(row, value, server), audit } as const
        return body.retrievable ? answer : { ...answer, kept: toKey(row, null, server) }
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/enrollment-keys',
    config: { scope: 'enrollment-keys:read', on: 'listed' },
    schema: {
      operationId: 'listEnrollmentKeys',
      summary: 'List enrollment keys',
      description:
        'With their values where the caller may read them, each of which the audit log has as revealed, unless `reveal` is `false`.',
      tags: ['Enrollment keys'],
      querystring: listQuery(z.enum(STATUSES)).extend({ reveal }),
      response: { 200: listOf(keySchema) },
    },
    handler: (request) => {
      const { reveal, ...query } = request.query
      return pageOfCredentials(parts, request, KIND, query, showFor(parts, request, reveal))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/enrollment-keys/:id',
    config: { scope: 'enrollment-keys:read', on: 'enrollment_key' },
    schema: {
      operationId: 'getEnrollmentKey',
      summary: 'Get an enrollment key',
      description:
        'With its value where the caller may read it, which the audit log has as revealed, unless `reveal` is `false`.',
      tags: ['Enrollment keys'],
      params: byId,
      querystring: z.strictObject({ reveal }),
      response: { 200: keySchema },
    },
    handler: async (request) => {
      const row = foundCredential(KIND, await findCredential(database, KIND, request.params.id))
      return showFor(parts, request, request.query.reveal)(row)
    },
  })

  app.route({
    method: 'GET',
    url: '/api/enrollment-keys/:id/robots',
    config: { scope: 'enrollment-keys:read', on: 'enrollment_key' },
    schema: {
      operationId: 'listRobotsOfEnrollmentKey',
      summary: 'List the robots that hang on an enrollment key',
      description:
        'Those that it admitted and those whose token came with it, as far as the caller may see them, by name.',
      tags: ['Enrollment keys'],
      params: byId,
      querystring: z.strictObject({ limit: limit(), cursor }),
      response: { 200: listOf(robotSchema) },
    },
    handler: async (request) => {
      const { id } = foundCredential(KIND, await findCredential(database, KIND, request.params.id))
      return robotsOfCredential(database, request, id, request.query)
    },
  })

  app.route({
    method: 'POST',
    url: '/api/enrollment-keys/:id/revoke',
    config: {
      scope: 'enrollment-keys:write',
      on: 'enrollment_key',
      audit: ['enrollment_key.revoked', 'robot.token_revoked'],
    },
    schema: {
      operationId: 'revokeEnrollmentKey',
      summary: 'Revoke an enrollment key',
      description:
        'Later claims are refused. Robots that it admitted keep their tokens, unless `cascade` says otherwise, for which `robots:write` is needed, too. Revoking it again is no error.',
      tags: ['Enrollment keys'],
      headers: idempotencyHeaders,
      params: byId,
      body: revokeBody,
      response: { 200: revokedKeySchema },
    },
    // Who revokes a key does not ask to read it.
    handler: (request, reply) => revoking(parts, request, reply, KIND, showFor(parts, request, false)),
  })
}
