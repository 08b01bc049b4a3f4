import { hasAccessToken, insertAccessToken, lockFirstOwner } from '../db/access-tokens.ts'
import { type AuditEntry, insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { inTransaction } from '../db/transaction.ts'
import { insertMembership, insertUser } from '../db/users.ts'
import { newId } from '../ids.ts'
import { describeToken, hashToken, mintCheckedToken } from '../protocol/tokens.ts'
import type { Clock, Random } from '../runtime.ts'

interface Options {
  /** The token to make the owner's, instead of minting one. */
  readonly adminToken: string | undefined
  readonly random: Random
  readonly clock: Pick<Clock, 'now'>
}

/** The audit log's lines for both: nobody asked for them but the server itself. */
function entries(now: Date, userId: string, tokenId: string, given: boolean): AuditEntry[] {
  const base = {
    at: now,
    outcome: 'ok' as const,
    actor: { kind: 'server' as const, id: null, name: null },
    siteId: null,
    fleetId: null,
    requestId: null,
    address: null,
  }
  return [
    {
      ...base,
      id: newId(),
      action: 'user.created',
      target: { kind: 'user', id: userId, name: 'owner' },
      data: { role: 'owner' },
    },
    {
      ...base,
      id: newId(),
      action: 'access_token.created',
      target: { kind: 'access_token', id: tokenId, name: 'owner' },
      data: { kind: 'personal', user_id: userId, user_name: 'owner', given_by_settings: given },
    },
  ]
}

/**
 * Gives a database without any token its first person, an owner, with a token, once however many servers start together. `token` is
 * there only when it was minted here: the caller has to show it, for nobody can read it again.
 */
export function ensureOwner(
  database: Database,
  { adminToken, random, clock }: Options,
): Promise<{ created: boolean; token?: string }> {
  return inTransaction(database, async (transaction) => {
    await lockFirstOwner(transaction)
    if (await hasAccessToken(transaction)) return { created: false }
    const token = adminToken ?? mintCheckedToken('personal', (count) => random.bytes(count))
    const userId = newId()
    await insertUser(transaction, { id: userId, name: 'owner' })
    await insertMembership(transaction, { id: newId(), user_id: userId, role: 'owner' })
    const tokenId = newId()
    await insertAccessToken(transaction, {
      id: tokenId,
      kind: 'personal',
      user_id: userId,
      name: 'owner',
      token_hash: hashToken(token),
      last_four: describeToken(token).last_four,
    })
    await insertAudit(transaction, entries(new Date(clock.now()), userId, tokenId, adminToken !== undefined))
    return adminToken === undefined ? { created: true, token } : { created: true }
  })
}
