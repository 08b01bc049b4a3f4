import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Authority } from '../../access/authority.ts'
import {
  type DecidedRobot,
  type Decision,
  decidePending,
  PENDING_FOR_MS,
  previewPending,
} from '../../claims/approvals.ts'
import { findWithinReach, listWaiting, type PendingFilter, type WaitingRobot } from '../../db/approvals.ts'
import type { Database } from '../../db/database.ts'
import { insertTimeline } from '../../db/timeline.ts'
import { BeaconError } from '../../errors.ts'
import { fingerprintSchema } from '../../protocol/enrolment.ts'
import { freeText } from '../../protocol/text.ts'
import { audited } from '../audited.ts'
import { decodeCursor, microseconds, pageOf } from '../cursors.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { actorOf, demandPendingRobot, operatorEvent, robotDeed, robotMessages } from '../robot-changes.ts'
import { CONNECTIONS } from '../robot-schema.ts'
import {
  byId,
  component,
  cursor,
  id,
  idempotencyHeaders,
  labelSelector,
  labels,
  limit,
  listOf,
  name,
  noBody,
  repeated,
  time,
} from '../schemas.ts'

/** Robots that one request decides about. */
const MAX_DECIDED = 1_000
const MAX_IDS = 500

export const waitingSchema = component(
  'WaitingRobot',
  z.object({
    id,
    name,
    site_id: id,
    fleet_id: id,
    labels,
    is_new: z
      .boolean()
      .describe(
        'When denied, the record of a new robot goes; another becomes what it was, without its new token',
      ),
    lifecycle_before: z.enum(['active', 'maintenance']).nullable().describe('What it was; null: it is new'),
    fingerprint: z
      .looseObject(fingerprintSchema.omit({ machine_id: true }).shape)
      .describe('What the machine said of itself when it enrolled'),
    address: z.string().nullable().describe('Where its last claim came from'),
    connection: z.enum(CONNECTIONS),
    credential: z
      .object({
        id,
        kind: z.enum(['enrollment_key', 'provisioning_token', 'setup_token']),
        name: name.nullable().describe('Null for those who may not read it'),
      })
      .nullable()
      .describe('What it claimed with'),
    pending_since: time,
    expires_at: time.describe('When it counts as denied'),
  }),
)

const decidedSchema = component(
  'DecidedRobot',
  z.object({
    id,
    name,
    site_id: id,
    fleet_id: id,
    credential_id: id.nullable().describe('What admitted it'),
    outcome: z
      .enum(['approved', 'removed', 'restored'])
      .describe('Restored: it is what it was before it claimed, and the token it claimed is revoked'),
  }),
)

export const decisionsSchema = component(
  'Decisions',
  z.object({
    dry_run: z.boolean(),
    robots: z.array(decidedSchema).describe('What was done, or with `dry_run` what would be'),
    skipped: z.array(z.object({ id, why: z.enum(['not_found', 'not_pending']) })),
    more: z
      .boolean()
      .describe('The filter finds further robots: send the same again, with another Idempotency-Key'),
  }),
)

const filterFields = {
  site: id.optional(),
  fleet: id.optional(),
  credential: id.optional().describe('What admitted it, or what its token came with'),
  q: freeText(128).optional().describe('Part of the name, or the beginning of the id'),
  older_than: time.optional().describe('Has waited since before this time'),
}

const decideBody = z
  .strictObject({
    ids: z.array(id).min(1).max(MAX_IDS).optional(),
    filter: z
      .strictObject({
        ...filterFields,
        label: z
          .array(labelSelector)
          .max(32)
          .optional()
          .describe('`name` or `name=value`; all have to match'),
      })
      .optional()
      .describe('An empty one finds all that wait within reach'),
    dry_run: z.boolean().default(false),
  })
  .refine((body) => (body.ids === undefined) !== (body.filter === undefined), 'takes either ids or filter')

const placeSchema = z.strictObject({ list: z.literal('approvals'), value: microseconds, id })

/** A robot that waits, as it is shown to one caller. It may have claimed with something of a fleet that they do not see. */
function toWaiting(row: WaitingRobot, authority: Authority): z.input<typeof waitingSchema> {
  const { machine_id: _, ...fingerprint } = row.fingerprint
  return {
    id: row.id,
    name: row.name,
    site_id: row.site_id,
    fleet_id: row.fleet_id,
    labels: row.labels,
    is_new: row.lifecycle_before === null,
    lifecycle_before: row.lifecycle_before,
    fingerprint,
    address: row.address,
    connection: row.connection,
    credential:
      row.credential_id === null
        ? null
        : {
            id: row.credential_id,
            kind: row.credential_kind!,
            name: authority.covers('enrollment-keys:read', {
              siteId: row.credential_site_id,
              fleetId: row.credential_fleet_id,
            })
              ? row.credential_name
              : null,
          },
    pending_since: row.pending_since.toISOString(),
    expires_at: new Date(row.pending_since.getTime() + PENDING_FOR_MS).toISOString(),
  }
}

function toDecided(robot: DecidedRobot): z.infer<typeof decidedSchema> {
  const { lifecycle_before: _, ...shown } = robot
  return shown
}

function filterOf(request: FastifyRequest, body: z.output<typeof decideBody>): PendingFilter {
  const { site, fleet, credential, q, older_than, label } = body.filter ?? {}
  return {
    reach: reachOf(request),
    ids: body.ids,
    site,
    fleet,
    credential,
    labels: label,
    text: q,
    olderThan: older_than === undefined ? undefined : new Date(older_than),
  }
}

const VERBS = { approve: 'robot.approved', deny: 'robot.denied' } as const

/** Decides about robots in the transaction, writes it into their timelines, and answers with what is left to be told. */
async function decide(
  parts: HttpParts,
  request: FastifyRequest,
  transaction: Database,
  decision: Decision,
  filter: PendingFilter,
) {
  const { robots, more } = await decidePending(transaction, decision, filter, MAX_DECIDED)
  const actor = actorOf(request, parts)
  // Of a robot that was removed nothing is kept.
  await insertTimeline(
    transaction,
    robots.map(({ id }) =>
      operatorEvent(
        id,
        actor,
        decision === 'approve'
          ? { code: 'approved', message: 'Approved' }
          : { code: 'denied', level: 'warn', message: 'Denied: its new token stands no more' },
      ),
    ),
  )
  const ids = robots.map(({ id }) => id)
  return {
    robots,
    more,
    messages: robotMessages(decision === 'approve' ? 'robots_changed' : 'robots_denied', ids),
    audit: robots.map((robot) => {
      const { outcome, credential_id } = robot
      return audited(request, parts, robotDeed(VERBS[decision], robot, { outcome, credential_id }))
    }),
  }
}

/** Those of the ids that a person named and nothing is done about. */
async function skippedOf(
  database: Database,
  { ids = [], reach }: PendingFilter,
  robots: readonly DecidedRobot[],
): Promise<{ id: string; why: 'not_found' | 'not_pending' }[]> {
  const done = new Set(robots.map(({ id }) => id))
  const left = [...new Set(ids)].filter((id) => !done.has(id))
  if (left.length === 0) return []
  const seen = new Set(await findWithinReach(database, left, reach))
  return left.map((id) => ({ id, why: seen.has(id) ? 'not_pending' : 'not_found' }))
}

export function approvalRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'GET',
    url: '/api/approvals',
    config: { scope: 'robots:read', on: 'listed' },
    schema: {
      operationId: 'listApprovals',
      summary: 'List the robots that wait for approval, longest first',
      tags: ['Approvals'],
      querystring: z.strictObject({
        ...filterFields,
        label: repeated(labelSelector)
          .optional()
          .describe('`name` or `name=value`; all of them have to match'),
        limit: limit(),
        cursor,
      }),
      response: { 200: listOf(waitingSchema) },
    },
    handler: async (request) => {
      const { limit, cursor, label, q, older_than, ...rest } = request.query
      const rows = await listWaiting(
        database,
        {
          ...rest,
          reach: reachOf(request),
          labels: label,
          text: q,
          olderThan: older_than === undefined ? undefined : new Date(older_than),
        },
        { limit: limit + 1, after: decodeCursor(cursor, placeSchema) },
      )
      const { authority } = principalOf(request)
      return pageOf(
        rows,
        limit,
        (row) => toWaiting(row, authority),
        ({ place_value, id }) => ({ list: 'approvals', value: place_value, id }),
      )
    },
  })

  for (const decision of ['approve', 'deny'] as const)
    app.route({
      method: 'POST',
      url: `/api/approvals/${decision}`,
      config: { scope: 'robots:write', on: 'listed', audit: [VERBS[decision]] },
      schema: {
        operationId: decision === 'approve' ? 'approveRobots' : 'denyRobots',
        summary: decision === 'approve' ? 'Approve many robots that wait' : 'Deny many robots that wait',
        description: `Those named by \`ids\`, or those that \`filter\` finds, at most ${MAX_DECIDED} at a time and within the caller's reach. Robots that were decided about before are left out. With \`dry_run\` nothing is done.`,
        tags: ['Approvals'],
        headers: idempotencyHeaders,
        body: decideBody,
        response: { 200: decisionsSchema },
      },
      handler: (request, reply) =>
        idempotently(parts, request, reply, async (transaction) => {
          const { dry_run } = request.body
          const filter = filterOf(request, request.body)
          const { robots, more, ...told } = dry_run
            ? await previewPending(transaction, decision, filter, MAX_DECIDED)
            : await decide(parts, request, transaction, decision, filter)
          const skipped = await skippedOf(transaction, filter, robots)
          return { status: 200, body: { dry_run, robots: robots.map(toDecided), skipped, more }, ...told }
        }),
    })

  app.route({
    method: 'POST',
    url: '/api/robots/:id/deny',
    config: {
      scope: 'robots:write',
      on: 'robot',
      audit: ['robot.denied'],
      problems: ['robot_is_retired', 'robot_not_pending'],
    },
    schema: {
      operationId: 'denyRobot',
      summary: 'Send a robot away that waits for approval',
      description:
        'The record of a robot that is new goes, and the key that admitted it gets its use back. One that was there before becomes what it was, and the token that it claimed is revoked. Its session ends at once.',
      tags: ['Approvals'],
      headers: idempotencyHeaders,
      params: byId,
      body: noBody,
      response: { 200: decidedSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { authority } = actorOf(request, parts).principal
        const filter = { reach: authority.reach('robots:write'), ids: [request.params.id] }
        const { robots, messages, audit } = await decide(parts, request, transaction, 'deny', filter)
        const [robot] = robots
        if (!robot) {
          await demandPendingRobot(transaction, request.params.id, actorOf(request, parts))
          throw new BeaconError('robot_not_pending')
        }
        return { status: 200, body: toDecided(robot), messages, audit }
      }),
  })
}
