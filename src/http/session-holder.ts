import type { FastifyRequest } from 'fastify'
import { z } from 'zod'
import { BeaconError } from '../errors.ts'
import { principalOf } from './guard.ts'

/** A code of the time, or one of the backup codes. */
export const proofSchema = z.union(
  [
    z.strictObject({
      code: z
        .string()
        .trim()
        .regex(/^\d{6}$/, 'must be six digits'),
    }),
    z.strictObject({ backup_code: z.string().trim().min(1).max(64) }),
  ],
  'must hold a code or a backup_code',
)

/** Whoever is signed in with a session; for what a token must not be enough for. Throws `session_needed`. */
export function sessionOf(request: FastifyRequest): { userId: string; userName: string; sessionId: string } {
  const { kind, userId, userName, sessionId } = principalOf(request)
  if (kind !== 'session' || userId === null || sessionId === undefined)
    throw new BeaconError('session_needed')
  return { userId, userName: userName ?? '', sessionId }
}
