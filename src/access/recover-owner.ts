import { insertAccessToken } from '../db/access-tokens.ts'
import { insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { withDirectDatabase } from '../db/direct.ts'
import { insertInvitation, revokeInvitations } from '../db/invitations.ts'
import { findSignerByEmail, lockSigner, removeSecondFactor } from '../db/sign-in.ts'
import { endSignIns } from '../db/sign-ins.ts'
import { inTransaction } from '../db/transaction.ts'
import { deleteMembership, insertMembership, insertUser, lockPeople } from '../db/users.ts'
import { newId } from '../ids.ts'
import { describeToken, hashToken, mintCheckedToken } from '../protocol/tokens.ts'
import { type Clock, type Random, systemClock, systemRandom } from '../runtime.ts'

export { DirectError } from '../db/direct.ts'

export interface Recovered {
  readonly userId: string
  readonly isNew: boolean
  /** To be shown once, both. */
  readonly token: string
  readonly invitationToken: string
  readonly expiresAt: Date
}

interface Wanted {
  /** In lower case. */
  readonly email: string
  readonly name: string
}

const DAY_MS = 86_400_000

/**
 * Makes the person with this email an owner, or somebody new, who signs in by an invitation; and gives them a token for
 * one day. A second factor that they had is taken away, for it may be what was lost.
 */
export function makeOwner(
  database: Database,
  { email, name }: Wanted,
  { clock, random }: { clock: Pick<Clock, 'now'>; random: Random },
): Promise<Recovered> {
  return inTransaction(database, async (transaction) => {
    await lockPeople(transaction)
    const known = await findSignerByEmail(transaction, email)
    const user = known ?? { id: newId(), name, email }
    if (known) {
      await lockSigner(transaction, known.id)
      await removeSecondFactor(transaction, known.id)
      await endSignIns(transaction, { userId: known.id })
      await revokeInvitations(transaction, known.id)
      await deleteMembership(transaction, known.id, { siteId: null, fleetId: null })
    } else await insertUser(transaction, { id: user.id, name, email })
    await insertMembership(transaction, { id: newId(), user_id: user.id, role: 'owner' })
    const token = mintCheckedToken('personal', (count) => random.bytes(count))
    const expiresAt = new Date(clock.now() + DAY_MS)
    const tokenId = newId()
    await insertAccessToken(transaction, {
      id: tokenId,
      kind: 'personal',
      user_id: user.id,
      name: 'recovery',
      token_hash: hashToken(token),
      last_four: describeToken(token).last_four,
      expires_at: expiresAt,
    })
    const invitationToken = `rf_invite_${random.bytes(32).toString('hex')}`
    await insertInvitation(transaction, {
      id: newId(),
      userId: user.id,
      tokenHash: hashToken(invitationToken),
      createdBy: user.id,
      days: 1,
    })
    await insertAudit(transaction, [
      {
        id: newId(),
        at: new Date(clock.now()),
        action: 'owner.recovered',
        outcome: 'ok',
        actor: { kind: 'server', id: null, name: 'beacon recover-owner' },
        target: { kind: 'user', id: user.id, name: user.name },
        siteId: null,
        fleetId: null,
        requestId: null,
        address: null,
        data: { new_user: !known, token_id: tokenId },
      },
    ])
    return { userId: user.id, isNew: !known, token, invitationToken, expiresAt }
  })
}

/** As `makeOwner`, in the database that a server with this environment would use. Throws DirectError. */
export function recoverOwner(
  env: Readonly<Record<string, string | undefined>>,
  wanted: Wanted,
): Promise<Recovered> {
  return withDirectDatabase(env, 'beacon recover-owner', (database) =>
    makeOwner(database, wanted, { clock: systemClock, random: systemRandom }),
  )
}
