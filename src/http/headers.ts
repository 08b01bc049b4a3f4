import type { IncomingMessage } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { newId } from '../ids.ts'

const SANE_ID = /^[A-Za-z0-9._:-]{1,128}$/

/** The caller's own request id when it can stand in a log line, else a new one. */
export function requestIdOf(raw: Pick<IncomingMessage, 'headers'>): string {
  const given = raw.headers['x-request-id']
  return typeof given === 'string' && SANE_ID.test(given) ? given : newId()
}

/** What every response carries, unless its route says otherwise. */
export function baseHeaders(requestId: string): Record<string, string> {
  return {
    'x-request-id': requestId,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'x-frame-options': 'DENY',
    'cache-control': 'no-store',
  }
}

export function setBaseHeaders(request: Pick<FastifyRequest, 'id'>, reply: FastifyReply): void {
  reply.headers(baseHeaders(request.id))
}
