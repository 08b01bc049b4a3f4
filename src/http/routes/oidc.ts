import { z } from 'zod'
import { flowSchema, type ProvidedPerson } from '../../access/sign-in/oidc.ts'
import { insertAudit } from '../../db/audit.ts'
import type { Database } from '../../db/database.ts'
import { revokeInvitations } from '../../db/invitations.ts'
import { sealContext } from '../../db/sealed.ts'
import { bindIdentity, type FoundSigner, findSignerByEmail, findSignerByIdentity } from '../../db/sign-in.ts'
import { endSignIn } from '../../db/sign-ins.ts'
import { inTransaction } from '../../db/transaction.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { beginSession, foundSession } from '../browser-sessions.ts'
import type { App, HttpParts } from '../parts.ts'
import { publicUrl } from '../public-url.ts'
import { signInEntry } from '../sign-in-entry.ts'

const CALLBACK = '/api/sign-in/oidc/callback'
const PROBLEMS = [
  'not_found',
  'sign_in_failed',
  'rate_limited',
  'identity_provider_failed',
  'overloaded',
  'database_unavailable',
] as const

/** Signing in through an identity provider. Nobody comes in who was not invited. */
export function oidcRoutes(app: App, parts: HttpParts): void {
  const { config, database, seal, signIn, audit } = parts

  app.route({
    method: 'GET',
    url: '/api/sign-in/oidc',
    config: { scope: 'public', withCookie: true, problems: PROBLEMS },
    schema: {
      operationId: 'startOidcSignIn',
      summary: 'Go to the identity provider',
      description: 'For browsers. Whoever is signed in already is sent to the page at once.',
      tags: ['Sign-in'],
      response: { 302: z.undefined().describe('To the identity provider') },
    },
    handler: async (request, reply) => {
      if (!signIn.oidc) throw new BeaconError('not_found', 'no identity provider is set up here')
      const page = publicUrl(config, request)
      // A link on another site must not end anybody's session.
      if (foundSession(request)?.stage === 'signed_in') return reply.redirect(`${page}/`)
      signIn.attempts.address(request.ip)
      const { url, flow } = await signIn.oidc.start(page + CALLBACK)
      const id = newId()
      await beginSession(request, {
        id,
        stage: 'oidc',
        user: undefined,
        method: 'oidc',
        secondFactor: false,
        flowSealed: seal.seal(JSON.stringify(flow), sealContext('sign_ins', id)),
        audit: [],
      })
      return reply.redirect(url)
    },
  })

  app.route({
    method: 'GET',
    url: CALLBACK,
    config: {
      scope: 'public',
      withCookie: true,
      audit: ['sign_in.succeeded', 'sign_in.second_factor_asked', 'sign_in.failed', 'identity.bound'],
      problems: PROBLEMS,
    },
    schema: {
      operationId: 'finishOidcSignIn',
      summary: 'Come back from the identity provider',
      description: 'For browsers; works once for each start, and only in the browser that started.',
      tags: ['Sign-in'],
      querystring: z.looseObject({}),
      response: { 302: z.undefined().describe('To the page; with `#second-factor` where one is asked for') },
    },
    handler: async (request, reply) => {
      if (!signIn.oidc) throw new BeaconError('not_found', 'no identity provider is set up here')
      signIn.attempts.address(request.ip)
      const refuse = (reason: string, user?: FoundSigner) =>
        audit.refused(
          signInEntry(request, parts, {
            action: 'sign_in.failed',
            outcome: 'refused',
            user,
            data: { method: 'oidc', reason },
          }),
        )
      const found = foundSession(request)
      // Taken before anything else is done, so that it is there for one answer only.
      if (
        found?.stage !== 'oidc' ||
        !found.flowSealed ||
        !(await endSignIn(database, { openId: found.id }))
      ) {
        refuse('no_flow')
        throw new BeaconError('sign_in_failed', 'no sign-in was started in this browser, or it took too long')
      }
      const flow = flowSchema.parse(
        JSON.parse(seal.open(found.flowSealed, sealContext('sign_ins', found.id))),
      )
      const query = /\?.*/s.exec(request.raw.url ?? '')?.[0] ?? ''
      const person = await signIn.oidc.finish(query, flow).catch((error: unknown) => {
        refuse(error instanceof BeaconError ? error.code : 'error')
        throw error
      })
      const { user, reason, bound } = await inTransaction(database, (transaction) =>
        whoIs(transaction, person, (bound) =>
          insertAudit(transaction, [
            signInEntry(request, parts, {
              action: 'identity.bound',
              user: bound,
              data: { issuer: person.issuer },
            }),
          ]),
        ),
      )
      if (!user) {
        refuse(reason, bound)
        throw new BeaconError(
          'sign_in_failed',
          'nobody was invited here with that identity and a verified email',
        )
      }
      const asked = user.hasSecondFactor && !person.secondFactor
      const data = { method: 'oidc', ...(person.secondFactor ? { second_factor: 'identity_provider' } : {}) }
      await beginSession(request, {
        id: newId(),
        stage: asked ? 'second_factor' : 'signed_in',
        user,
        method: 'oidc',
        secondFactor: person.secondFactor,
        flowSealed: null,
        audit: [
          signInEntry(request, parts, {
            action: asked ? 'sign_in.second_factor_asked' : 'sign_in.succeeded',
            user,
            data,
          }),
        ],
      })
      return reply.redirect(`${publicUrl(config, request)}/${asked ? '#second-factor' : ''}`)
    },
  })
}

interface Verdict {
  readonly user?: FoundSigner
  /** Why not, for the audit log. */
  readonly reason: string
  /** Whom the email belongs to that did not suffice. */
  readonly bound?: FoundSigner
}

/**
 * Whom the identity belongs to. One that was never seen belongs to whoever was invited with its verified email, and from
 * then on to them alone: the email counts no more.
 */
async function whoIs(
  transaction: Database,
  person: ProvidedPerson,
  onBound: (user: FoundSigner) => Promise<void>,
): Promise<Verdict> {
  const known = await findSignerByIdentity(transaction, person)
  if (known) return { user: known, reason: '' }
  if (person.email === undefined) return { reason: 'no_email' }
  const invited = await findSignerByEmail(transaction, person.email)
  if (!invited) return { reason: 'not_invited' }
  if (!person.emailVerified) return { reason: 'email_not_verified', bound: invited }
  if (!(await bindIdentity(transaction, invited.id, person)))
    return { reason: 'other_identity', bound: invited }
  await revokeInvitations(transaction, invited.id)
  await onBound(invited)
  return { user: invited, reason: '' }
}
