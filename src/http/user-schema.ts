import { z } from 'zod'
import type { Authority, RoleAt } from '../access/authority.ts'
import { ROLES } from '../access/scopes.ts'
import type { FoundUser } from '../db/users.ts'
import { component, id, name, time } from './schemas.ts'

export const roleSchema = z
  .strictObject({
    role: z.enum(ROLES),
    site_id: id.nullable().default(null).describe('Null, and so is fleet_id: the whole deployment'),
    fleet_id: id.nullable().default(null),
  })
  .refine(({ site_id, fleet_id }) => site_id === null || fleet_id === null, {
    path: ['fleet_id'],
    message: 'a role is at a site or at a fleet',
  })
  .refine(({ role, site_id, fleet_id }) => role !== 'owner' || (site_id === null && fleet_id === null), {
    path: ['role'],
    message: 'an owner is one of the whole deployment',
  })

export const rolesSchema = z.array(roleSchema).max(100)

/** As people type it and providers say it: compared without case. */
export const email = z
  .string()
  .trim()
  .max(254)
  .regex(/^[^\s@"<>(),:;\\[\]]{1,64}@[^\s@"<>(),:;\\[\]]+$/, 'must be an email address')
  .refine((text) => text.isWellFormed() && !/\p{C}/u.test(text), 'must not hold control characters')
  .transform((text) => text.normalize('NFC').toLowerCase())

export const userSchema = component(
  'User',
  z.object({
    id,
    name,
    email: z.string().nullable(),
    roles: z
      .array(z.object({ role: z.enum(ROLES), site_id: id.nullable(), fleet_id: id.nullable() }))
      .describe('Those within your reach'),
    status: z
      .enum(['active', 'invited', 'without_sign_in'])
      .describe('`without_sign_in`: has neither a password nor an identity, and no invitation stands'),
    second_factor: z.boolean(),
    invited_until: time.nullable(),
    created_at: time,
    last_signed_in_at: time.nullable(),
  }),
)

export const toRole = ({ role, place }: RoleAt) => ({
  role,
  site_id: place.fleetId === null ? place.siteId : null,
  fleet_id: place.fleetId,
})

/** Somebody as the caller may see them. */
export function toUser(user: FoundUser, authority: Authority): z.infer<typeof userSchema> {
  const roles = user.roles.map(({ role, siteId, fleetId }) => ({ role, place: { siteId, fleetId } }))
  return {
    id: user.id,
    name: user.name,
    email: user.email,
    roles: roles.filter(({ place }) => authority.covers('users:manage', place)).map(toRole),
    status:
      user.hasPassword || user.hasIdentity ? 'active' : user.invitedUntil ? 'invited' : 'without_sign_in',
    second_factor: user.hasSecondFactor,
    invited_until: user.invitedUntil?.toISOString() ?? null,
    created_at: user.createdAt.toISOString(),
    last_signed_in_at: user.lastSignedInAt?.toISOString() ?? null,
  }
}
