import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { DEPLOYMENT, type Place } from '../../access/authority.ts'
import { demandStillThere } from '../../access/minting.ts'
import { demandScope, type Principal, rolesAt } from '../../access/principal.ts'
import type { Scope } from '../../access/scopes.ts'
import type { AuditEntry } from '../../db/audit.ts'
import type { Database } from '../../db/database.ts'
import { findFleet } from '../../db/fleets.ts'
import {
  CREDENTIAL_GROUPS,
  type CredentialGroup,
  type Extent,
  endCredentials,
  type StandingCredential,
  standingCredentials,
} from '../../db/revoke-all.ts'
import { insertTimeline } from '../../db/timeline.ts'
import { lockOutMinting } from '../../db/token-changes.ts'
import { findUser, lockPeople } from '../../db/users.ts'
import { BeaconError } from '../../errors.ts'
import { audited } from '../audited.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { unknownReference } from '../references.ts'
import { actorOf, operatorEvent, robotMessages } from '../robot-changes.ts'
import { component, id, idempotencyHeaders } from '../schemas.ts'
import { invalidRequest } from '../validation.ts'

/** What goes when nothing is said of it, and what may be asked for. */
const GROUPS = {
  user: { preset: ['personal_tokens', 'sign_in_sessions', 'invitations'], more: [] },
  fleet: {
    preset: ['fleet_tokens', 'enrollment_keys', 'provisioning_tokens', 'setup_tokens'],
    more: ['robots'],
  },
  deployment: {
    preset: [
      'personal_tokens',
      'fleet_tokens',
      'enrollment_keys',
      'provisioning_tokens',
      'setup_tokens',
      'sign_in_sessions',
      'invitations',
    ],
    more: ['robots'],
  },
} as const satisfies Record<string, { preset: readonly CredentialGroup[]; more: readonly CredentialGroup[] }>

/** What has to be held at a fleet or for the deployment to take these away. */
const NEEDED: Readonly<Record<CredentialGroup, Scope>> = {
  personal_tokens: 'users:manage',
  fleet_tokens: 'tokens:manage',
  enrollment_keys: 'enrollment-keys:write',
  provisioning_tokens: 'enrollment-keys:write',
  setup_tokens: 'enrollment-keys:write',
  sign_in_sessions: 'users:manage',
  invitations: 'users:manage',
  robots: 'robots:write',
}

const MAX_LISTED = 100
const IDS_PER_ENTRY = 500

const group = z.enum(CREDENTIAL_GROUPS)
const groups = z.array(group).min(1).max(CREDENTIAL_GROUPS.length)

const of = z.union(
  [
    z.strictObject({ user_id: id }),
    z.strictObject({ fleet_id: id }),
    z.strictObject({ deployment: z.literal(true) }),
  ],
  'must be {"user_id": …}, {"fleet_id": …} or {"deployment": true}',
)

const requestSchema = z.strictObject({
  of,
  include: groups.optional().describe('What goes besides what goes anyway: `robots`'),
  only: groups.optional().describe('Nothing but these'),
  except_current: z.boolean().default(false).describe('Leave the token or session that asks'),
  dry_run: z.boolean().default(false).describe('Change nothing, and say what would go'),
})
type Request = z.output<typeof requestSchema>

const listed = z.object({
  count: z.number().int(),
  items: z
    .array(
      z.object({
        id,
        name: z.string().nullable(),
        last_four: z.string().nullable(),
        user_id: id.nullable(),
        fleet_id: id.nullable(),
      }),
    )
    .describe(`At most ${MAX_LISTED}; the count is of all`),
})

export const revokedAllSchema = component(
  'RevokedAll',
  z.object({
    dry_run: z.boolean(),
    total: z.number().int(),
    includes_current: z.boolean().describe('Whether the token or session that asks is among them'),
    revoked: z
      .object(Object.fromEntries(CREDENTIAL_GROUPS.map((name) => [name, listed.optional()])))
      .describe('What went, or would go'),
  }),
)

/** What is to go, and what the caller has to hold for it. */
interface Order {
  readonly extent: Extent
  readonly groups: readonly CredentialGroup[]
  readonly target: NonNullable<AuditEntry['target']>
  readonly place: Place
}

function groupsOf(kind: keyof typeof GROUPS, { include = [], only }: Request): CredentialGroup[] {
  const { preset, more } = GROUPS[kind]
  const possible: readonly CredentialGroup[] = [...preset, ...more]
  for (const [field, asked] of Object.entries({ include, only: only ?? [] }))
    asked.forEach((name, index) => {
      if (!possible.includes(name))
        throw invalidRequest([{ pointer: `/${field}/${index}`, detail: `there are none of a ${kind}` }])
    })
  return possible.filter((name) =>
    only ? only.includes(name) : include.includes(name) || (preset as readonly string[]).includes(name),
  )
}

/** What is asked for, when the caller may. What they may not see is not there. */
async function orderOf(database: Database, principal: Principal, request: Request): Promise<Order> {
  const { of } = request
  const { authority } = principal
  if ('user_id' in of) {
    const person = await findUser(database, of.user_id)
    const roles = rolesAt(person?.roles ?? [])
    const isSelf = of.user_id === principal.userId
    if (!person || !(isSelf || authority.seesRolesOf(roles))) throw unknownReference('/of/user_id', 'person')
    const may = isSelf
      ? principal.kind === 'session' || authority.holds('tokens:manage') || authority.manages(roles)
      : authority.manages(roles)
    if (!may) throw new BeaconError('insufficient_scope', 'you do not manage this person')
    return {
      extent: { userId: of.user_id },
      groups: groupsOf('user', request),
      target: { kind: 'user', id: of.user_id, name: person.name },
      place: DEPLOYMENT,
    }
  }
  if ('fleet_id' in of) {
    const fleet = await findFleet(database, of.fleet_id)
    const place = { siteId: fleet?.site_id ?? null, fleetId: of.fleet_id }
    if (!fleet || !authority.covers('robots:read', place)) throw unknownReference('/of/fleet_id', 'fleet')
    const asked = groupsOf('fleet', request)
    for (const name of asked) demandScope(principal, NEEDED[name], place)
    return {
      extent: { fleetId: fleet.id },
      groups: asked,
      target: { kind: 'fleet', id: fleet.id, name: fleet.name },
      place,
    }
  }
  if (!authority.isOwner) throw new BeaconError('insufficient_scope', 'an owner has to do this')
  const asked = groupsOf('deployment', request)
  for (const name of asked) demandScope(principal, NEEDED[name], DEPLOYMENT)
  demandScope(principal, 'tokens:manage', DEPLOYMENT)
  return {
    extent: 'deployment',
    groups: asked,
    target: { kind: 'deployment', id: 'deployment', name: null },
    place: DEPLOYMENT,
  }
}

type Found = readonly { readonly group: CredentialGroup; readonly items: readonly StandingCredential[] }[]

/** The lines of the audit log: how many went, and the ids of all, so many to a line. */
function entriesOf(
  request: FastifyRequest,
  parts: Pick<HttpParts, 'clock'>,
  { target, place }: Order,
  found: Found,
): AuditEntry[] {
  const action = 'credentials.revoked_all'
  const counts = Object.fromEntries(found.map(({ group, items }) => [group, items.length]))
  const lines: Record<string, unknown>[] = [{ counts }]
  for (const { group, items } of found)
    for (let start = 0; start < items.length; start += IDS_PER_ENTRY)
      lines.push({ group, ids: items.slice(start, start + IDS_PER_ENTRY).map((item) => item.id) })
  return lines.map((data) => audited(request, parts, { action, target, place, data }))
}

/** One answer to a leak: everything of a person, a fleet or the deployment goes at once. */
export function revokeAllRoutes(app: App, parts: HttpParts): void {
  app.route({
    method: 'POST',
    url: '/api/tokens/revoke-all',
    config: {
      scope: 'person',
      audit: ['credentials.revoked_all'],
      problems: ['unknown_reference'],
    },
    schema: {
      operationId: 'revokeAllTokens',
      summary: 'Revoke everything of a person, a fleet or the deployment',
      description:
        'Of a person: their tokens, the sessions in which they are signed in, and invitations that nobody accepted yet. Of a fleet: its tokens and all that robots enrol with. Of the deployment, for owners: all of that. Robots keep their tokens unless `include` names them. With `dry_run` nothing goes, and the answer says what would.',
      tags: ['Tokens'],
      headers: idempotencyHeaders,
      body: requestSchema,
      response: { 200: revokedAllSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const { body } = request
        const hold = !body.dry_run
        if (hold) {
          await lockOutMinting(transaction)
          await lockPeople(transaction)
        }
        // Somebody else may have revoked everything, this caller included, a moment ago.
        const principal = await demandStillThere(transaction, principalOf(request))
        const order = await orderOf(transaction, principal, body)
        const current = principal.kind === 'session' ? principal.sessionId : principal.id
        const choice = { extent: order.extent, except: body.except_current ? current : undefined, hold }
        const found: { group: CredentialGroup; items: StandingCredential[] }[] = []
        // Claim credentials before robots: robots that a claim in flight admits are there by then.
        for (const group of CREDENTIAL_GROUPS.filter((name) => order.groups.includes(name)))
          found.push({ group, items: await standingCredentials(transaction, group, choice) })
        const answer = {
          dry_run: body.dry_run,
          total: found.reduce((sum, { items }) => sum + items.length, 0),
          includes_current: found.some(({ items }) => items.some((item) => item.id === current)),
          revoked: Object.fromEntries(
            found.map(({ group, items }) => [
              group,
              { count: items.length, items: items.slice(0, MAX_LISTED) },
            ]),
          ),
        }
        if (body.dry_run) return { status: 200, body: answer }
        for (const { group, items } of found)
          await endCredentials(
            transaction,
            group,
            items.map((item) => item.id),
          )
        const robots = found.find(({ group }) => group === 'robots')?.items.map((item) => item.id) ?? []
        const actor = actorOf(request, parts)
        await insertTimeline(
          transaction,
          robots.map((robotId) =>
            operatorEvent(robotId, actor, {
              code: 'token_revoked',
              level: 'warn',
              message: 'Token revoked together with everything else',
            }),
          ),
        )
        return {
          status: 200,
          body: answer,
          messages: [{ type: 'access_changed' }, ...robotMessages('robots_revoked', robots)],
          audit: entriesOf(request, parts, order, found),
        }
      }),
  })
}
