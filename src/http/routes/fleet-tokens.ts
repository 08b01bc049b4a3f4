import { z } from 'zod'
import type { Place } from '../../access/authority.ts'
import { fleetScopesOf } from '../../access/minting.ts'
import { demandScope } from '../../access/principal.ts'
import type { Database } from '../../db/database.ts'
import { findFleet } from '../../db/fleets.ts'
import { type HeldToken, listTokens } from '../../db/token-list.ts'
import { BeaconError } from '../../errors.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { byId, id, idempotencyHeaders, listOf, noBody } from '../schemas.ts'
import { demandToken, mintToken, revoke, rotate } from '../token-desk.ts'
import {
  mintBody,
  newTokenSchema,
  rotateBody,
  rotatedTokenSchema,
  tokenListQuery,
  tokenPage,
  tokenSchema,
  toToken,
} from '../token-schema.ts'

const byBoth = z.object({ id, token_id: id })

async function demandFleetPlace(database: Database, fleetId: string): Promise<Place> {
  const fleet = await findFleet(database, fleetId)
  if (!fleet) throw new BeaconError('not_found', 'there is no such fleet')
  return { siteId: fleet.site_id, fleetId: fleet.id }
}

async function demandTokenOf(database: Database, fleetId: string, tokenId: string): Promise<HeldToken> {
  const row = await demandToken(database, tokenId)
  if (row.kind !== 'fleet' || row.fleet_id !== fleetId)
    throw new BeaconError('not_found', 'the fleet has no such token')
  return row
}

/** Tokens of fleets: they belong to nobody, and stay when whoever made them goes. */
export function fleetTokenRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'POST',
    url: '/api/fleets/:id/tokens',
    config: {
      scope: 'tokens:manage',
      on: 'fleet',
      audit: ['access_token.created'],
      problems: ['exceeds_own_rights'],
    },
    schema: {
      operationId: 'createFleetToken',
      summary: 'Make a token of a fleet',
      description:
        'The answer holds the token, once. It reaches this fleet alone, can make neither people nor tokens, and stays when whoever made it goes. It ends after 90 days unless told otherwise.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      params: byId,
      body: mintBody.fleet,
      response: { 201: newTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const fleet = await demandFleetPlace(transaction, request.params.id)
        return mintToken(transaction, request, parts, request.body, {
          fleet,
          scopesHeld(now) {
            demandScope(now, 'tokens:manage', fleet)
            return fleetScopesOf(now, fleet)
          },
        })
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/fleets/:id/tokens',
    config: { scope: 'tokens:manage', on: 'fleet' },
    schema: {
      operationId: 'listFleetTokens',
      summary: 'List the tokens of a fleet',
      tags: ['Tokens'],
      params: byId,
      querystring: z.strictObject(tokenListQuery),
      response: { 200: listOf(tokenSchema) },
    },
    handler: async ({ params, query }) => {
      await demandFleetPlace(database, params.id)
      const filter = { holders: { fleetId: params.id }, status: query.status }
      return tokenPage(query, (page) => listTokens(database, filter, page))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/fleets/:id/tokens/:token_id',
    config: { scope: 'tokens:manage', on: 'fleet' },
    schema: {
      operationId: 'getFleetToken',
      summary: 'Get a token of a fleet',
      tags: ['Tokens'],
      params: byBoth,
      response: { 200: tokenSchema },
    },
    handler: async ({ params }) => toToken(await demandTokenOf(database, params.id, params.token_id)),
  })

  app.route({
    method: 'POST',
    url: '/api/fleets/:id/tokens/:token_id/revoke',
    config: { scope: 'tokens:manage', on: 'fleet', audit: ['access_token.revoked'] },
    schema: {
      operationId: 'revokeFleetToken',
      summary: 'Revoke a token of a fleet',
      description:
        'Its next request is refused, and what goes on with it ends. A token that took its place, `replaced_by`, stays. Revoking it again is no error.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      params: byBoth,
      body: noBody,
      response: { 200: tokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const row = await demandTokenOf(transaction, request.params.id, request.params.token_id)
        return revoke(transaction, request, parts, row.id)
      }),
  })

  app.route({
    method: 'POST',
    url: '/api/fleets/:id/tokens/:token_id/rotate',
    config: {
      scope: 'tokens:manage',
      on: 'fleet',
      audit: ['access_token.rotated'],
      problems: ['exceeds_own_rights', 'token_not_active'],
    },
    schema: {
      operationId: 'rotateFleetToken',
      summary: 'Replace a token of a fleet',
      description:
        'The answer holds the new token, once: with the same bounds, and to live as long as the old one was made to unless told otherwise. The old one works for another day unless told otherwise. The caller has to hold what it is good for.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      params: byBoth,
      body: rotateBody,
      response: { 201: rotatedTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { id, token_id } = request.params
        await demandTokenOf(transaction, id, token_id)
        return rotate(transaction, request, parts, token_id, (now, row) =>
          demandScope(now, 'tokens:manage', { siteId: row.site_id, fleetId: row.fleet_id }),
        )
      }),
  })
}
