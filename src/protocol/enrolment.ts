import { z } from 'zod'
import { displayName, freeText } from './text.ts'

/** What a machine says of itself when it claims. */
export const fingerprintSchema = z.strictObject({
  hostname: freeText(253).optional(),
  os: freeText(128).optional(),
  platform: freeText(64).optional(),
  arch: freeText(64).optional(),
  mac: freeText(64).optional(),
  machine_id: freeText(256).optional(),
  agent_version: freeText(64).optional(),
})
export type Fingerprint = z.infer<typeof fingerprintSchema>

/** Body of `POST /agent/enroll`. */
export const claimRequestSchema = z.strictObject({
  name: displayName().optional(),
  /** SHA-256 of the robot token that the robot made itself, 64 hex digits. */
  token_hash: z
    .string()
    .regex(/^[0-9a-f]{64}$/i, 'must be a SHA-256 in hex')
    .transform((hex) => hex.toLowerCase())
    .optional(),
  /** Names this claim, so that asking again after a lost answer gets the same robot. */
  claim_id: z
    .string()
    .regex(/^[A-Za-z0-9._:-]{1,128}$/, 'must be 1 to 128 letters, digits or . _ : -')
    .optional(),
  fingerprint: fingerprintSchema.default({}),
})
export type ClaimRequest = z.infer<typeof claimRequestSchema>

/** Answer to a claim that was granted. */
export const claimResponseSchema = z.object({
  robot_id: z.string(),
  name: z.string(),
  site_id: z.string(),
  fleet_id: z.string(),
  gateway_url: z.string(),
  heartbeat_interval_ms: z.number().int().positive(),
  /** Only when the claim carried no `token_hash`: shown once. */
  robot_token: z.string().optional(),
})
export type ClaimResponse = z.infer<typeof claimResponseSchema>

/** Answer to `GET /agent/check`: what the bearer is worth now. */
export const credentialCheckSchema = z.object({
  kind: z.enum(['robot_token', 'enrollment_key', 'provisioning_token', 'setup_token']),
  status: z.enum(['active', 'revoked', 'retired', 'expired', 'exhausted', 'consumed']),
  /** These three of claim credentials alone. Null: never. */
  expires_at: z.string().nullable().optional(),
  /** Null: as many as come. */
  uses_left: z.number().int().nullable().optional(),
  /** Whether it may be used from where the check came from. */
  address_allowed: z.boolean().optional(),
  server_time: z.string(),
})
export type CredentialCheck = z.infer<typeof credentialCheckSchema>
