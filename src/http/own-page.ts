import type { FastifyRequest } from 'fastify'
import { BeaconError } from '../errors.ts'
import type { HttpParts } from './parts.ts'

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Throws `cross_site_request` for a change that another site's page may have made a browser send. Browsers say where a
 * request comes from; `silent`: whether one that says nothing is let through, as it is of no browser that has a cookie
 * of ours.
 */
export function demandOwnPage(
  { publicUrl }: Pick<HttpParts['config'], 'publicUrl'>,
  request: FastifyRequest,
  { silent }: { readonly silent: boolean },
): void {
  if (SAFE.has(request.method)) return
  const { origin, 'sec-fetch-site': site } = request.headers
  if (origin !== undefined) {
    const own = [publicUrl && new URL(publicUrl).origin, `${request.protocol}://${request.host}`]
    if (own.includes(origin)) return
  } else if (site === undefined ? silent : site === 'same-origin') return
  throw new BeaconError('cross_site_request')
}
