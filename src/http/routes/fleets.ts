import { z } from 'zod'
import { violatedUnique } from '../../db/database.ts'
import { deleteFleet, findFleet, insertFleet, listFleets, updateFleet } from '../../db/fleets.ts'
import { violatesReference } from '../../db/references.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { MAX_HEARTBEAT_INTERVAL_MS, MIN_HEARTBEAT_INTERVAL_MS } from '../../protocol/limits.ts'
import { decodeCursor, pageOf } from '../cursors.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { unknownReference } from '../references.ts'
import { byId, component, cursor, id, idempotencyHeaders, limit, listOf, name, time } from '../schemas.ts'

const interval = z
  .number()
  .int()
  .min(MIN_HEARTBEAT_INTERVAL_MS)
  .max(MAX_HEARTBEAT_INTERVAL_MS)
  .nullable()
  .describe('How often its robots send a heartbeat; null: as often as the deployment says')

const fleetSchema = component(
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

function found(row: Row | undefined): Row {
  if (!row) throw new BeaconError('not_found', 'there is no such fleet')
  return row
}

export function fleetRoutes(app: App, parts: HttpParts): void {
  const { database, bus } = parts

  app.route({
    method: 'POST',
    url: '/api/fleets',
    config: { scope: 'robots:write', on: 'body', problems: ['name_taken', 'unknown_reference'] },
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
        const row = await insertFleet(transaction, { id: newId(), ...request.body }).catch(refuse)
        return { status: 201, body: toFleet(row) }
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
    handler: async ({ query }) => {
      const after = decodeCursor(query.cursor, placeSchema)
      const rows = await listFleets(database, { site: query.site, limit: query.limit + 1, after })
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
    config: { scope: 'robots:write', on: 'fleet', problems: ['name_taken'] },
    schema: {
      operationId: 'updateFleet',
      summary: 'Rename a fleet, or change how often its robots report',
      tags: ['Fleets'],
      params: byId,
      body: z.strictObject({ name: name.optional(), heartbeat_interval_ms: interval.optional() }),
      response: { 200: fleetSchema },
    },
    handler: async ({ params, body }) => {
      const { name, heartbeat_interval_ms } = body
      const row = await updateFleet(database, params.id, {
        ...(name === undefined ? {} : { name }),
        ...(heartbeat_interval_ms === undefined ? {} : { heartbeat_interval_ms }),
      }).catch(refuse)
      const fleet = toFleet(found(row))
      if (heartbeat_interval_ms !== undefined)
        await bus.publish({ type: 'fleet_changed', fleet_id: fleet.id })
      return fleet
    },
  })

  app.route({
    method: 'DELETE',
    url: '/api/fleets/:id',
    config: { scope: 'robots:write', on: 'fleet', problems: ['not_empty'] },
    schema: {
      operationId: 'deleteFleet',
      summary: 'Delete a fleet that holds no robots, and its enrollment keys',
      tags: ['Fleets'],
      params: byId,
      response: { 204: z.undefined().describe('Deleted') },
    },
    handler: async ({ params }, reply) => {
      const deleted = await deleteFleet(database, params.id).catch((error: unknown) => {
        if (violatesReference(error))
          throw new BeaconError('not_empty', 'robots are in this fleet', { cause: error })
        throw error
      })
      if (!deleted) throw new BeaconError('not_found', 'there is no such fleet')
      return reply.code(204).send()
    },
  })
}
