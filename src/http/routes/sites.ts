import { z } from 'zod'
import { DEPLOYMENT } from '../../access/authority.ts'
import { demandScope } from '../../access/principal.ts'
import { violatedUnique } from '../../db/database.ts'
import { violatesReference } from '../../db/references.ts'
import { deleteSite, findSite, insertSite, listSites, lockSite, renameSite } from '../../db/sites.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { audited, type Deed } from '../audited.ts'
import { changing } from '../changing.ts'
import { decodeCursor, pageOf } from '../cursors.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { byId, component, cursor, id, idempotencyHeaders, limit, listOf, name, time } from '../schemas.ts'

export const siteSchema = component('Site', z.object({ id, name, created_at: time, updated_at: time }))
const placeSchema = z.strictObject({ list: z.literal('sites'), name, id })

interface Row {
  readonly id: string
  readonly name: string
  readonly created_at: Date
  readonly updated_at: Date
}

function toSite(row: Row): z.infer<typeof siteSchema> {
  return {
    id: row.id,
    name: row.name,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  }
}

function nameTaken(error: unknown): never {
  if (violatedUnique(error) === 'sites_name_key')
    throw new BeaconError('name_taken', 'another site has this name', { cause: error })
  throw error
}

function deed(action: `site.${string}`, { id, name }: Row, data?: Deed['data']): Deed {
  const place = { siteId: id, fleetId: null }
  return { action, target: { kind: 'site', id, name }, place, ...(data ? { data } : {}) }
}

function found(row: Row | undefined): Row {
  if (!row) throw new BeaconError('not_found', 'there is no such site')
  return row
}

/**
 * Sites. Their names are the deployment's: whoever gives or takes one holds `robots:write` there, so that nobody learns
 * by a name that is taken of a site that they do not see.
 */
export function siteRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'POST',
    url: '/api/sites',
    config: { scope: 'robots:write', on: 'deployment', audit: ['site.created'], problems: ['name_taken'] },
    schema: {
      operationId: 'createSite',
      summary: 'Create a site',
      tags: ['Sites'],
      headers: idempotencyHeaders,
      body: z.strictObject({ name }),
      response: { 201: siteSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const row = await insertSite(transaction, { id: newId(), name: request.body.name }).catch(nameTaken)
        return { status: 201, body: toSite(row), audit: [audited(request, parts, deed('site.created', row))] }
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/sites',
    config: { scope: 'robots:read', on: 'listed' },
    schema: {
      operationId: 'listSites',
      summary: 'List the sites by name',
      tags: ['Sites'],
      querystring: z.strictObject({ limit: limit(), cursor }),
      response: { 200: listOf(siteSchema) },
    },
    handler: async (request) => {
      const { query } = request
      const after = decodeCursor(query.cursor, placeSchema)
      const rows = await listSites(database, reachOf(request), { limit: query.limit + 1, after })
      return pageOf(rows, query.limit, toSite, ({ id, name }) => ({ list: 'sites', name, id }))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/sites/:id',
    config: { scope: 'robots:read', on: 'site' },
    schema: {
      operationId: 'getSite',
      summary: 'Get a site',
      tags: ['Sites'],
      params: byId,
      response: { 200: siteSchema },
    },
    handler: async ({ params }) => toSite(found(await findSite(database, params.id))),
  })

  app.route({
    method: 'PATCH',
    url: '/api/sites/:id',
    config: { scope: 'robots:write', on: 'site', audit: ['site.changed'], problems: ['name_taken'] },
    schema: {
      operationId: 'updateSite',
      summary: 'Rename a site',
      tags: ['Sites'],
      params: byId,
      body: z.strictObject({ name: name.optional() }),
      response: { 200: siteSchema },
    },
    handler: (request) =>
      changing(parts, request, async (transaction) => {
        demandScope(principalOf(request), 'robots:write', DEPLOYMENT)
        const site = found(await lockSite(transaction, request.params.id, 'change'))
        const { name } = request.body
        if (name === undefined || name === site.name) return { body: toSite(site) }
        const renamed = await renameSite(transaction, site.id, name).catch(nameTaken)
        const data = { changed: { name: { from: site.name, to: name } } }
        return { body: toSite(renamed), audit: [audited(request, parts, deed('site.changed', site, data))] }
      }),
  })

  app.route({
    method: 'DELETE',
    url: '/api/sites/:id',
    config: { scope: 'robots:write', on: 'site', audit: ['site.deleted'], problems: ['not_empty'] },
    schema: {
      operationId: 'deleteSite',
      summary: 'Delete a site that holds no fleets',
      tags: ['Sites'],
      params: byId,
      response: { 204: z.undefined().describe('Deleted') },
    },
    handler: async (request, reply) => {
      await changing(parts, request, async (transaction) => {
        demandScope(principalOf(request), 'robots:write', DEPLOYMENT)
        const site = found(await lockSite(transaction, request.params.id, 'deletion'))
        await deleteSite(transaction, site.id).catch((error: unknown) => {
          if (violatesReference(error))
            throw new BeaconError('not_empty', 'fleets are in this site', { cause: error })
          throw error
        })
        return {
          body: undefined,
          // The roles that people had there are gone.
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, deed('site.deleted', site))],
        }
      })
      return reply.code(204).send()
    },
  })
}
