import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Attempt } from '../../access/sign-in/attempts.ts'
import { MAX_PASSWORD_BYTES } from '../../access/sign-in/passwords.ts'
import { type FoundSigner, findSigner, findSignerByEmail, replaceHash } from '../../db/sign-in.ts'
import { countFailure, endSignIn, endSignIns } from '../../db/sign-ins.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { audited } from '../audited.ts'
import { beginSession, dropCookie, foundSession } from '../browser-sessions.ts'
import { changing } from '../changing.ts'
import { demandOwnPage } from '../own-page.ts'
import type { App, HttpParts } from '../parts.ts'
import { component } from '../schemas.ts'
import { proofSchema, sessionOf } from '../session-holder.ts'
import { signInEntry } from '../sign-in-entry.ts'

/** Wrong second factors, after which the password is asked for again. */
const CODES_PER_SIGN_IN = 5

const stepSchema = component(
  'SignInStep',
  z.object({
    signed_in: z.boolean(),
    second_factor: z
      .literal('required')
      .nullable()
      .describe('`required`: the password was right, and POST /api/sign-in/second-factor comes next'),
  }),
)
const DONE = { signed_in: true, second_factor: null } as const
const WAITS = { signed_in: false, second_factor: 'required' } as const

/** Refusals of every step. */
const STEP_PROBLEMS = [
  'sign_in_failed',
  'rate_limited',
  'cross_site_request',
  'overloaded',
  'database_unavailable',
] as const

/** How emails are kept and compared. */
export const emailKey = (text: string) => text.trim().normalize('NFC').toLowerCase()

/** Signing in with a password and a second factor, and out again. */
export function signInRoutes(app: App, parts: HttpParts): void {
  const { config, database, signIn, audit } = parts

  function refused(request: FastifyRequest, user: FoundSigner | undefined, reason: string): void {
    audit.refused(
      signInEntry(request, parts, { action: 'sign_in.failed', outcome: 'refused', user, data: { reason } }),
    )
  }

  /** Begins an attempt; one that has to wait is told so, and written down. */
  function attempt(request: FastifyRequest, account: string, user: FoundSigner | undefined): Attempt {
    try {
      return signIn.attempts.begin(account, request.ip, user?.knownFrom ?? [])
    } catch (error) {
      refused(request, user, 'too_many_attempts')
      throw error
    }
  }

  /** What the judge says; an attempt that could not be judged does not count. */
  async function judged(made: Attempt, judge: () => Promise<boolean>): Promise<boolean> {
    try {
      const right = await judge()
      if (right) made.succeeded()
      return right
    } catch (error) {
      made.withdrawn()
      throw error
    }
  }

  app.route({
    method: 'GET',
    url: '/api/sign-in',
    config: { scope: 'public', withCookie: true, problems: ['database_unavailable'] },
    schema: {
      operationId: 'getSignIn',
      summary: 'How one can sign in here, and whether this browser is half-way',
      tags: ['Sign-in'],
      response: {
        200: z.object({
          password: z.literal(true),
          oidc: z.boolean().describe('GET /api/sign-in/oidc leads to an identity provider'),
          second_factor: z
            .literal('required')
            .nullable()
            .describe('`required`: this browser is asked for one'),
        }),
      },
    },
    handler: async (request) => ({
      password: true as const,
      oidc: signIn.oidc !== undefined,
      second_factor: foundSession(request)?.stage === 'second_factor' ? ('required' as const) : null,
    }),
  })

  app.route({
    method: 'POST',
    url: '/api/sign-in',
    config: {
      scope: 'public',
      withCookie: true,
      audit: ['sign_in.succeeded', 'sign_in.second_factor_asked', 'sign_in.failed'],
      problems: STEP_PROBLEMS,
    },
    schema: {
      operationId: 'signIn',
      summary: 'Sign in with email and password; the session is a cookie',
      description:
        'Whether the email is known is not to be learned from the answer, nor from the time it takes.',
      tags: ['Sign-in'],
      body: z.strictObject({ email: z.string().min(1).max(320), password: z.string().min(1).max(4096) }),
      response: { 200: stepSchema },
    },
    handler: async (request) => {
      demandOwnPage(config, request, { silent: true })
      signIn.attempts.address(request.ip)
      const email = emailKey(request.body.email)
      const { password } = request.body
      const user = await findSignerByEmail(database, email)
      const made = attempt(request, `password ${email}`, user)
      const fits = Buffer.byteLength(password.normalize('NFKC')) <= MAX_PASSWORD_BYTES
      const right = await judged(made, () =>
        signIn.passwords.verify((fits && user?.passwordHash) || null, fits ? password : ''),
      )
      if (!right || !user) {
        refused(request, user, user ? 'password' : 'unknown')
        throw new BeaconError('sign_in_failed')
      }
      const hash = user.passwordHash!
      let passwordHash = hash
      if (signIn.passwords.outdated(hash)) {
        passwordHash = await signIn.passwords.hash(password)
        await replaceHash(database, user.id, hash, passwordHash)
      }
      await beginSession(request, {
        id: newId(),
        stage: user.hasSecondFactor ? 'second_factor' : 'signed_in',
        user: { ...user, passwordHash },
        method: 'password',
        secondFactor: false,
        flowSealed: null,
        // Also where a code is still to come: somebody knows the password.
        audit: [
          signInEntry(request, parts, {
            action: user.hasSecondFactor ? 'sign_in.second_factor_asked' : 'sign_in.succeeded',
            user,
            data: { method: 'password' },
          }),
        ],
      })
      return user.hasSecondFactor ? WAITS : DONE
    },
  })

  app.route({
    method: 'POST',
    url: '/api/sign-in/second-factor',
    config: {
      scope: 'public',
      withCookie: true,
      audit: ['sign_in.succeeded', 'sign_in.failed'],
      problems: STEP_PROBLEMS,
    },
    schema: {
      operationId: 'signInWithSecondFactor',
      summary: 'Finish a sign-in with a code, or with a backup code',
      tags: ['Sign-in'],
      body: proofSchema,
      response: { 200: stepSchema },
    },
    handler: async (request) => {
      demandOwnPage(config, request, { silent: false })
      signIn.attempts.address(request.ip)
      const found = foundSession(request)
      const user = found?.stage === 'second_factor' ? await findSigner(database, found.userId!) : undefined
      if (!found || !user)
        throw new BeaconError('sign_in_failed', 'no sign-in waits here for a second factor')
      const made = attempt(request, `second factor ${user.id}`, user)
      const proof = request.body
      if (!(await judged(made, () => signIn.secondFactors.check(database, user.id, proof)))) {
        await countFailure(database, found.id, CODES_PER_SIGN_IN)
        refused(request, user, 'second_factor')
        throw new BeaconError('sign_in_failed', 'the code is not right, or was used already')
      }
      const data = { method: found.method, second_factor: 'code' in proof ? 'code' : 'backup_code' }
      await beginSession(request, {
        id: newId(),
        stage: 'signed_in',
        user,
        goesOn: true,
        method: found.method,
        secondFactor: true,
        flowSealed: null,
        audit: [signInEntry(request, parts, { action: 'sign_in.succeeded', user, data })],
      })
      return DONE
    },
  })

  app.route({
    method: 'POST',
    url: '/api/sign-out',
    config: {
      scope: 'person',
      withoutSecondFactor: true,
      audit: ['sign_in.ended'],
      problems: ['session_needed', 'cross_site_request'],
    },
    schema: {
      operationId: 'signOut',
      summary: 'End this session, or all of yours',
      tags: ['Sign-in'],
      body: z.strictObject({ everywhere: z.boolean().default(false) }).nullish(),
      response: { 204: z.undefined().describe('Signed out') },
    },
    handler: async (request, reply) => {
      const { userId, userName, sessionId } = sessionOf(request)
      await changing(parts, request, async (transaction) => {
        const ended = request.body?.everywhere
          ? await endSignIns(transaction, { userId })
          : Number(await endSignIn(transaction, { id: sessionId, userId }))
        const target = { kind: 'user', id: userId, name: userName }
        return {
          body: undefined,
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, { action: 'sign_in.ended', target, data: { sessions: ended } })],
        }
      })
      await dropCookie(config, request, reply)
      return reply.code(204).send()
    },
  })
}
