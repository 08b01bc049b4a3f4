import { z } from 'zod'
import { type CredentialRow, findCredential, insertCredential } from '../../db/claim-credentials.ts'
import { violatesReference } from '../../db/references.ts'
import { newId } from '../../ids.ts'
import { describeToken, hashToken, mintProvisioningToken } from '../../protocol/tokens.ts'
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
import { demandFleet, unknownReference } from '../references.ts'
import { robotsOfCredential } from '../robot-list.ts'
import { robotSchema } from '../robot-schema.ts'
import { byId, component, cursor, id, idempotencyHeaders, limit, listOf, name } from '../schemas.ts'
import { setupCommand } from '../setup-command.ts'

const KIND = 'provisioning_token'
const PREFIX = 'apt_'
const MAX_DAYS = 366 * 10
const DAY_SECONDS = 24 * 3600

const STATUSES = ['active', 'revoked', 'expired', 'consumed'] as const

export const tokenSchema = component(
  'ProvisioningToken',
  z.object({
    ...credentialFields,
    single_use: z.boolean().describe('Revokes itself with the first robot'),
    status: z.enum(STATUSES),
  }),
)
type Token = z.infer<typeof tokenSchema>

export const madeTokenSchema = component(
  'NewProvisioningToken',
  tokenSchema.extend({
    token: z.string().nullable().describe('Only here, and only once: null when the request is repeated'),
    setup_command: z.string().nullable().describe('What to run on a robot; null where token is'),
  }),
)

type Made = z.infer<typeof madeTokenSchema>

const revokedTokenSchema = component('RevokedProvisioningToken', tokenSchema.extend(revokedFields))

const newTokenSchema = z.strictObject({
  name,
  fleet_id: id,
  expires_in_days: z
    .number()
    .positive()
    .max(MAX_DAYS)
    .nullable()
    .default(30)
    .describe('Null: it never expires'),
  single_use: z.boolean().default(false),
  ...newPolicies,
})

function toToken(row: CredentialRow): Token {
  return {
    ...toCredentialFields(row, PREFIX),
    single_use: row.single_use,
    // Without a number of uses none is ever exhausted.
    status: row.status as Token['status'],
  }
}

export function provisioningTokenRoutes(app: App, parts: HttpParts): void {
  const { config, database, random } = parts

  app.route({
    method: 'POST',
    url: '/api/provisioning-tokens',
    config: {
      scope: 'enrollment-keys:write',
      on: 'body',
      audit: ['provisioning_token.created'],
      problems: ['unknown_reference'],
    },
    schema: {
      operationId: 'createProvisioningToken',
      summary: 'Create a provisioning token for a fleet',
      description:
        'It admits any number of robots, or with `single_use` one. Nobody can read it again: the answer holds it, and the command that enrols a robot with it.',
      tags: ['Provisioning tokens'],
      headers: idempotencyHeaders,
      body: newTokenSchema,
      response: { 201: madeTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { body } = request
        await renewCaller(transaction, request)
        const principal = principalOf(request)
        const fleet = await demandFleet(transaction, principal, 'enrollment-keys:write', body.fleet_id)
        const token = mintProvisioningToken((count) => random.bytes(count))
        const row = await insertCredential(transaction, {
          id: newId(),
          kind: KIND,
          secretHash: hashToken(token),
          secretSealed: null,
          lastFour: describeToken(token).last_four,
          name: body.name,
          siteId: fleet.site_id,
          fleetId: fleet.id,
          maxUses: null,
          singleUse: body.single_use,
          labels: body.labels,
          allowedCidrs: body.allowed_cidrs,
          requireApproval: body.require_approval,
          onExisting: body.on_existing,
          createdBy: principal.id,
          expiresInSeconds: body.expires_in_days === null ? null : body.expires_in_days * DAY_SECONDS,
        }).catch((error: unknown) => {
          throw violatesReference(error) ? unknownReference('/fleet_id', 'fleet', error) : error
        })
        const shown = toToken(row)
        const made: Made = {
          ...shown,
          token,
          setup_command: setupCommand(publicUrl(config, request), '--enrollment-key', token),
        }
        return {
          status: 201,
          body: made,
          kept: { ...shown, token: null, setup_command: null },
          audit: [audited(request, parts, credentialDeed(KIND, 'created', row, policiesOf(row)))],
        }
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/provisioning-tokens',
    config: { scope: 'enrollment-keys:read', on: 'listed' },
    schema: {
      operationId: 'listProvisioningTokens',
      summary: 'List provisioning tokens',
      tags: ['Provisioning tokens'],
      querystring: listQuery(z.enum(STATUSES)),
      response: { 200: listOf(tokenSchema) },
    },
    handler: (request) => pageOfCredentials(parts, request, KIND, request.query, toToken),
  })

  app.route({
    method: 'GET',
    url: '/api/provisioning-tokens/:id',
    config: { scope: 'enrollment-keys:read', on: 'provisioning_token' },
    schema: {
      operationId: 'getProvisioningToken',
      summary: 'Get a provisioning token',
      tags: ['Provisioning tokens'],
      params: byId,
      response: { 200: tokenSchema },
    },
    handler: async ({ params }) =>
      toToken(foundCredential(KIND, await findCredential(database, KIND, params.id))),
  })

  app.route({
    method: 'GET',
    url: '/api/provisioning-tokens/:id/robots',
    config: { scope: 'enrollment-keys:read', on: 'provisioning_token' },
    schema: {
      operationId: 'listRobotsOfProvisioningToken',
      summary: 'List the robots that hang on a provisioning token',
      description:
        'Those that it admitted and those whose token came with it, as far as the caller may see them, by name.',
      tags: ['Provisioning tokens'],
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
    url: '/api/provisioning-tokens/:id/revoke',
    config: {
      scope: 'enrollment-keys:write',
      on: 'provisioning_token',
      audit: ['provisioning_token.revoked', 'robot.token_revoked'],
    },
    schema: {
      operationId: 'revokeProvisioningToken',
      summary: 'Revoke a provisioning token',
      description:
        'Later claims are refused. Robots that it admitted keep their tokens, unless `cascade` says otherwise, for which `robots:write` is needed, too. Revoking it again is no error.',
      tags: ['Provisioning tokens'],
      headers: idempotencyHeaders,
      params: byId,
      body: revokeBody,
      response: { 200: revokedTokenSchema },
    },
    handler: (request, reply) => revoking(parts, request, reply, KIND, toToken),
  })
}
