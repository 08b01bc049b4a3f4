import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { ROLES, SCOPES } from '../../access/scopes.ts'
import { weakness } from '../../access/sign-in/passwords.ts'
import type { Proof } from '../../access/sign-in/second-factor.ts'
import { principalsNow } from '../../access/standing.ts'
import type { Database } from '../../db/database.ts'
import { findSecuritySettings } from '../../db/security-settings.ts'
import {
  countBackupCodes,
  type FoundSigner,
  findSigner,
  lockSigner,
  removeSecondFactor,
  setPassword,
} from '../../db/sign-in.ts'
import { endSignIn, endSignIns, listSignIns, markSecondFactor } from '../../db/sign-ins.ts'
import { findUser } from '../../db/users.ts'
import { BeaconError } from '../../errors.ts'
import { audited } from '../audited.ts'
import { changing } from '../changing.ts'
import { principalOf } from '../guard.ts'
import type { App, HttpParts } from '../parts.ts'
import { byId, component, id, noBody, time } from '../schemas.ts'
import { proofSchema, sessionOf } from '../session-holder.ts'
import { signInEntry } from '../sign-in-entry.ts'
import { invalidRequest } from '../validation.ts'

const SESSIONS_LISTED = 100

export const sessionSchema = component(
  'Session',
  z.object({
    id,
    method: z.enum(['password', 'oidc']),
    second_factor: z.boolean().describe('A second factor was shown'),
    address: z.string().nullable(),
    user_agent: z.string().nullable(),
    created_at: time,
    last_seen_at: time.describe('To the minute'),
    expires_at: time,
    current: z.boolean().describe('The one that asks'),
  }),
)

export const whoSchema = component(
  'WhoAmI',
  z.object({
    kind: z.enum(['session', 'personal_token']),
    user: z.object({ id, name: z.string(), email: z.string().nullable() }),
    roles: z.array(z.object({ role: z.enum(ROLES), site_id: id.nullable(), fleet_id: id.nullable() })),
    scopes: z.array(z.enum(SCOPES)).nullable().describe('Of a token that was given less than its owner has'),
    second_factor: z.object({
      enabled: z.boolean(),
      required: z.boolean().describe('Of everybody here'),
      backup_codes_left: z.number().int(),
    }),
    has_password: z.boolean(),
    must: z
      .literal('set_up_second_factor')
      .nullable()
      .describe('What has to be done before anything else is allowed'),
    expires_at: time.nullable(),
  }),
)

const backupCodes = z.array(z.string()).describe('Each works once, in place of a code; shown only here')
const proofBody = z.union([proofSchema, z.strictObject({ password: z.string().min(1).max(4096) })])

/** What somebody does about how they themselves sign in. */
export function sessionRoutes(app: App, parts: HttpParts): void {
  const { database, signIn, audit } = parts

  async function self(request: FastifyRequest): Promise<FoundSigner> {
    const user = await findSigner(database, sessionOf(request).userId)
    if (!user) throw new BeaconError('credentials_required')
    return user
  }

  /**
   * For the start of a transaction that changes how somebody signs in: they are signed in still, and nobody else changes
   * it meanwhile. A session that was ended while a password was being hashed does not set it after all.
   */
  async function hold(transaction: Database, request: FastifyRequest, user: FoundSigner): Promise<void> {
    await lockSigner(transaction, user.id)
    const [now] = await principalsNow(transaction, [principalOf(request)])
    if (now instanceof BeaconError) throw now
  }

  /** Throws unless the proof is right; wrong ones are counted and written down. */
  async function demandProof(
    request: FastifyRequest,
    user: FoundSigner,
    proof: Proof | { readonly password: string },
  ): Promise<void> {
    const isPassword = 'password' in proof
    const made = signIn.attempts.begin(
      `${isPassword ? 'own password' : 'second factor'} ${user.id}`,
      request.ip,
      user.knownFrom,
    )
    const right = await (isPassword
      ? signIn.passwords.verify(user.passwordHash, proof.password)
      : signIn.secondFactors.check(database, user.id, proof)
    ).catch((error: unknown) => {
      made.withdrawn()
      throw error
    })
    if (right) return made.succeeded()
    wrong(request, user, isPassword ? 'password' : 'second_factor')
    throw new BeaconError('proof_refused', isPassword ? 'the password is not right' : undefined)
  }

  function wrong(request: FastifyRequest, user: FoundSigner, reason: string): void {
    const data = { reason, signed_in: true }
    audit.refused(signInEntry(request, parts, { action: 'sign_in.failed', outcome: 'refused', user, data }))
  }

  const target = (user: { readonly id: string; readonly name: string }) => ({
    kind: 'user',
    id: user.id,
    name: user.name,
  })

  app.route({
    method: 'GET',
    url: '/api/session',
    config: { scope: 'person', withoutSecondFactor: true },
    schema: {
      operationId: 'getSession',
      summary: 'Who you are, what you hold, and what you have to do',
      tags: ['Sign-in'],
      response: { 200: whoSchema },
    },
    handler: async (request) => {
      const principal = principalOf(request)
      const user = await findUser(database, principal.userId!)
      if (!user) throw new BeaconError('credentials_required')
      const settings = await findSecuritySettings(database)
      const { scopes } = principal.limits
      return {
        kind: principal.kind === 'session' ? ('session' as const) : ('personal_token' as const),
        user: { id: user.id, name: user.name, email: user.email },
        roles: user.roles.map(({ role, siteId, fleetId }) => ({
          role,
          site_id: fleetId === null ? siteId : null,
          fleet_id: fleetId,
        })),
        scopes: scopes === null ? null : [...scopes],
        second_factor: {
          enabled: user.hasSecondFactor,
          required: settings.require_second_factor,
          backup_codes_left: await countBackupCodes(database, user.id),
        },
        has_password: user.hasPassword,
        must: principal.barred ? ('set_up_second_factor' as const) : null,
        expires_at: principal.expiresAt?.toISOString() ?? null,
      }
    },
  })

  app.route({
    method: 'POST',
    url: '/api/session/second-factor',
    config: {
      scope: 'person',
      withoutSecondFactor: true,
      audit: ['second_factor.started'],
      problems: ['session_needed', 'cross_site_request', 'second_factor_present'],
    },
    schema: {
      operationId: 'startSecondFactor',
      summary: 'Make the secret of a second factor; it counts once a code confirms it',
      tags: ['Sign-in'],
      body: noBody,
      response: { 201: z.object({ secret: z.string().describe('Base32'), otpauth_uri: z.string() }) },
    },
    handler: async (request, reply) => {
      const user = await self(request)
      const made = await changing(parts, request, async (transaction) => {
        await hold(transaction, request, user)
        const label = user.email ?? user.name
        const started = await signIn.secondFactors.start(transaction, { id: user.id, label })
        if (!started) throw new BeaconError('second_factor_present')
        return {
          body: started,
          audit: [audited(request, parts, { action: 'second_factor.started', target: target(user) })],
        }
      })
      return reply.code(201).send(made)
    },
  })

  app.route({
    method: 'POST',
    url: '/api/session/second-factor/confirm',
    config: {
      scope: 'person',
      withoutSecondFactor: true,
      audit: ['second_factor.enabled', 'sign_in.failed'],
      problems: ['session_needed', 'cross_site_request', 'proof_refused', 'rate_limited'],
    },
    schema: {
      operationId: 'confirmSecondFactor',
      summary: 'Show the first code; from then on it is asked for, and other sessions end',
      tags: ['Sign-in'],
      body: z.strictObject({
        code: z
          .string()
          .trim()
          .regex(/^\d{6}$/, 'must be six digits'),
      }),
      response: { 200: z.object({ backup_codes: backupCodes }) },
    },
    handler: async (request) => {
      const user = await self(request)
      const { sessionId } = sessionOf(request)
      const made = signIn.attempts.begin(`second factor ${user.id}`, request.ip, user.knownFrom)
      const codes = await changing(parts, request, async (transaction) => {
        await hold(transaction, request, user)
        const codes = await signIn.secondFactors.confirm(transaction, user.id, request.body.code)
        if (!codes) throw new BeaconError('proof_refused')
        await markSecondFactor(transaction, sessionId)
        const ended = await endSignIns(transaction, { userId: user.id, except: sessionId })
        const deed = {
          action: 'second_factor.enabled',
          target: target(user),
          data: { sessions_ended: ended },
        }
        return {
          body: codes,
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, deed)],
        }
      }).catch((error: unknown) => {
        if (error instanceof BeaconError && error.code === 'proof_refused')
          wrong(request, user, 'second_factor')
        else made.withdrawn()
        throw error
      })
      made.succeeded()
      return { backup_codes: codes }
    },
  })

  app.route({
    method: 'POST',
    url: '/api/session/second-factor/backup-codes',
    config: {
      scope: 'person',
      audit: ['second_factor.backup_codes_renewed', 'sign_in.failed'],
      problems: ['session_needed', 'cross_site_request', 'proof_refused', 'rate_limited'],
    },
    schema: {
      operationId: 'renewBackupCodes',
      summary: 'Make new backup codes in place of the old ones',
      tags: ['Sign-in'],
      body: proofSchema,
      response: { 200: z.object({ backup_codes: backupCodes }) },
    },
    handler: async (request) => {
      const user = await self(request)
      await demandProof(request, user, request.body)
      const codes = await changing(parts, request, async (transaction) => {
        await hold(transaction, request, user)
        const deed = { action: 'second_factor.backup_codes_renewed', target: target(user) }
        return {
          body: await signIn.secondFactors.renewBackupCodes(transaction, user.id),
          audit: [audited(request, parts, deed)],
        }
      })
      return { backup_codes: codes }
    },
  })

  app.route({
    method: 'POST',
    url: '/api/session/second-factor/remove',
    config: {
      scope: 'person',
      audit: ['second_factor.removed', 'sign_in.failed'],
      problems: [
        'session_needed',
        'cross_site_request',
        'proof_refused',
        'rate_limited',
        'second_factor_required',
      ],
    },
    schema: {
      operationId: 'removeSecondFactor',
      summary: 'Do without a second factor, where it is not asked of everybody',
      tags: ['Sign-in'],
      body: proofBody,
      response: { 204: z.undefined().describe('Removed') },
    },
    handler: async (request, reply) => {
      const user = await self(request)
      await demandProof(request, user, request.body)
      await changing(parts, request, async (transaction) => {
        if ((await findSecuritySettings(transaction)).require_second_factor)
          throw new BeaconError('second_factor_required', 'everybody has to have a second factor here')
        await hold(transaction, request, user)
        const removed = await removeSecondFactor(transaction, user.id)
        const deed = { action: 'second_factor.removed', target: target(user) }
        return {
          body: undefined,
          messages: [{ type: 'access_changed' }],
          audit: removed ? [audited(request, parts, deed)] : [],
        }
      })
      return reply.code(204).send()
    },
  })

  app.route({
    method: 'POST',
    url: '/api/password',
    config: {
      scope: 'person',
      withoutSecondFactor: true,
      audit: ['password.changed', 'sign_in.failed'],
      problems: ['session_needed', 'cross_site_request', 'proof_refused', 'rate_limited', 'invalid_request'],
    },
    schema: {
      operationId: 'changePassword',
      summary: 'Change your password; your other sessions end',
      tags: ['Sign-in'],
      body: z.strictObject({
        current_password: z.string().min(1).max(4096).optional().describe('Needed by whoever has one'),
        new_password: z.string().min(1).max(4096),
      }),
      response: { 204: z.undefined().describe('Changed') },
    },
    handler: async (request, reply) => {
      const user = await self(request)
      const { sessionId } = sessionOf(request)
      const { current_password: current, new_password: next } = request.body
      if (user.passwordHash !== null) await demandProof(request, user, { password: current ?? '' })
      const detail = next === current ? 'must be another one' : weakness(next, user)
      if (detail !== undefined) throw invalidRequest([{ pointer: '/new_password', detail }])
      const hash = await signIn.passwords.hash(next)
      await changing(parts, request, async (transaction) => {
        await hold(transaction, request, user)
        await setPassword(transaction, user.id, hash)
        const ended = await endSignIns(transaction, { userId: user.id, except: sessionId })
        const deed = { action: 'password.changed', target: target(user), data: { sessions_ended: ended } }
        return {
          body: undefined,
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, deed)],
        }
      })
      return reply.code(204).send()
    },
  })

  app.route({
    method: 'GET',
    url: '/api/sessions',
    config: { scope: 'person', problems: ['session_needed'] },
    schema: {
      operationId: 'listSessions',
      summary: 'List the sessions that you are signed in with, the latest first',
      tags: ['Sign-in'],
      response: { 200: z.object({ items: z.array(sessionSchema) }) },
    },
    handler: async (request) => {
      const { userId, sessionId } = sessionOf(request)
      const sessions = await listSignIns(database, userId, SESSIONS_LISTED)
      return {
        items: sessions.map((session) => ({
          id: session.id,
          method: session.method,
          second_factor: session.secondFactor,
          address: session.address,
          user_agent: session.userAgent,
          created_at: session.createdAt.toISOString(),
          last_seen_at: session.lastSeenAt.toISOString(),
          expires_at: session.expiresAt.toISOString(),
          current: session.id === sessionId,
        })),
      }
    },
  })

  app.route({
    method: 'DELETE',
    url: '/api/sessions/:id',
    config: { scope: 'person', audit: ['sign_in.ended'], problems: ['session_needed', 'cross_site_request'] },
    schema: {
      operationId: 'endSession',
      summary: 'End one of your sessions',
      tags: ['Sign-in'],
      params: byId,
      response: { 204: z.undefined().describe('Ended') },
    },
    handler: async (request, reply) => {
      const { userId, userName } = sessionOf(request)
      await changing(parts, request, async (transaction) => {
        if (!(await endSignIn(transaction, { id: request.params.id, userId })))
          throw new BeaconError('not_found', 'there is no such session of yours')
        const user = { id: userId, name: userName }
        const data = { session_id: request.params.id }
        return {
          body: undefined,
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, { action: 'sign_in.ended', target: target(user), data })],
        }
      })
      return reply.code(204).send()
    },
  })
}
