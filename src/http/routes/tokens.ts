import { z } from 'zod'
import { scopesOf } from '../../access/minting.ts'
import { type Principal, rolesAt } from '../../access/principal.ts'
import type { Database } from '../../db/database.ts'
import { type HeldToken, listTokens, type TokenHolders } from '../../db/token-list.ts'
import { BeaconError } from '../../errors.ts'
import { principalOf } from '../guard.ts'
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

const listQuery = z.strictObject({
  user: id.optional().describe('Of this person, where the caller manages them'),
  all: z.stringbool().optional().describe('Of everybody whom the caller manages, and their own'),
  ...tokenListQuery,
})

/** Makes, changes and takes away tokens: somebody who is signed in, or a token that was given that. */
function managesOwn({ kind, authority }: Principal): boolean {
  return kind === 'session' || authority.holds('tokens:manage')
}

function demandManagesOwn(principal: Principal): void {
  if (managesOwn(principal)) return
  throw new BeaconError('insufficient_scope', 'the scope tokens:manage is needed, or to be signed in')
}

const isSelf = ({ kind, id }: Principal, row: HeldToken) => kind !== 'session' && row.id === id
const isOwn = ({ userId }: Principal, row: HeldToken) => row.kind === 'personal' && row.user_id === userId

/** A personal token that the caller may see: their own, or one of somebody whom they manage. */
async function demandSeen(database: Database, principal: Principal, tokenId: string): Promise<HeldToken> {
  const row = await demandToken(database, tokenId)
  const { authority } = principal
  const seen = row.kind === 'personal' && (isOwn(principal, row) || authority.seesRolesOf(rolesAt(row.roles)))
  if (!seen) throw new BeaconError('not_found', 'there is no such token')
  return row
}

function holdersOf(
  principal: Principal,
  query: { user?: string | undefined; all?: boolean | undefined },
): TokenHolders {
  const self = principal.userId!
  if (query.user === undefined && !query.all) return { userId: self }
  if (query.user === self) return { userId: self }
  if (!principal.authority.holds('users:manage'))
    throw new BeaconError('insufficient_scope', 'the scope users:manage is needed for the tokens of others')
  return { managedFrom: principal.authority.reach('users:manage'), self, only: query.user }
}

/** Tokens of people. One makes and rotates one’s own alone: nobody speaks in the name of another. */
export function tokenRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'POST',
    url: '/api/tokens',
    config: { scope: 'person', audit: ['access_token.created'], problems: ['exceeds_own_rights'] },
    schema: {
      operationId: 'createToken',
      summary: 'Make a personal token of one’s own',
      description:
        'The answer holds the token, once. It never does more than its owner may at that moment, cut down by its scopes. It ends after 90 days unless told otherwise.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      body: mintBody.personal,
      response: { 201: newTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, (transaction) => {
        demandManagesOwn(principalOf(request))
        return mintToken(transaction, request, parts, request.body, {
          scopesHeld(now) {
            demandManagesOwn(now)
            return scopesOf(now)
          },
        })
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/tokens',
    config: { scope: 'person' },
    schema: {
      operationId: 'listTokens',
      summary: 'List personal tokens',
      description:
        'One’s own; with `user` or `all` those of people whom the caller manages: `users:manage` at every place where they have a role.',
      tags: ['Tokens'],
      querystring: listQuery,
      response: { 200: listOf(tokenSchema) },
    },
    handler: (request) => {
      const { query } = request
      const holders = holdersOf(principalOf(request), query)
      return tokenPage(query, (page) => listTokens(database, { holders, status: query.status }, page))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/tokens/self',
    config: { scope: 'self' },
    schema: {
      operationId: 'getOwnToken',
      summary: 'Get the token that asks',
      tags: ['Tokens'],
      response: { 200: tokenSchema },
    },
    handler: async (request) => toToken(await demandToken(database, principalOf(request).id)),
  })

  app.route({
    method: 'POST',
    url: '/api/tokens/self/rotate',
    config: {
      scope: 'self',
      audit: ['access_token.rotated'],
      problems: ['exceeds_own_rights', 'token_not_active'],
    },
    schema: {
      operationId: 'rotateOwnToken',
      summary: 'Replace the token that asks',
      description:
        'For programs, also with a fleet’s token. The new one has the same bounds and lives as long as the old one was made to.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      body: rotateBody,
      response: { 201: rotatedTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, (transaction) =>
        rotate(transaction, request, parts, principalOf(request).id, () => {}),
      ),
  })

  app.route({
    method: 'POST',
    url: '/api/tokens/self/revoke',
    config: { scope: 'self', audit: ['access_token.revoked'] },
    schema: {
      operationId: 'revokeOwnToken',
      summary: 'Revoke the token that asks',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      body: noBody,
      response: { 200: tokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, (transaction) =>
        revoke(transaction, request, parts, principalOf(request).id),
      ),
  })

  app.route({
    method: 'GET',
    url: '/api/tokens/:id',
    config: { scope: 'person' },
    schema: {
      operationId: 'getToken',
      summary: 'Get a personal token',
      tags: ['Tokens'],
      params: byId,
      response: { 200: tokenSchema },
    },
    handler: async (request) => toToken(await demandSeen(database, principalOf(request), request.params.id)),
  })

  app.route({
    method: 'POST',
    url: '/api/tokens/:id/revoke',
    config: { scope: 'person', audit: ['access_token.revoked'] },
    schema: {
      operationId: 'revokeToken',
      summary: 'Revoke a personal token',
      description:
        'One’s own, or that of somebody whom the caller manages. Its next request is refused, and what goes on with it ends. A token that took its place, `replaced_by`, stays. Revoking it again is no error.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      params: byId,
      body: noBody,
      response: { 200: tokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const principal = principalOf(request)
        const row = await demandSeen(transaction, principal, request.params.id)
        const may =
          isSelf(principal, row) ||
          (isOwn(principal, row) && managesOwn(principal)) ||
          principal.authority.manages(rolesAt(row.roles))
        if (!may) throw new BeaconError('insufficient_scope', 'this token is not yours to revoke')
        return revoke(transaction, request, parts, row.id)
      }),
  })

  app.route({
    method: 'POST',
    url: '/api/tokens/:id/rotate',
    config: {
      scope: 'person',
      audit: ['access_token.rotated'],
      problems: ['exceeds_own_rights', 'token_not_active'],
    },
    schema: {
      operationId: 'rotateToken',
      summary: 'Replace a personal token of one’s own',
      description:
        'The answer holds the new token, once: with the same bounds, and to live as long as the old one was made to unless told otherwise. The old one works for another day unless told otherwise.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      params: byId,
      body: rotateBody,
      response: { 201: rotatedTokenSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        await demandSeen(transaction, principalOf(request), request.params.id)
        return rotate(transaction, request, parts, request.params.id, (now, row) => {
          if (!isOwn(now, row))
            throw new BeaconError('insufficient_scope', 'nobody takes the token of another person')
          if (!isSelf(now, row)) demandManagesOwn(now)
        })
      }),
  })
}
