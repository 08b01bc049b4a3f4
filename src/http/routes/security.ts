import { z } from 'zod'
import {
  findSecuritySettings,
  lockSecuritySettings,
  type SecuritySettings,
  updateSecuritySettings,
} from '../../db/security-settings.ts'
import { findUser } from '../../db/users.ts'
import { BeaconError } from '../../errors.ts'
import { audited } from '../audited.ts'
import { changing } from '../changing.ts'
import { principalOf } from '../guard.ts'
import type { App, HttpParts } from '../parts.ts'
import { component, time } from '../schemas.ts'

const settings = {
  require_second_factor: z.boolean().describe('Who has no second factor may do nothing but set one up'),
  robot_token_max_age_days: z
    .number()
    .int()
    .min(1)
    .max(3650)
    .nullable()
    .describe('Robots take a new token once theirs is older; null: never'),
  rotate_on_suspicion: z
    .boolean()
    .describe('A robot takes a new token when another machine says that it is the same'),
}
export const securitySchema = component('Security', z.object({ ...settings, updated_at: time }))
const changeSchema = z.strictObject(settings).partial()

const toSecurity = ({ updated_at, ...rest }: SecuritySettings): z.infer<typeof securitySchema> => ({
  ...rest,
  updated_at: updated_at.toISOString(),
})

/** What holds for everybody. */
export function securityRoutes(app: App, parts: HttpParts): void {
  const { database } = parts

  app.route({
    method: 'GET',
    url: '/api/security',
    config: { scope: 'users:manage', on: 'deployment' },
    schema: {
      operationId: 'getSecurity',
      summary: 'Get what holds for everybody',
      tags: ['People'],
      response: { 200: securitySchema },
    },
    handler: async () => toSecurity(await findSecuritySettings(database)),
  })

  app.route({
    method: 'PATCH',
    url: '/api/security',
    config: {
      scope: 'users:manage',
      on: 'deployment',
      audit: ['security.changed'],
      problems: ['second_factor_required', 'cross_site_request'],
    },
    schema: {
      operationId: 'updateSecurity',
      summary: 'Change what holds for everybody; only an owner may',
      tags: ['People'],
      body: changeSchema,
      response: { 200: securitySchema },
    },
    handler: (request) =>
      changing(parts, request, async (transaction) => {
        if (!principalOf(request).authority.isOwner)
          throw new BeaconError('insufficient_scope', 'only an owner decides this')
        const before = await lockSecuritySettings(transaction)
        const change = Object.fromEntries(
          Object.entries(request.body).filter(
            ([key, value]) => value !== undefined && before[key as keyof typeof before] !== value,
          ),
        ) as Partial<Omit<SecuritySettings, 'updated_at'>>
        if (Object.keys(change).length === 0) return { body: toSecurity(before) }
        if (change.require_second_factor) {
          const owner = await findUser(transaction, principalOf(request).userId ?? '')
          if (!owner?.hasSecondFactor)
            throw new BeaconError('second_factor_required', 'set up your own second factor first')
        }
        const changed = Object.fromEntries(
          Object.entries(change).map(([key, to]) => [key, { from: before[key as keyof typeof before], to }]),
        )
        return {
          body: toSecurity(await updateSecuritySettings(transaction, change)),
          messages: [{ type: 'access_changed' }],
          audit: [audited(request, parts, deedOf(changed))],
        }
      }),
  })
}

const deedOf = (changed: Record<string, unknown>) => ({
  action: 'security.changed',
  target: { kind: 'security', id: 'deployment', name: null },
  data: { changed },
})
