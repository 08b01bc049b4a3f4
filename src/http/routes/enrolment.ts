import { BeaconError } from '../../errors.ts'
import { claimRequestSchema, claimResponseSchema, credentialCheckSchema } from '../../protocol/enrolment.ts'
import { bearerToken } from '../../protocol/tokens.ts'
import type { App, HttpParts } from '../parts.ts'
import { gatewayUrl } from '../public-url.ts'
import { component } from '../schemas.ts'

component('ClaimResponse', claimResponseSchema)
component('CredentialCheck', credentialCheckSchema)

export function enrolmentRoutes(app: App, parts: HttpParts): void {
  const { claims, health } = parts

  app.route({
    method: 'POST',
    url: '/agent/enroll',
    config: {
      scope: 'claim',
      problems: [
        'credentials_required',
        'invalid_token',
        'robot_retired',
        'key_revoked',
        'key_expired',
        'key_exhausted',
        'setup_token_consumed',
        'setup_token_expired',
        'approval_queue_full',
        'address_not_allowed',
        'robot_revoked',
        'claim_conflict',
        'token_hash_taken',
        'machine_known',
        'robot_online',
        'rate_limited',
        'draining',
      ],
    },
    schema: {
      operationId: 'enroll',
      summary: "Claim a robot's identity with an enrollment key, provisioning token or setup token",
      description:
        'The credential is the bearer: `rf_enroll_…`, `apt_…` or `rf_setup_…`; a setup token binds its own robot, and `name` counts for nothing then. Send `token_hash`, the SHA-256 of a token that the robot made itself, and `claim_id`, so that a claim whose answer was lost can be sent again. Without `token_hash` the answer holds a token, once.',
      tags: ['Agents'],
      body: claimRequestSchema,
      response: {
        200: claimResponseSchema.describe('Granted before: the same robot'),
        201: claimResponseSchema.describe('Granted'),
      },
    },
    handler: async (request, reply) => {
      if (health.draining) throw new BeaconError('draining', undefined, { retryAfterSeconds: 1 })
      const secret = bearerOf(request.headers, 'an enrollment key, provisioning token or setup token')
      const { status, response } = await claims.claim({
        secret,
        request: request.body,
        address: request.ip,
        requestId: request.id,
      })
      reply.code(status)
      return { ...response, gateway_url: gatewayUrl(parts, request) }
    },
  })

  app.route({
    method: 'GET',
    url: '/agent/check',
    config: { scope: 'claim', problems: ['credentials_required', 'invalid_token', 'rate_limited'] },
    schema: {
      operationId: 'checkCredential',
      summary: 'Tell what a claim credential or robot token is worth now',
      description:
        'For `beacon agent doctor`: burns no use, opens no session and disturbs none. The bearer is `rf_enroll_…`, `apt_…`, `rf_setup_…` or `rf_robot_…`; nothing but its own state is told. Unknown ones are counted, and slowed down, as refused claims are.',
      tags: ['Agents'],
      response: { 200: credentialCheckSchema },
    },
    handler: (request) =>
      claims.check({
        secret: bearerOf(request.headers, 'a claim credential or a robot token'),
        address: request.ip,
        requestId: request.id,
      }),
  })
}

function bearerOf({ authorization }: { authorization?: string | undefined }, wanted: string): string {
  if (authorization === undefined)
    throw new BeaconError('credentials_required', `${wanted} is needed as bearer`)
  const secret = bearerToken(authorization)
  if (secret === undefined) throw new BeaconError('invalid_token')
  return secret
}
