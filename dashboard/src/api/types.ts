/** What the REST interface answers with, by the schemas that it answers by. */
import type { z } from 'zod'
import type { auditLineSchema } from '../../../src/http/audit-lines.ts'
import type { robotSchema } from '../../../src/http/robot-schema.ts'
import type { decisionsSchema, waitingSchema } from '../../../src/http/routes/approvals.ts'
import type { verificationSchema } from '../../../src/http/routes/audit.ts'
import type { keySchema } from '../../../src/http/routes/enrollment-keys.ts'
import type { fleetSchema } from '../../../src/http/routes/fleets.ts'
import type {
  madeTokenSchema as newProvisioningTokenSchema,
  tokenSchema as provisioningTokenSchema,
} from '../../../src/http/routes/provisioning-tokens.ts'
import type { revokedAllSchema } from '../../../src/http/routes/revoke-all.ts'
import type { eventSchema, summarySchema } from '../../../src/http/routes/robot-history.ts'
import type { securitySchema } from '../../../src/http/routes/security.ts'
import type { sessionSchema, whoSchema } from '../../../src/http/routes/session.ts'
import type { setupTokenSchema } from '../../../src/http/routes/setup-tokens.ts'
import type { siteSchema } from '../../../src/http/routes/sites.ts'
import type { trailSchema } from '../../../src/http/routes/trails.ts'
import type { invitedSchema } from '../../../src/http/routes/users.ts'
import type { newTokenSchema, rotatedTokenSchema, tokenSchema } from '../../../src/http/token-schema.ts'
import type { userSchema } from '../../../src/http/user-schema.ts'

export type Robot = z.output<typeof robotSchema>
export type HeartbeatSummary = z.output<typeof summarySchema>
export type RobotEvent = z.output<typeof eventSchema>
export type Trail = z.output<typeof trailSchema>
export type Site = z.output<typeof siteSchema>
export type Fleet = z.output<typeof fleetSchema>
export type WhoAmI = z.output<typeof whoSchema>
export type SignIn = z.output<typeof sessionSchema>
export type EnrollmentKey = z.output<typeof keySchema>
export type ProvisioningToken = z.output<typeof provisioningTokenSchema>
export type NewProvisioningToken = z.output<typeof newProvisioningTokenSchema>
export type SetupToken = z.output<typeof setupTokenSchema>
export type AccessToken = z.output<typeof tokenSchema>
export type NewAccessToken = z.output<typeof newTokenSchema>
export type RotatedAccessToken = z.output<typeof rotatedTokenSchema>
export type RevokedAll = z.output<typeof revokedAllSchema>
export type WaitingRobot = z.output<typeof waitingSchema>
export type Decisions = z.output<typeof decisionsSchema>
export type User = z.output<typeof userSchema>
export type InvitedUser = z.output<typeof invitedSchema>
export type Security = z.output<typeof securitySchema>
export type AuditLine = z.output<typeof auditLineSchema>
export type AuditVerification = z.output<typeof verificationSchema>

export interface Page<Item> {
  readonly items: Item[]
  readonly next_cursor: string | null
}

export interface Info {
  readonly name: string
  readonly version: string
  readonly gateway_url: string
  readonly heartbeat_interval_ms: number
}
