import {
  AuthorizationResponseError,
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  type ClientAuth,
  ClientError,
  ClientSecretBasic,
  ClientSecretPost,
  type Configuration,
  calculatePKCECodeChallenge,
  discovery,
  enableNonRepudiationChecks,
  fetchUserInfo,
  None,
  ResponseBodyError,
  randomNonce,
  randomPKCECodeVerifier,
  randomState,
} from 'openid-client'
import { z } from 'zod'
import type { OidcSettings } from '../../config.ts'
import { BeaconError } from '../../errors.ts'
import type { Clock } from '../../runtime.ts'

/** What has to be remembered from the way out to the way back. */
export const flowSchema = z.object({
  state: z.string(),
  nonce: z.string(),
  verifier: z.string(),
  redirectUri: z.string(),
})
export type Flow = z.infer<typeof flowSchema>

/** Who the identity provider says it was. */
export interface ProvidedPerson {
  readonly issuer: string
  readonly subject: string
  /** In lower case. */
  readonly email: string | undefined
  readonly emailVerified: boolean
  /** The provider says that it saw a second factor, in words that the settings name. */
  readonly secondFactor: boolean
}

/** Sign-in through an identity provider: authorization code with PKCE. Refusals are BeaconErrors. */
export interface Oidc {
  start(redirectUri: string): Promise<{ url: string; flow: Flow }>
  /** `query`: what the provider sent the browser back with, from its question mark on. */
  finish(query: string, flow: Flow): Promise<ProvidedPerson>
}

const TIMEOUT_SECONDS = 10
/** How long the provider's description of itself is believed. */
const DISCOVERED_MS = 3_600_000

export function createOidc(settings: OidcSettings, clock: Pick<Clock, 'monotonic'>): Oidc {
  let discovered: { configuration: Promise<Configuration>; atMs: number } | undefined

  function configuration(): Promise<Configuration> {
    if (discovered && clock.monotonic() - discovered.atMs < DISCOVERED_MS) return discovered.configuration
    const asked = discover(settings)
    const entry = { configuration: asked, atMs: clock.monotonic() }
    discovered = entry
    asked.catch(() => {
      if (discovered === entry) discovered = undefined
    })
    return asked
  }

  return {
    async start(redirectUri) {
      const flow = {
        state: randomState(),
        nonce: randomNonce(),
        verifier: randomPKCECodeVerifier(),
        redirectUri,
      }
      try {
        const url = buildAuthorizationUrl(await configuration(), {
          redirect_uri: redirectUri,
          scope: settings.scopes,
          state: flow.state,
          nonce: flow.nonce,
          code_challenge: await calculatePKCECodeChallenge(flow.verifier),
          code_challenge_method: 'S256',
        })
        return { url: url.href, flow }
      } catch (error) {
        throw refusalOf(error)
      }
    },
    async finish(query, flow) {
      const url = new URL(flow.redirectUri)
      url.search = query
      try {
        const known = await configuration()
        const tokens = await authorizationCodeGrant(known, url, {
          expectedState: flow.state,
          expectedNonce: flow.nonce,
          pkceCodeVerifier: flow.verifier,
          idTokenExpected: true,
        })
        const claims = tokens.claims()
        if (!claims) throw new BeaconError('sign_in_failed', 'the identity provider did not say who it was')
        // Many providers say the email to those who ask for it, and not in the ID token.
        const more =
          claims.email === undefined && known.serverMetadata().userinfo_endpoint !== undefined
            ? await fetchUserInfo(known, tokens.access_token, claims.sub)
            : claims
        return {
          issuer: claims.iss,
          subject: claims.sub,
          email: typeof more.email === 'string' ? more.email.toLowerCase() : undefined,
          emailVerified: more.email_verified === true,
          secondFactor: [claims.acr, ...listOf(claims.amr)].some(
            (said) => typeof said === 'string' && settings.secondFactorValues.includes(said),
          ),
        }
      } catch (error) {
        throw refusalOf(error)
      }
    },
  }
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

function discover({ issuer, clientId, clientSecret }: OidcSettings): Promise<Configuration> {
  const authentication: ClientAuth = (server, client, body, headers) => {
    // By the protocol's own rule, a provider that says nothing takes the header.
    const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']
    const method =
      clientSecret === undefined
        ? None()
        : methods.includes('client_secret_basic')
          ? ClientSecretBasic(clientSecret)
          : ClientSecretPost(clientSecret)
    method(server, client, body, headers)
  }
  const url = new URL(issuer)
  return discovery(url, clientId, undefined, authentication, {
    timeout: TIMEOUT_SECONDS,
    // The signature of the ID token, which is not checked otherwise when it came over TLS from the provider itself.
    execute: [enableNonRepudiationChecks, ...(url.protocol === 'http:' ? [allowInsecureRequests] : [])],
  })
}

/** The provider's own words go no further than a code of a known form. */
function refusalOf(error: unknown): BeaconError {
  if (error instanceof BeaconError) return error
  if (error instanceof AuthorizationResponseError || error instanceof ResponseBodyError) {
    const said = /^[a-z_]{1,40}$/.test(error.error) ? error.error : 'with an error'
    return new BeaconError('sign_in_failed', `the identity provider answered ${said}`)
  }
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined
  // Without the original, which may hold what was answered.
  const cause = new Error(error instanceof Error ? `${error.name}: ${error.message}` : 'not an error')
  if (error instanceof ClientError && typeof code === 'string' && ANSWER_IS_WRONG.test(code))
    return new BeaconError('sign_in_failed', 'the answer does not belong to this sign-in', { cause })
  return new BeaconError('identity_provider_failed', undefined, { retryAfterSeconds: 10, cause })
}

const ANSWER_IS_WRONG = /^OAUTH_(INVALID_RESPONSE|JWT_|KEY_SELECTION)/
