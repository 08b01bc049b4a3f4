import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { demandScope } from '../../access/principal.ts'
import type { BusMessage } from '../../bus/bus.ts'
import { violatedUnique } from '../../db/database.ts'
import {
  deleteFleet,
  findFleet,
  insertFleet,
  listFleetCredentials,
  listFleets,
  lockFleet,
  updateFleet,
} from '../../db/fleets.ts'
import { violatesReference } from '../../db/references.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { MAX_HEARTBEAT_INTERVAL_MS, MIN_HEARTBEAT_INTERVAL_MS } from '../../protocol/limits.ts'
import { audited, type Deed } from '../audited.ts'
import { changing } from '../changing.ts'
import { decodeCursor, pageOf } from '../cursors.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { demandSite, unknownReference } from '../references.ts'
import { byId, component, cursor, id, idempotencyHeaders, limit, listOf, name, time } from '../schemas.ts'

const interval = z
  .number()
  .int()
  .min(MIN_HEARTBEAT_INTERVAL_MS)
  .max(MAX_HEARTBEAT_INTERVAL_MS)
  .nullable()
  .describe('How often its robots send a heartbeat; null: as often as the deployment says')

export const fleetSchema = component(
  'Fleet',
  z.object({ id, site_id: id, name, heartbeat_interval_ms: interval, created_at: time, updated_at: time }),
)
const placeSchema = z.strictObject({ list: z.literal('fleets'), name, id })

interface Row {
  readonly id: string
  readonly site_id: string
  readonly name: string
  readonly heartbeat_interval_ms: number | null
  readonly created_at: Date
  readonly updated_at: Date
}

function toFleet(row: Row): z.infer<typeof fleetSchema> {
  return {
    id: row.id,
    site_id: row.site_id,
    name: row.name,
    heartbeat_interval_ms: row.heartbeat_interval_ms,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  }
}

function refuse(error: unknown): never {
  if (violatedUnique(error) === 'fleets_site_id_name_key')
    throw new BeaconError('name_taken', 'another fleet of this site has this name', { cause: error })
  if (violatesReference(error)) throw unknownReference('/site_id', 'site', error)
  throw error
}

function deed(action: `fleet.${string}`, fleet: Row, data?: Deed['data']): Deed {
  const { id, name, site_id } = fleet
  const place = { siteId: site_id, fleetId: id }
  return { action, target: { kind: 'fleet', id, name }, place, ...(data ? { data } : {}) }
}

/** A fleet's name is its site's: nobody learns by a name that is taken of a fleet that they do not see. */
function demandSiteOf(fleet: Row, request: FastifyRequest): void {
  demandScope(principalOf(request), 'robots:write', { siteId: fleet.site_id, fleetId: null })
}

function found(row: Row | undefined): Row {
  if (!row) throw new BeaconError('not_found', 'there is no such fleet')
  return row
}

export function fleetRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'POST',
    url: '/api/fleets',
    config: {
      scope: 'robots:write',
      on: 'body',
      audit: ['fleet.created'],
      problems: ['name_taken', 'unknown_reference'],
    },
    schema: {
      operationId: 'createFleet',
      summary: 'Create a fleet in a site',
      tags: ['Fleets'],
      headers: idempotencyHeaders,
      body: z.strictObject({ site_id: id, name, heartbeat_interval_ms: interval.default(null) }),
      response: { 201: fleetSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        await demandSite(transaction, principalOf(request), 'robots:write', request.body.site_id)
        const row = await insertFleet(transaction, { id: newId(), ...request.body }).catch(refuse)
        const { heartbeat_interval_ms } = row
        const audit = [audited(request, parts, deed('fleet.created', row, { heartbeat_interval_ms }))]
        return { status: 201, body: toFleet(row), audit }
      }),
  })

  app.route({
    method: 'GET',
    url: '/api/fleets',
    config: { scope: 'robots:read', on: 'listed' },
    schema: {
      operationId: 'listFleets',
      summary: 'List the fleets by name',
      tags: ['Fleets'],
      querystring: z.strictObject({ site: id.optional(), limit: limit(), cursor }),
      response: { 200: listOf(fleetSchema) },
    },
    handler: async (request) => {
      const { query } = request
      const after = decodeCursor(query.cursor, placeSchema)
      const page = { site: query.site, limit: query.limit + 1, after }
      const rows = await listFleets(database, reachOf(request), page)
      return pageOf(rows, query.limit, toFleet, ({ id, name }) => ({ list: 'fleets', name, id }))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/fleets/:id',
    config: { scope: 'robots:read', on: 'fleet' },
    schema: {
      operationId: 'getFleet',
      summary: 'Get a fleet',
      tags: ['Fleets'],
      params: byId,
      response: { 200: fleetSchema },
    },
    handler: async ({ params }) => toFleet(found(await findFleet(database, params.id))),
  })

  app.route({
    method: 'PATCH',
    url: '/api/fleets/:id',
    config: { scope: 'robots:write', on: 'fleet', audit: ['fleet.changed'], problems: ['name_taken'] },
    schema: {
      operationId: 'updateFleet',
      summary: 'Rename a fleet, or change how often its robots report',
      description: 'To rename it, the scope is needed at its site.',
      tags: ['Fleets'],
      params: byId,
      body: z.strictObject({ name: name.optional(), heartbeat_interval_ms: interval.optional() }),
      response: { 200: fleetSchema },
    },
    handler: (request) =>
      changing(parts, request, async (transaction) => {
        const fleet = found(await lockFleet(transaction, request.params.id, 'change'))
        const { name = fleet.name, heartbeat_interval_ms = fleet.heartbeat_interval_ms } = request.body
        const changed: Record<string, { from: unknown; to: unknown }> = {}
        if (name !== fleet.name) {
          demandSiteOf(fleet, request)
          changed.name = { from: fleet.name, to: name }
        }
        if (heartbeat_interval_ms !== fleet.heartbeat_interval_ms)
          changed.heartbeat_interval_ms = { from: fleet.heartbeat_interval_ms, to: heartbeat_interval_ms }
        // Told even where nothing changed: whoever missed it the first time hears it now.
        const messages: BusMessage[] =
          request.body.heartbeat_interval_ms === undefined
            ? []
            : [{ type: 'fleet_changed', fleet_id: fleet.id }]
        if (Object.keys(changed).length === 0) return { body: toFleet(fleet), messages }
        const row = await updateFleet(transaction, fleet.id, { name, heartbeat_interval_ms }).catch(refuse)
        const audit = [audited(request, parts, deed('fleet.changed', fleet, { changed }))]
        return { body: toFleet(row), messages, audit }
      }),
  })

  app.route({
    method: 'DELETE',
    url: '/api/fleets/:id',
    config: { scope: 'robots:write', on: 'fleet', audit: ['fleet.deleted'], problems: ['not_empty'] },
    schema: {
      operationId: 'deleteFleet',
      summary: 'Delete a fleet that holds no robots, with its enrollment keys and tokens',
      description: 'The scope is needed at its site.',
      tags: ['Fleets'],
      params: byId,
      response: { 204: z.undefined().describe('Deleted') },
    },
    handler: async (request, reply) => {
      await changing(parts, request, async (transaction) => {
        const fleet = found(await lockFleet(transaction, request.params.id, 'deletion'))
        demandSiteOf(fleet, request)
        const gone = await listFleetCredentials(transaction, fleet.id)
        await deleteFleet(transaction, fleet.id).catch((error: unknown) => {
          if (violatesReference(error))
            throw new BeaconError('not_empty', 'robots are in this fleet', { cause: error })
          throw error
        })
        const data = {
          access_tokens: gone.accessTokenIds,
          claim_credentials: gone.claimCredentialIds,
          members: gone.userIds,
        }
        return {
          body: undefined,
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, deed('fleet.deleted', fleet, data))],
        }
      })
      return reply.code(204).send()
    },
  })
}
