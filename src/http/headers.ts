import type { FastifyReply, FastifyRequest } from 'fastify'
import type { HttpParts } from './parts.ts'
import { isOverHttps } from './public-url.ts'

/** What a page of ours may do: everything that it needs comes from this server, and nobody else frames it. */
export const PAGE_POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data:",
  'font-src': "'self'",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'self'",
  'frame-ancestors': "'none'",
} as const

/** Answers to programs are no pages: nothing in them is to be run, framed, embedded or kept. */
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy':
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()',
  'cache-control': 'no-store',
} as const

const ONE_YEAR_SECONDS = 31_536_000

/**
 * What every response carries, unless its route says otherwise. Browsers are told to come over HTTPS alone when that is
 * how the server is reached.
 */
export function baseHeaders(
  config: Pick<HttpParts['config'], 'publicUrl' | 'tls'>,
  requestId: string,
): Record<string, string> {
  return {
    'x-request-id': requestId,
    ...HEADERS,
    ...(isOverHttps(config) ? { 'strict-transport-security': `max-age=${ONE_YEAR_SECONDS}` } : {}),
  }
}

export function setBaseHeaders(
  config: Pick<HttpParts['config'], 'publicUrl' | 'tls'>,
  request: Pick<FastifyRequest, 'id'>,
  reply: FastifyReply,
): void {
  reply.headers(baseHeaders(config, request.id))
}
