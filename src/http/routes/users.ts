import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { type Authority, DEPLOYMENT, type RoleAt } from '../../access/authority.ts'
import { firstDoublePlace, mayAnswerFor, mayGrantAll, roleChange } from '../../access/people.ts'
import { rolesAt } from '../../access/principal.ts'
import { principalsNow } from '../../access/standing.ts'
import type { Database } from '../../db/database.ts'
import { violatedUnique } from '../../db/database.ts'
import { insertInvitation, revokeInvitations } from '../../db/invitations.ts'
import { forgetIdentities, lockSigner, removeSecondFactor } from '../../db/sign-in.ts'
import { endSignIns } from '../../db/sign-ins.ts'
import {
  countOwners,
  deleteMembership,
  eraseUser,
  type FoundUser,
  findPlaces,
  findUser,
  insertMembership,
  insertUser,
  listUsers,
  lockPeople,
  updateUser,
} from '../../db/users.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { hashToken } from '../../protocol/tokens.ts'
import { audited, type Deed } from '../audited.ts'
import { changing } from '../changing.ts'
import { decodeCursor, pageOf } from '../cursors.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { publicUrl } from '../public-url.ts'
import { reachOf } from '../reach.ts'
import { byId, component, cursor, id, idempotencyHeaders, limit, listOf, name, time } from '../schemas.ts'
import { email, rolesSchema, toRole, toUser, userSchema } from '../user-schema.ts'

const INVITATION_DAYS = 7

export const invitedSchema = component(
  'InvitedUser',
  userSchema.extend({
    invitation_token: z.string().nullable().describe('Shown only here; null in the repetition of an answer'),
    accept_url: z
      .string()
      .nullable()
      .describe('Where the invitation is accepted; the token stands behind the `#`'),
    invitation_expires_at: time,
  }),
)

type Invited = z.infer<typeof invitedSchema>

const placeSchema = z.strictObject({ list: z.literal('users'), id })

type GivenRoles = z.output<typeof rolesSchema>

/** People: who they are, what they hold, and how they come in. */
export function userRoutes(app: App, parts: HttpParts): void {
  const { config, database, random } = parts

  /**
   * Whether something is in the caller's rights, as they were when the request came and as they are now, when nobody else
   * changes people any more.
   */
  async function rights(transaction: Database, request: FastifyRequest) {
    const principal = principalOf(request)
    const [now] = await principalsNow(transaction, [principal])
    if (now instanceof BeaconError) throw now
    if (!now || now.barred) throw new BeaconError('second_factor_required')
    const both = [principal.authority, now.authority]
    return (holds: (authority: Authority) => boolean): boolean => both.every(holds)
  }

  /** Somebody whom the caller sees. */
  async function seen(db: Database, request: FastifyRequest, userId: string): Promise<FoundUser> {
    const { authority, userId: own } = principalOf(request)
    const user = await findUser(db, userId)
    const visible =
      user &&
      (authority.covers('users:manage', DEPLOYMENT) ||
        user.id === own ||
        rolesAt(user.roles).some(({ place }) => authority.covers('users:manage', place)))
    if (!visible) throw new BeaconError('not_found', 'there is no such person within your reach')
    return user
  }

  /** As `seen`, locked, for what takes everything that they hold. */
  async function owned(transaction: Database, request: FastifyRequest): Promise<FoundUser> {
    await lockPeople(transaction)
    const may = await rights(transaction, request)
    const user = await seen(transaction, request, (request.params as { id: string }).id)
    const roles = rolesAt(user.roles)
    if (!may((authority) => mayAnswerFor(authority, roles)))
      throw new BeaconError('exceeds_own_rights', 'this person holds more than you could give')
    await lockSigner(transaction, user.id)
    return user
  }

  /** The roles that a body names, at places that there are. */
  async function placed(db: Database, given: GivenRoles): Promise<RoleAt[]> {
    const ids = (key: 'site_id' | 'fleet_id') => given.flatMap((role) => role[key] ?? [])
    const known = await findPlaces(db, ids('site_id'), ids('fleet_id'))
    const roles = given.map(({ role, site_id, fleet_id }, index) => {
      if (site_id === null && fleet_id === null) return { role, place: DEPLOYMENT }
      const place = known.find(({ siteId, fleetId }) =>
        fleet_id === null ? fleetId === null && siteId === site_id : fleetId === fleet_id,
      )
      if (!place) throw unknownPlace(index, fleet_id === null ? 'site' : 'fleet')
      return { role, place }
    })
    const double = firstDoublePlace(roles)
    if (double >= 0)
      throw new BeaconError('invalid_request', 'one role at each place', {
        errors: [{ pointer: `/roles/${double}`, detail: 'there is another role at this place' }],
      })
    return roles
  }

  /** Places out of the caller's sight are not there. */
  function demandSight(request: FastifyRequest, roles: readonly RoleAt[]): void {
    const { authority } = principalOf(request)
    for (const [index, { place }] of roles.entries()) {
      if (place.siteId === null || authority.covers('users:manage', place)) continue
      if (
        place.fleetId !== null
          ? authority.covers('robots:read', place)
          : authority.touches('robots:read', place.siteId)
      )
        continue
      throw unknownPlace(index, place.fleetId === null ? 'site' : 'fleet')
    }
  }

  /** Makes an invitation, the only one that stands. */
  async function invite(transaction: Database, request: FastifyRequest, userId: string) {
    await revokeInvitations(transaction, userId)
    const token = `rf_invite_${random.bytes(32).toString('hex')}`
    const expiresAt = await insertInvitation(transaction, {
      id: newId(),
      userId,
      tokenHash: hashToken(token),
      createdBy: principalOf(request).id,
      days: INVITATION_DAYS,
    })
    return {
      invitation_token: token,
      accept_url: `${publicUrl(config, request)}/accept-invitation#${token}`,
      invitation_expires_at: expiresAt.toISOString(),
    }
  }

  const deed = (action: string, user: { id: string; name: string }, data: Deed['data'] = {}): Deed => ({
    action,
    target: { kind: 'user', id: user.id, name: user.name },
    data,
  })

  async function reread(transaction: Database, request: FastifyRequest, userId: string) {
    return toUser((await findUser(transaction, userId))!, principalOf(request).authority)
  }

  app.route({
    method: 'GET',
    url: '/api/users',
    config: { scope: 'users:manage', on: 'listed' },
    schema: {
      operationId: 'listUsers',
      summary: 'List people, the longest here first',
      description: 'Whoever manages some sites or fleets sees who has a role there, and only those roles.',
      tags: ['People'],
      querystring: z.strictObject({ limit: limit(), cursor }),
      response: { 200: listOf(userSchema) },
    },
    handler: async (request) => {
      const { query } = request
      const after = decodeCursor(query.cursor, placeSchema)
      const rows = await listUsers(database, { reach: reachOf(request), limit: query.limit + 1, after })
      const { authority } = principalOf(request)
      return pageOf(
        rows,
        query.limit,
        (user) => toUser(user, authority),
        (user) => ({ list: 'users', id: user.id }),
      )
    },
  })

  app.route({
    method: 'GET',
    url: '/api/users/:id',
    config: { scope: 'users:manage', on: 'listed' },
    schema: {
      operationId: 'getUser',
      summary: 'Get somebody',
      tags: ['People'],
      params: byId,
      response: { 200: userSchema },
    },
    handler: async (request) =>
      toUser(await seen(database, request, request.params.id), principalOf(request).authority),
  })

  app.route({
    method: 'POST',
    url: '/api/users',
    config: {
      scope: 'users:manage',
      on: 'body',
      audit: ['user.invited'],
      problems: ['exceeds_own_rights', 'email_taken', 'unknown_reference', 'cross_site_request'],
    },
    schema: {
      operationId: 'inviteUser',
      summary: 'Invite somebody; the invitation is shown only once and stands for 7 days',
      tags: ['People'],
      headers: idempotencyHeaders,
      body: z.strictObject({ name, email, roles: rolesSchema.min(1) }),
      response: { 201: invitedSchema },
    },
    handler: (request, reply) =>
      idempotently<Invited>(parts, request, reply, async (transaction) => {
        await lockPeople(transaction)
        const may = await rights(transaction, request)
        const roles = await placed(transaction, request.body.roles)
        demandSight(request, roles)
        if (!may((authority) => mayGrantAll(authority, roles))) throw new BeaconError('exceeds_own_rights')
        const user = { id: newId(), name: request.body.name, email: request.body.email }
        await insertUser(transaction, user).catch(emailTaken)
        for (const role of roles) await addRole(transaction, user.id, role)
        const invitation = await invite(transaction, request, user.id)
        const body: Invited = { ...(await reread(transaction, request, user.id)), ...invitation }
        return {
          status: 201,
          body,
          kept: { ...body, invitation_token: null, accept_url: null },
          audit: [audited(request, parts, deed('user.invited', user, { roles: roles.map(toRole) }))],
        }
      }),
  })

  app.route({
    method: 'POST',
    url: '/api/users/:id/invite',
    config: {
      scope: 'users:manage',
      on: 'body',
      audit: ['user.invited'],
      problems: ['not_found', 'exceeds_own_rights', 'email_taken', 'cross_site_request', 'unknown_reference'],
    },
    schema: {
      operationId: 'inviteUserAgain',
      summary: 'Invite somebody again: a way in for whoever has lost theirs',
      description:
        'Earlier invitations are void at once. When it is accepted, the new password takes the place of the old one and every session ends; until then nothing changes. A second factor stays unless POST /api/users/{id}/reset-second-factor takes it away. With `forget_identity`, the identity at the identity provider is forgotten at once, so that the next one with their verified email is theirs.',
      tags: ['People'],
      params: byId,
      headers: idempotencyHeaders,
      body: z
        .strictObject({ email: email.optional(), forget_identity: z.boolean().default(false) })
        .nullish(),
      response: { 201: invitedSchema },
    },
    handler: (request, reply) =>
      idempotently<Invited>(parts, request, reply, async (transaction) => {
        const user = await owned(transaction, request)
        const { email: given, forget_identity = false } = request.body ?? {}
        const changes = given !== undefined && given !== user.email
        if (changes) await updateUser(transaction, user.id, { email: given }).catch(emailTaken)
        if (given === undefined && user.email === null)
          throw new BeaconError('invalid_request', 'an email is needed to sign in', {
            errors: [{ pointer: '/email', detail: 'is needed: this person has none' }],
          })
        const forgotten = forget_identity ? await forgetIdentities(transaction, user.id) : 0
        const invitation = await invite(transaction, request, user.id)
        const body: Invited = { ...(await reread(transaction, request, user.id)), ...invitation }
        const data = {
          again: true,
          ...(changes ? { email_changed: true } : {}),
          ...(forgotten > 0 ? { identities_forgotten: forgotten } : {}),
        }
        return {
          status: 201,
          body,
          kept: { ...body, invitation_token: null, accept_url: null },
          audit: [audited(request, parts, deed('user.invited', user, data))],
        }
      }),
  })

  app.route({
    method: 'PATCH',
    url: '/api/users/:id',
    config: {
      scope: 'users:manage',
      on: 'body',
      audit: ['user.changed'],
      problems: [
        'not_found',
        'exceeds_own_rights',
        'last_owner',
        'email_taken',
        'unknown_reference',
        'cross_site_request',
      ],
    },
    schema: {
      operationId: 'updateUser',
      summary: 'Change name, email or roles',
      description:
        '`roles` are all that somebody is to hold within your reach; roles elsewhere stay. Nobody changes their own.',
      tags: ['People'],
      params: byId,
      body: z.strictObject({ name: name.optional(), email: email.optional(), roles: rolesSchema.optional() }),
      response: { 200: userSchema },
    },
    handler: (request) =>
      changing(parts, request, async (transaction) => {
        const { body } = request
        const identity = body.name !== undefined || body.email !== undefined
        await lockPeople(transaction)
        const may = await rights(transaction, request)
        const user = identity
          ? await owned(transaction, request)
          : await seen(transaction, request, request.params.id)
        const named = {
          ...(body.name !== undefined && body.name !== user.name ? { name: body.name } : {}),
          ...(body.email !== undefined && body.email !== user.email ? { email: body.email } : {}),
        }
        if (Object.keys(named).length > 0) await updateUser(transaction, user.id, named).catch(emailTaken)
        // It went to whoever reads the email before.
        if (named.email !== undefined) await revokeInvitations(transaction, user.id)
        const roles = await changeRoles(transaction, request, user, body.roles, may)
        const changed = {
          ...(named.name === undefined ? {} : { name: { from: user.name, to: named.name } }),
          ...(named.email === undefined ? {} : { email: true }),
          ...(roles.added.length > 0 ? { roles_added: roles.added.map(toRole) } : {}),
          ...(roles.removed.length > 0 ? { roles_removed: roles.removed.map(toRole) } : {}),
        }
        const isChange = Object.keys(changed).length > 0
        return {
          body: await reread(transaction, request, user.id),
          messages: roles.removed.length > 0 ? [{ type: 'access_changed' }] : [],
          audit: isChange ? [audited(request, parts, deed('user.changed', user, { changed }))] : [],
        }
      }),
  })

  async function changeRoles(
    transaction: Database,
    request: FastifyRequest,
    user: FoundUser,
    given: GivenRoles | undefined,
    may: (holds: (authority: Authority) => boolean) => boolean,
  ) {
    if (given === undefined) return { added: [], removed: [] }
    const wanted = await placed(transaction, given)
    demandSight(request, wanted)
    const principal = principalOf(request)
    const change = roleChange(principal.authority, rolesAt(user.roles), wanted)
    const { added, removed } = change
    if (added.length + removed.length === 0) return change
    if (user.id === principal.userId)
      throw new BeaconError('exceeds_own_rights', 'nobody changes their own roles: ask somebody else')
    if (!may((authority) => mayGrantAll(authority, [...added, ...removed])))
      throw new BeaconError('exceeds_own_rights')
    for (const { place } of removed) await deleteMembership(transaction, user.id, place)
    for (const role of added) await addRole(transaction, user.id, role)
    await demandOwner(transaction)
    return change
  }

  app.route({
    method: 'DELETE',
    url: '/api/users/:id',
    config: {
      scope: 'users:manage',
      on: 'body',
      audit: ['user.removed'],
      problems: ['not_found', 'exceeds_own_rights', 'last_owner', 'cross_site_request'],
    },
    schema: {
      operationId: 'removeUser',
      summary: 'Remove somebody: their tokens, sessions and email go with them',
      tags: ['People'],
      params: byId,
      response: { 204: z.undefined().describe('Removed') },
    },
    handler: async (request, reply) => {
      await changing(parts, request, async (transaction) => {
        const user = await owned(transaction, request)
        const { tokens } = await eraseUser(transaction, user.id)
        const sessions = await endSignIns(transaction, { userId: user.id })
        await demandOwner(transaction)
        const data = { tokens_revoked: tokens, sessions_ended: sessions }
        return {
          body: undefined,
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, deed('user.removed', user, data))],
        }
      })
      return reply.code(204).send()
    },
  })

  app.route({
    method: 'POST',
    url: '/api/users/:id/reset-second-factor',
    config: {
      scope: 'users:manage',
      on: 'body',
      audit: ['second_factor.reset'],
      problems: ['not_found', 'exceeds_own_rights', 'cross_site_request'],
    },
    schema: {
      operationId: 'resetSecondFactor',
      summary: 'Take away the second factor of somebody who lost it; their sessions end',
      tags: ['People'],
      params: byId,
      headers: idempotencyHeaders,
      response: { 200: userSchema },
    },
    handler: (request, reply) =>
      idempotently(parts, request, reply, async (transaction) => {
        const user = await owned(transaction, request)
        if (user.id === principalOf(request).userId)
          throw new BeaconError('exceeds_own_rights', 'nobody resets their own: remove it with a code')
        const removed = await removeSecondFactor(transaction, user.id)
        const sessions = removed ? await endSignIns(transaction, { userId: user.id }) : 0
        return {
          status: 200,
          body: await reread(transaction, request, user.id),
          messages: [{ type: 'access_changed' }],
          audit: removed
            ? [audited(request, parts, deed('second_factor.reset', user, { sessions_ended: sessions }))]
            : [],
        }
      }),
  })
}

function unknownPlace(index: number, kind: 'site' | 'fleet'): BeaconError {
  return new BeaconError('unknown_reference', `there is no such ${kind}`, {
    errors: [{ pointer: `/roles/${index}/${kind}_id`, detail: `there is no such ${kind}` }],
  })
}

function emailTaken(error: unknown): never {
  if (violatedUnique(error) === 'users_email')
    throw new BeaconError('email_taken', undefined, { cause: error })
  throw error
}

async function addRole(transaction: Database, userId: string, { role, place }: RoleAt): Promise<void> {
  await insertMembership(transaction, {
    id: newId(),
    user_id: userId,
    role,
    site_id: place.fleetId === null ? place.siteId : null,
    fleet_id: place.fleetId,
  })
}

/** With nobody else at work on people: undoes everything when there is no owner left. */
async function demandOwner(transaction: Database): Promise<void> {
  if ((await countOwners(transaction)) === 0) throw new BeaconError('last_owner')
}
