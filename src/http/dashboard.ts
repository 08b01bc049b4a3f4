import { existsSync } from 'node:fs'
import { join } from 'node:path'
import staticFiles from '@fastify/static'
import type { FastifyInstance } from 'fastify'
import { BeaconError } from '../errors.ts'
import { packageRoot } from '../package.ts'
import { PAGE_POLICY } from './headers.ts'

/** The addresses that show the page; it looks at the address itself to know what to show. */
export const PAGE_PATHS = [
  '/',
  '/floor',
  '/robots/:id',
  '/approvals',
  '/keys',
  '/tokens',
  '/people',
  '/audit',
  '/places',
  '/account',
  '/welcome',
  '/accept-invitation',
] as const

/** The page makes no markup out of texts anywhere; should it begin to, the browser refuses. */
const NO_MARKUP = { 'require-trusted-types-for': "'script'", 'trusted-types': "'none'" } as const

const POLICY = Object.entries({ ...PAGE_POLICY, ...NO_MARKUP })
  .map(([directive, sources]) => `${directive} ${sources}`)
  .join('; ')

/** Files under /assets carry a hash of what they hold in their names. */
const ONE_YEAR_MS = 365 * 24 * 3_600_000

/**
 * The page for people, as `npm run build` leaves it in `folder`. Public: it holds nothing, and asks the API for all that
 * it shows, as whoever is signed in.
 */
export function dashboard(app: FastifyInstance, folder = join(packageRoot, 'dist/dashboard')): void {
  app.register(async (page) => {
    page.addHook('onRoute', (route) => {
      route.config = { ...route.config, scope: 'public' }
    })
    await page.register(staticFiles, {
      root: folder,
      wildcard: false,
      // Routes are listed below, and for the assets by what is in the folder: nothing else is handed out.
      serve: false,
    })
    const isBuilt = existsSync(join(folder, 'index.html'))
    for (const url of PAGE_PATHS)
      page.get(url, (_, reply) => {
        if (!isBuilt) throw new BeaconError('not_found', 'the page was not built: npm run build')
        return reply
          .headers({ 'content-security-policy': POLICY, 'cache-control': 'no-cache' })
          .sendFile('index.html', { cacheControl: false })
      })
    if (!isBuilt) return
    await page.register(staticFiles, {
      root: join(folder, 'assets'),
      prefix: '/assets/',
      decorateReply: false,
      wildcard: false,
      preCompressed: true,
      globIgnore: ['**/*.br', '**/*.gz'],
      immutable: true,
      maxAge: ONE_YEAR_MS,
      // The headers of answers to programs say that nothing is kept.
      setHeaders(reply) {
        reply.setHeader('cache-control', `public, max-age=${ONE_YEAR_MS / 1_000}, immutable`)
        reply.setHeader('vary', 'accept-encoding')
      },
    })
    page.get('/favicon.svg', (_, reply) => reply.sendFile('favicon.svg'))
  })
}
