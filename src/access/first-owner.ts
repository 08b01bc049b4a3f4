import { hasAccessToken, insertAccessToken, lockFirstOwner } from '../db/access-tokens.ts'
import type { Database } from '../db/database.ts'
import { inTransaction } from '../db/transaction.ts'
import { insertMembership, insertUser } from '../db/users.ts'
import { newId } from '../ids.ts'
import { describeToken, hashToken, mintCheckedToken } from '../protocol/tokens.ts'
import type { Random } from '../runtime.ts'

interface Options {
  /** The token to make the owner's, instead of minting one. */
  readonly adminToken: string | undefined
  readonly random: Random
}

/**
 * Gives a database without any token its first person, an owner, with a token, once however many servers start together. `token` is
 * there only when it was minted here: the caller has to show it, for nobody can read it again.
 */
export function ensureOwner(
  database: Database,
  { adminToken, random }: Options,
): Promise<{ created: boolean; token?: string }> {
  return inTransaction(database, async (transaction) => {
    await lockFirstOwner(transaction)
    if (await hasAccessToken(transaction)) return { created: false }
    const token = adminToken ?? mintCheckedToken('personal', (count) => random.bytes(count))
    const userId = newId()
    await insertUser(transaction, { id: userId, name: 'owner' })
    await insertMembership(transaction, { id: newId(), user_id: userId, role: 'owner' })
    await insertAccessToken(transaction, {
      id: newId(),
      kind: 'personal',
      user_id: userId,
      name: 'owner',
      token_hash: hashToken(token),
      last_four: describeToken(token).last_four,
    })
    return adminToken === undefined ? { created: true, token } : { created: true }
  })
}
