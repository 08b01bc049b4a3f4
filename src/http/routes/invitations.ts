import { z } from 'zod'
import { Authority } from '../../access/authority.ts'
import { mayAnswerFor } from '../../access/people.ts'
import { rolesAt } from '../../access/principal.ts'
import { isScope } from '../../access/scopes.ts'
import { weakness } from '../../access/sign-in/passwords.ts'
import { insertAudit } from '../../db/audit.ts'
import type { Database } from '../../db/database.ts'
import { acceptInvitation, findInvitation, findInviter } from '../../db/invitations.ts'
import { lockSigner, setPassword } from '../../db/sign-in.ts'
import { endSignIns } from '../../db/sign-ins.ts'
import { inTransaction } from '../../db/transaction.ts'
import { findUser, lockPeople, updateUser } from '../../db/users.ts'
import { BeaconError } from '../../errors.ts'
import { hashToken } from '../../protocol/tokens.ts'
import { demandOwnPage } from '../own-page.ts'
import type { App, HttpParts } from '../parts.ts'
import { id, name } from '../schemas.ts'
import { signInEntry } from '../sign-in-entry.ts'
import { invalidRequest } from '../validation.ts'

const TOKEN = /^rf_invite_[0-9a-f]{64}$/

/** Coming in by an invitation. */
export function invitationRoutes(app: App, parts: HttpParts): void {
  const { config, database, bus, signIn, audit } = parts

  app.route({
    method: 'POST',
    url: '/api/invitations/accept',
    config: {
      scope: 'public',
      audit: ['user.invitation_accepted', 'user.invitation_refused'],
      problems: [
        'invitation_invalid',
        'invalid_request',
        'rate_limited',
        'cross_site_request',
        'overloaded',
        'database_unavailable',
      ],
    },
    schema: {
      operationId: 'acceptInvitation',
      summary: 'Accept an invitation and choose a password; it works once',
      description:
        'Sessions that there were end; a second factor stays. Then sign in. `password` may be left out where people sign in through an identity provider.',
      tags: ['Sign-in'],
      body: z.strictObject({
        token: z.string().min(1).max(512),
        password: z.string().min(1).max(4096).optional(),
        name: name.optional(),
      }),
      response: { 200: z.object({ user: z.object({ id, name: z.string(), email: z.string().nullable() }) }) },
    },
    handler: async (request) => {
      demandOwnPage(config, request, { silent: true })
      signIn.attempts.address(request.ip)
      const { token, password, name } = request.body
      const hash = hashToken(token)
      const found = TOKEN.test(token) ? await findInvitation(database, hash) : undefined
      if (!found) {
        const entry = { action: 'user.invitation_refused', outcome: 'refused', user: undefined } as const
        audit.refused(signInEntry(request, parts, entry))
        throw new BeaconError('invitation_invalid')
      }
      const detail =
        password === undefined
          ? signIn.oidc
            ? undefined
            : 'is needed'
          : weakness(password, { email: found.email, name: name ?? found.name })
      if (detail !== undefined) throw invalidRequest([{ pointer: '/password', detail }])
      const passwordHash = password === undefined ? undefined : await signIn.passwords.hash(password)
      const user = { id: found.userId, name: name ?? found.name, email: found.email }
      await inTransaction(database, async (transaction) => {
        await lockPeople(transaction)
        await lockSigner(transaction, user.id)
        // Another may have used it meanwhile.
        const accepted = await acceptInvitation(transaction, hash)
        if (!accepted || !(await stillAnswersFor(transaction, accepted.createdBy, user.id)))
          throw new BeaconError('invitation_invalid')
        if (name !== undefined) await updateUser(transaction, user.id, { name })
        if (passwordHash !== undefined) await setPassword(transaction, user.id, passwordHash)
        const ended = await endSignIns(transaction, { userId: user.id })
        const data = {
          invitation_id: accepted.id,
          password_set: passwordHash !== undefined,
          sessions_ended: ended,
        }
        await insertAudit(transaction, [
          signInEntry(request, parts, { action: 'user.invitation_accepted', user, data }),
        ])
      })
      await bus.publish({ type: 'access_changed' })
      return { user }
    },
  })
}

/**
 * Whoever made an invitation knows it, and may have kept it: it is good only while they could make it again. Otherwise
 * somebody who is promoted, or whose inviter was removed or demoted, could be taken over with it.
 */
async function stillAnswersFor(
  transaction: Database,
  inviterId: string | null,
  userId: string,
): Promise<boolean> {
  const inviter = inviterId === null ? undefined : await findInviter(transaction, inviterId)
  const invited = await findUser(transaction, userId)
  if (!inviter || !invited) return false
  const authority = Authority.ofRoles(rolesAt(inviter.roles), inviter.scopes?.filter(isScope) ?? null)
  return mayAnswerFor(authority, rolesAt(invited.roles))
}
