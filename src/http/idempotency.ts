import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Authority, DEPLOYMENT, type Place } from '../access/authority.ts'
import type { Scope } from '../access/scopes.ts'
import type { BusMessage } from '../bus/bus.ts'
import type { AuditEntry } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { findAnswer, keepAnswer, type RequestName, tryLockRequest } from '../db/idempotent-requests.ts'
import { sealContext } from '../db/sealed.ts'
import { inTransaction } from '../db/transaction.ts'
import { BeaconError } from '../errors.ts'
import { closeChange } from './changing.ts'
import { principalOf } from './guard.ts'
import type { HttpParts } from './parts.ts'

/** What a POST came to. */
export interface Answer<Body> {
  readonly status: 200 | 201
  readonly body: Body
  /** What a repetition is answered with, where that is not the body: a secret that nobody may read again. */
  readonly kept?: Body
  /** Told to all servers once the work is in the database. */
  readonly messages?: readonly BusMessage[]
  /** Written into the audit log in the same transaction, after everything else. */
  readonly audit?: readonly AuditEntry[]
}

type Parts = Pick<HttpParts, 'database' | 'bus' | 'seal'>

/**
 * Carries out a POST in one transaction. With an `Idempotency-Key` the answer is kept in the same transaction, so
 * that the request sent again, by the same principal within a day, gets it back and has no second effect. Refusals
 * are not kept: they changed nothing. Who may do less than then gets no answer of then. A repetition tells the other servers again, for the first may have died
 * between its commit and the telling. Returns the body; the reply has its status already.
 */
export async function idempotently<Body>(
  parts: Parts,
  request: FastifyRequest,
  reply: FastifyReply,
  work: (transaction: Database) => Promise<Answer<Body>>,
): Promise<Body> {
  const key = request.headers['idempotency-key']
  const closed = async (transaction: Database) => {
    const answer = await work(transaction)
    await closeChange(transaction, request, answer.audit)
    return answer
  }
  const answer =
    typeof key === 'string'
      ? await once(parts, request, key, work)
      : { ...(await inTransaction(parts.database, closed)), replayed: false }
  for (const message of answer.messages ?? []) await parts.bus.publish(message)
  if (answer.replayed) reply.header('idempotency-replayed', 'true')
  reply.code(answer.status)
  return answer.body
}

function requestHash(request: FastifyRequest): Buffer {
  const [path] = request.url.split('?', 1)
  return createHash('sha256')
    .update(JSON.stringify([request.method, path, request.body ?? null]))
    .digest()
}

/** What somebody held, as it is kept with an answer. */
type KeptGrants = readonly { readonly place: Place; readonly scopes: readonly Scope[] }[]

/** Of answers that were kept before rights were: tokens reached everywhere then. */
const GRANTS_BEFORE: KeptGrants = [{ place: DEPLOYMENT, scopes: ['robots:read'] }]

function keptGrants({ grants }: Authority): KeptGrants {
  return grants.map(({ place, scopes }) => ({ place, scopes: [...scopes] }))
}

function once<Body>(
  { database, seal }: Parts,
  request: FastifyRequest,
  key: string,
  work: (transaction: Database) => Promise<Answer<Body>>,
): Promise<Answer<Body> & { replayed: boolean }> {
  const { id: principalId, authority } = principalOf(request)
  const name: RequestName = { principalId, key }
  const hash = requestHash(request)
  const context = sealContext('answers', name.principalId, name.key)
  return inTransaction(database, async (transaction) => {
    if (!(await tryLockRequest(transaction, name)))
      throw new BeaconError('request_in_progress', undefined, { retryAfterSeconds: 1 })
    const before = await findAnswer(transaction, name)
    if (before) {
      if (!before.request_hash.equals(hash)) throw new BeaconError('idempotency_key_reused')
      const {
        grants = GRANTS_BEFORE,
        isOwner = false,
        ...kept
      } = JSON.parse(seal.open(before.body_sealed, context)) as Pick<Answer<Body>, 'body' | 'messages'> & {
        grants?: KeptGrants
        isOwner?: boolean
      }
      // What the answer holds was theirs to see with the rights of then.
      const mayStill = grants.every(({ place, scopes }) => authority.coversAll(scopes, place))
      if (!mayStill || (isOwner && !authority.isOwner))
        throw new BeaconError(
          'insufficient_scope',
          'this was answered before, and you have lost rights since',
        )
      return { ...kept, status: before.status as Answer<Body>['status'], replayed: true }
    }
    const answer = await work(transaction)
    const kept = {
      body: answer.kept ?? answer.body,
      messages: answer.messages,
      grants: keptGrants(authority),
      isOwner: authority.isOwner,
    }
    await keepAnswer(transaction, name, {
      requestHash: hash,
      status: answer.status,
      bodySealed: seal.seal(JSON.stringify(kept), context),
    })
    await closeChange(transaction, request, answer.audit)
    return { ...answer, replayed: false }
  })
}
