import { Readable } from 'node:stream'
import { z } from 'zod'
import { DEPLOYMENT, type Reach } from '../../access/authority.ts'
import { canonicalAddress } from '../../addresses.ts'
import { type Link, verifyAudit } from '../../audit/verify.ts'
import { insertAudit } from '../../db/audit.ts'
import { readAuditEnds } from '../../db/audit-chain.ts'
import { type AuditFilter, type AuditLine, listAudit, readAudit } from '../../db/audit-list.ts'
import type { Database } from '../../db/database.ts'
import { instant } from '../../protocol/frames.ts'
import { freeText } from '../../protocol/text.ts'
import { auditLineSchema, EXPORT_FORMATS, toAuditLine } from '../audit-lines.ts'
import { audited } from '../audited.ts'
import { cidr } from '../cidrs.ts'
import { decodeCursor, encodeCursor, pageOf } from '../cursors.ts'
import { principalOf } from '../guard.ts'
import type { App, HttpParts } from '../parts.ts'
import { reachOf } from '../reach.ts'
import { component, cursor, id, limit, listOf, repeated } from '../schemas.ts'
import { invalidRequest } from '../validation.ts'

const ACTOR_KINDS = [
  'user',
  'personal_token',
  'fleet_token',
  'claim_credential',
  'robot',
  'server',
  'anonymous',
] as const

const action = z
  .string()
  .max(100)
  .regex(/^[a-z_]+\.([a-z_]+)?$/, 'must be an action like robot.retired, or a beginning like robot.')

const filters = {
  action: repeated(action).optional().describe('`robot.retired`; `robot.` for all that begin so'),
  outcome: z.enum(['ok', 'refused']).optional(),
  actor: z
    .union([id, z.enum(ACTOR_KINDS)])
    .optional()
    .describe('An id, or a kind of actors'),
  user: id.optional().describe('What this person did, what their tokens did, and what was done to them'),
  target: freeText(200).min(1).optional().describe('The id of a thing'),
  site: id.optional(),
  fleet: id.optional(),
  request_id: freeText(128).min(1).optional(),
  address: cidr.optional().describe('An address, or a range in CIDR form'),
  from: instant.optional(),
  to: instant.optional().describe('Not included'),
  q: freeText(100).min(1).optional().describe('Part of the name of an actor or target'),
}

const filterSchema = z.object(filters)

function filterOf(query: z.output<typeof filterSchema>, reach: Reach): AuditFilter {
  const { actor } = query
  const isKind = (ACTOR_KINDS as readonly (string | undefined)[]).includes(actor)
  const filter = {
    reach,
    actions: query.action,
    outcome: query.outcome,
    actor: isKind ? undefined : actor,
    actorKind: isKind ? actor : undefined,
    userId: query.user,
    target: query.target,
    siteId: query.site,
    fleetId: query.fleet,
    requestId: query.request_id,
    address: query.address === undefined ? undefined : (canonicalAddress(query.address) ?? query.address),
    from: query.from === undefined ? undefined : new Date(query.from),
    to: query.to === undefined ? undefined : new Date(query.to),
    text: query.q,
  }
  if (filter.from && filter.to && filter.from >= filter.to)
    throw invalidRequest([{ pointer: '?from', detail: 'must lie before `to`' }])
  return filter
}

const place = z.strictObject({ list: z.literal('audit'), seq: z.number().int().min(1) })

const EXPORT_BATCH = 500

/** All lines that match, in batches, up to the newest of the moment it began. */
async function* batches(database: Database, filter: AuditFilter, upTo: number): AsyncGenerator<AuditLine[]> {
  for (let after = 0; ; ) {
    const lines = await readAudit(database, filter, { limit: EXPORT_BATCH, after, upTo })
    if (lines.length > 0) yield lines
    if (lines.length < EXPORT_BATCH) return
    after = lines.at(-1)!.seq
  }
}

const HASH = /^[0-9a-f]{64}$/
const MAX_SEQ = Number.MAX_SAFE_INTEGER

const linkSchema = component('AuditLink', z.object({ seq: z.number().int(), hash: z.string() }))

const noted = z
  .string()
  .max(100)
  .transform((text): Link => {
    const [seq = '', hash = ''] = text.split(':', 2)
    return { seq: /^\d{1,16}$/.test(seq) ? Number(seq) : Number.NaN, hash: hash.toLowerCase() }
  })
  .refine(
    ({ seq, hash }) => seq <= MAX_SEQ && HASH.test(hash),
    'must be a line’s number and hash: 123:9f86d0…',
  )

const verifyPlace = z.strictObject({
  list: z.literal('audit_verify'),
  seq: z.number().int().min(0),
  hash: z.string().regex(HASH),
})

/** Lines that one request looks at: some seconds’ worth at the most. */
const MAX_VERIFIED = 20_000

export const verificationSchema = component(
  'AuditVerification',
  z.object({
    checked: z.number().int().describe('Lines that this request found right'),
    head: linkSchema.nullable().describe('The newest line, to be noted elsewhere; null: it is gone'),
    finding: z
      .object({
        seq: z.number().int().describe('The first number that is wrong'),
        flaw: z.enum([
          'line_changed',
          'lines_missing',
          'line_replaced',
          'line_added',
          'end_missing',
          'head_changed',
          'not_as_noted',
          'unguarded',
        ]),
        detail: z.string(),
      })
      .nullable()
      .describe('What is wrong; null: nothing so far'),
    next_cursor: z
      .string()
      .nullable()
      .describe('Where to go on; null: the end of the log was reached, or a fault'),
  }),
)

export function auditRoutes(app: App, parts: HttpParts): void {
  const { database, log, standing } = parts

  app.route({
    method: 'GET',
    url: '/api/audit',
    config: { scope: 'audit:read', on: 'listed' },
    schema: {
      operationId: 'listAudit',
      summary: 'List the audit log, newest first',
      description:
        'Whoever holds `audit:read` in some sites or fleets sees the lines of these; those of no place only who holds it for the whole deployment.',
      tags: ['Audit'],
      querystring: z.strictObject({ ...filters, limit: limit(), cursor }),
      response: { 200: listOf(auditLineSchema) },
    },
    handler: async (request) => {
      const { query } = request
      const before = decodeCursor(query.cursor, place)?.seq
      const filter = filterOf(query, reachOf(request))
      const rows = await listAudit(database, filter, { limit: query.limit + 1, before })
      return pageOf(rows, query.limit, toAuditLine, ({ seq }) => ({ list: 'audit', seq }))
    },
  })

  app.route({
    method: 'GET',
    url: '/api/audit/export',
    config: { scope: 'audit:read', on: 'listed', audit: ['audit.exported'] },
    schema: {
      operationId: 'exportAudit',
      summary: 'Export the audit log, oldest first, as NDJSON or CSV',
      description:
        'Everything that matches and was there when the request came, in one answer. In CSV, a text that a spreadsheet would take for a formula has an apostrophe in front.',
      tags: ['Audit'],
      querystring: z.strictObject({ ...filters, format: z.enum(['ndjson', 'csv']).default('ndjson') }),
      response: {
        200: {
          description: 'One line of the log in each line',
          content: {
            'application/x-ndjson': { schema: z.string() },
            'text/csv': { schema: z.string() },
          },
        },
      },
    },
    handler: async (request, reply) => {
      const { format, ...query } = request.query
      const reach = reachOf(request)
      const filter = filterOf(query, reach)
      const upTo = (await readAuditEnds(database)).highest ?? 0
      const target = { kind: 'audit_log', id: 'audit_log', name: null }
      const data = { format, filter: query }
      await insertAudit(database, [
        audited(request, parts, { action: 'audit.exported', target, place: DEPLOYMENT, data }),
      ])
      const { type, begin, lines } = EXPORT_FORMATS[format]
      async function* text() {
        if (begin() !== '') yield begin()
        try {
          for await (const batch of batches(database, filter, upTo)) yield lines(batch)
        } catch (err) {
          // The answer has begun: all that is left is to break it off, so that nobody takes it for the whole.
          log.warn({ err, request_id: request.id }, 'an export of the audit log was broken off')
          throw err
        }
      }
      reply.type(type).header('content-disposition', `attachment; filename="beacon-audit.${format}"`)
      const stream = Readable.from(text(), { objectMode: false, highWaterMark: 64 * 1024 })
      // A large one takes minutes: it is broken off when whoever asked for it may no longer read all of it.
      const release = standing.watch({
        principal: principalOf(request),
        mayGoOn: (authority) => authority.stillReaches('audit:read', reach),
        onEnd(why) {
          log.info({ code: why.code, request_id: request.id }, 'an export of the audit log was ended')
          stream.destroy(why)
        },
      })
      stream.once('close', release)
      return reply.send(stream as unknown as string)
    },
  })

  app.route({
    method: 'GET',
    url: '/api/audit/verify',
    config: { scope: 'audit:read', on: 'deployment' },
    schema: {
      operationId: 'verifyAudit',
      summary: 'Recompute the hashes of the audit log',
      description: `At most ${MAX_VERIFIED} lines in one answer; \`next_cursor\` goes on. A server that is not to be trusted cannot be asked whether it is: \`beacon audit verify --direct\` looks at the database itself.`,
      tags: ['Audit'],
      querystring: z.strictObject({
        expect: noted.optional().describe('`seq:hash` of a line, as noted some time ago'),
        cursor,
      }),
      response: { 200: verificationSchema },
    },
    handler: async ({ query }) => {
      const from = decodeCursor(query.cursor, verifyPlace)
      const after = from && { seq: from.seq, hash: from.hash }
      const options = { after, maxLines: MAX_VERIFIED, noted: query.expect }
      const { checked, head, finding, next } = await verifyAudit(database, options)
      return {
        checked,
        head: head ?? null,
        finding: finding ?? null,
        next_cursor: next ? encodeCursor({ list: 'audit_verify', seq: next.seq, hash: next.hash }) : null,
      }
    },
  })
}
