import { createHash } from 'node:crypto'
import fastifyCookie from '@fastify/cookie'
import fastifySession, { type FastifySessionOptions } from '@fastify/session'
import type { FastifyInstance, FastifyReply, FastifyRequest, Session } from 'fastify'
import { type AuditEntry, insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { markSignedIn } from '../db/sign-in.ts'
import { endSignIn, type FoundSignIn, findSignIn, insertSignIn, type NewSignIn } from '../db/sign-ins.ts'
import { inTransaction } from '../db/transaction.ts'
import type { HttpParts } from './parts.ts'

/** A step of a sign-in, to be written down with the session that it begins. */
export interface Step
  extends Pick<NewSignIn, 'id' | 'stage' | 'userId' | 'method' | 'secondFactor' | 'flowSealed'> {
  readonly audit: readonly AuditEntry[]
  /** Done in the same transaction, before the audit log is written. */
  readonly also?: (transaction: Database) => Promise<void>
}

declare module 'fastify' {
  interface Session {
    /** As it was found with this request. */
    found?: FoundSignIn
    /** To be written down. */
    step?: Step & Pick<NewSignIn, 'address' | 'userAgent'>
  }
}

const SECRET_BYTES = 32
const SECRET = /^[A-Za-z0-9_-]{43}$/
const USER_AGENT_CHARACTERS = 256

const hashOf = (secret: string) => createHash('sha256').update(secret).digest()

type Parts = Pick<HttpParts, 'config' | 'database' | 'random'>

/** The `__Host-` prefix has browsers refuse the cookie from anybody but this very host, and over plain HTTP. */
function cookieOf({ publicUrl }: HttpParts['config']) {
  const https = publicUrl?.startsWith('https:') ?? false
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
      destroy(secret, done) {
        endSignIn(database, { secretHash: hashOf(secret) }).then(() => done(), done)
      },
    },
  })
}

async function writeDown(database: Database, secretHash: Buffer, { step }: Session): Promise<void> {
  if (!step) return
  await inTransaction(database, async (transaction) => {
    const { audit, also, ...row } = step
    await insertSignIn(transaction, { ...row, secretHash })
    if (step.stage === 'signed_in' && step.userId !== null) await markSignedIn(transaction, step.userId)
    await also?.(transaction)
    await insertAudit(transaction, audit)
  })
}

/** Begins a session under a new secret; the one before, of whatever step, ends. */
export async function beginSession(request: FastifyRequest, step: Step): Promise<void> {
  await request.session.regenerate()
  const userAgent = request.headers['user-agent']
    ?.replace(/[^\x20-\x7e]/g, '?')
    .slice(0, USER_AGENT_CHARACTERS)
  request.session.step = { ...step, address: request.ip, userAgent: userAgent || null }
  await request.session.save()
}

/** Ends the session of this request, and takes the cookie away. */
export async function endSession(
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
