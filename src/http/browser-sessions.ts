import { createHash } from 'node:crypto'
import fastifyCookie from '@fastify/cookie'
import fastifySession, { type FastifySessionOptions } from '@fastify/session'
import type { FastifyInstance, FastifyReply, FastifyRequest, Session } from 'fastify'
import { type AuditEntry, insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { type FoundSigner, markSignedIn, shareSigner } from '../db/sign-in.ts'
import { endSignIn, type FoundSignIn, findSignIn, insertSignIn, type NewSignIn } from '../db/sign-ins.ts'
import { lockMinting } from '../db/token-changes.ts'
import { inTransaction } from '../db/transaction.ts'
import { BeaconError } from '../errors.ts'
import type { HttpParts } from './parts.ts'
import { isOverHttps } from './public-url.ts'

/** A step of a sign-in, to be written down with the session that it begins. */
export interface Step extends Pick<NewSignIn, 'id' | 'stage' | 'method' | 'secondFactor' | 'flowSealed'> {
  /** Who signs in, as they were judged: if they are otherwise by now, nothing is written down. */
  readonly user: FoundSigner | undefined
  /** It goes on from the session that the request came with, which has to stand until then. */
  readonly goesOn?: true
  readonly audit: readonly AuditEntry[]
}

declare module 'fastify' {
  interface Session {
    /** As it was found with this request. */
    found?: FoundSignIn
    /** To be written down. */
    step?: Step & Pick<NewSignIn, 'address' | 'userAgent'> & { readonly before: FoundSignIn | undefined }
  }
}

const SECRET_BYTES = 32
const SECRET = /^[A-Za-z0-9_-]{43}$/
const USER_AGENT_CHARACTERS = 256

const hashOf = (secret: string) => createHash('sha256').update(secret).digest()

type Parts = Pick<HttpParts, 'config' | 'database' | 'random'>

/** The `__Host-` prefix has browsers refuse the cookie from anybody but this very host, and over plain HTTP. */
function cookieOf(config: HttpParts['config']) {
  const https = isOverHttps(config)
  return {
    name: https ? '__Host-beacon_session' : 'beacon_session',
    options: {
      path: '/',
      httpOnly: true,
      // Lax, not strict: the identity provider sends the browser back from its own site.
      sameSite: 'lax' as const,
      secure: https ? true : ('auto' as const),
    },
  }
}

/** The secret that a request's session is looked up by, read as the session itself is; undefined: none that could be. */
export function sessionSecret(config: HttpParts['config'], request: FastifyRequest): string | undefined {
  const { cookie } = request.headers
  const secret = cookie && request.server.parseCookie(cookie)[cookieOf(config).name]
  return secret && SECRET.test(secret) ? secret : undefined
}

/**
 * Sessions of browsers, kept in the database under the SHA-256 of a cookie's secret. A cookie is looked at only where
 * nothing else says who asks.
 */
export function browserSessions(app: FastifyInstance, { config, database, random }: Parts): void {
  const { name, options } = cookieOf(config)
  app.addHook('onRequest', async (request) => {
    const { scope, withCookie = false } = request.routeOptions.config
    const closed = scope !== undefined && scope !== 'public' && scope !== 'claim'
    if (request.is404 || request.headers.authorization !== undefined || !(closed || withCookie))
      delete request.raw.headers.cookie
  })
  app.register(fastifyCookie)
  app.register(fastifySession, {
    cookieName: name,
    // The plugin takes a cookie away under the domain that it is given here, and sets it without one.
    cookie: { ...options, domain: null } as unknown as NonNullable<FastifySessionOptions['cookie']>,
    idGenerator: () => random.bytes(SECRET_BYTES).toString('base64url'),
    // 256 random bits need no signature; what does not look like them is not looked up.
    secret: {
      sign: (secret: string) => secret,
      unsign: (text: string) => ({ valid: SECRET.test(text), renew: false, value: text }),
    },
    saveUninitialized: false,
    rolling: false,
    store: {
      get(secret, done) {
        findSignIn(database, hashOf(secret)).then(
          (found) => done(null, found ? { cookie: { originalMaxAge: null }, found } : null),
          done,
        )
      },
      set(secret, session, done) {
        writeDown(database, hashOf(secret), session).then(() => done(), done)
      },
      // Sessions are ended in the same transaction as what takes their place.
      destroy: (_, done) => done(),
    },
  })
}

async function writeDown(database: Database, secretHash: Buffer, { step }: Session): Promise<void> {
  if (!step) return
  await inTransaction(database, async (transaction) => {
    // Whoever revokes everything finds this session, or it begins after that.
    await lockMinting(transaction)
    const { audit, user, before, goesOn, ...row } = step
    if (user) {
      const now = await shareSigner(transaction, user.id)
      if (now?.passwordHash !== user.passwordHash || now?.hasSecondFactor !== user.hasSecondFactor)
        throw new BeaconError('sign_in_failed', 'password or second factor were changed meanwhile')
    }
    const ended = before !== undefined && (await endSignIn(transaction, { anyId: before.id }))
    if (goesOn && !ended) throw new BeaconError('sign_in_failed', 'the sign-in was ended meanwhile')
    await insertSignIn(transaction, { ...row, secretHash, userId: user?.id ?? null })
    if (user && step.stage === 'signed_in') await markSignedIn(transaction, user.id)
    await insertAudit(transaction, audit)
  })
}

/** Begins a session under a new secret; the one before, of whatever step, ends. */
export async function beginSession(request: FastifyRequest, step: Step): Promise<void> {
  const before = foundSession(request)
  await request.session.regenerate()
  const userAgent = request.headers['user-agent']
    ?.replace(/[^\x20-\x7e]/g, '?')
    .slice(0, USER_AGENT_CHARACTERS)
  request.session.step = { ...step, before, address: request.ip, userAgent: userAgent || null }
  await request.session.save()
}

/** Takes the cookie away; the session itself was ended in the database. */
export async function dropCookie(
  config: HttpParts['config'],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  await request.session.destroy()
  const { name, options } = cookieOf(config)
  reply.clearCookie(name, options)
}

/** The session that the request's cookie names, of whatever step. */
export function foundSession(request: FastifyRequest): FoundSignIn | undefined {
  return request.session?.found
}
