import type { FastifyRequest } from 'fastify'
import { standingToMint } from '../access/minting.ts'
import type { Database } from '../db/database.ts'
import { principalOf } from './guard.ts'
import { isScoped, watchJudgement } from './reach.ts'

/**
 * For the start of a transaction that makes something which gives access. From here on the caller is who they are at this
 * moment: one who was revoked meanwhile makes nothing, and what is made is found by whoever revokes everything after it.
 */
export async function renewCaller(transaction: Database, request: FastifyRequest): Promise<void> {
  request.principal = await standingToMint(transaction, principalOf(request))
  request.isJudged = undefined
  const { scope, on } = request.routeOptions.config
  if (isScoped(scope) && (on === 'body' || on === 'listed')) watchJudgement(request, scope)
}
