import { z } from 'zod'
import { actorOfPrincipal } from '../../access/principal.ts'
import type { KeyStanding, SecretsStatus } from '../../access/secret-rotation.ts'
import { SEALED_KINDS, type SealedKind } from '../../db/sealed.ts'
import { BeaconError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { audited } from '../audited.ts'
import { principalOf } from '../guard.ts'
import { idempotently } from '../idempotency.ts'
import type { App, HttpParts } from '../parts.ts'
import { component, idempotencyHeaders } from '../schemas.ts'

const counts = z.object(
  Object.fromEntries(SEALED_KINDS.map((kind) => [kind, z.number().int()])) as Record<SealedKind, z.ZodNumber>,
)

const secretsSchema = component(
  'Secrets',
  z.object({
    source: z
      .enum(['file', 'settings'])
      .describe('Where the key is from: `secret.key` in the data folder, or `BEACON_SECRET_KEY`'),
    keys: z.array(
      z.object({
        key_id: z.string().describe('Names the key and tells nothing of it'),
        standing: z
          .enum(['current', 'older', 'missing'])
          .describe(
            '`current` seals, `older` only open; what a `missing` one sealed, this server cannot read',
          ),
        sealed: counts.describe('How much it has sealed'),
      }),
    ),
    rotation: z
      .object({
        state: z.enum(['running', 'finished', 'failed']),
        resealed: z.number().int(),
        unreadable: z.number().int().describe('What does not open although its key is here'),
        keys_removed: z.number().int(),
      })
      .nullable()
      .describe('What this server is doing, or did last, since it started'),
  }),
)

function toKey({ keyId, standing, sealed }: KeyStanding) {
  return { key_id: keyId, standing, sealed }
}

function toSecrets({ source, keys, rotation }: SecretsStatus): z.infer<typeof secretsSchema> {
  return {
    source,
    keys: keys.map(toKey),
    rotation: rotation && {
      state: rotation.state,
      resealed: rotation.resealed,
      unreadable: rotation.unreadable,
      keys_removed: rotation.keysRemoved,
    },
  }
}

/** The key that secrets are sealed with. */
export function secretRoutes(app: App, parts: HttpParts): void {
  const { clock, secrets } = parts

  app.route({
    method: 'GET',
    url: '/api/secrets',
    config: { scope: 'tokens:manage', on: 'deployment' },
    schema: {
      operationId: 'getSecrets',
      summary: 'Which keys seal secrets, and how much each has sealed',
      tags: ['Secrets'],
      response: { 200: secretsSchema },
    },
    handler: async () => toSecrets(await secrets.status()),
  })

  app.route({
    method: 'POST',
    url: '/api/secrets/rotate',
    config: {
      scope: 'tokens:manage',
      on: 'deployment',
      audit: ['secret_key.added', 'secret_key.rotated'],
      problems: ['secret_key_in_settings'],
    },
    schema: {
      operationId: 'rotateSecrets',
      summary: 'Take a new key, and seal everything anew with it',
      description:
        'For owners. The new key is in use when the answer comes; the rest is done in the background, and `GET /api/secrets` tells how far it is. When nothing is sealed with the older keys any more, they are taken away. Where the settings give the key, they have to give the new one before.',
      tags: ['Secrets'],
      headers: idempotencyHeaders,
      body: z
        .strictObject({
          keep_old: z.boolean().default(false).describe('Keep the older keys, to read backups with'),
        })
        .nullable(),
      response: { 200: secretsSchema },
    },
    handler: async (request, reply) => {
      const principal = principalOf(request)
      if (!principal.authority.isOwner)
        throw new BeaconError('insufficient_scope', 'only an owner may change the key')
      const target = { kind: 'secret_key', id: 'deployment', name: null }
      const keepOld = request.body?.keep_old ?? false
      const answer = await idempotently(parts, request, reply, async (transaction) => {
        await secrets.takeNewKey(transaction, { keepOld })
        const audit = [
          audited(request, parts, { action: 'secret_key.added', target, data: { keep_old: keepOld } }),
        ]
        return { status: 200, body: toSecrets(await secrets.status()), audit }
      })
      // After a repetition, too: the first may have died before it began.
      const { id: requestId, ip: address } = request
      secrets.sealAnew({
        keepOld,
        deed: (data) => ({
          id: newId(),
          at: new Date(clock.now()),
          action: 'secret_key.rotated',
          outcome: 'ok',
          actor: actorOfPrincipal(principal),
          target,
          siteId: null,
          fleetId: null,
          requestId,
          address,
          data,
        }),
      })
      return answer
    },
  })
}
