import { expect, test } from 'vitest'
import { ConfigError, readConfig } from '../src/config.ts'

const given = {
  BEACON_OIDC_ISSUER: 'https://id.example/realm',
  BEACON_OIDC_CLIENT_ID: 'beacon',
  BEACON_OIDC_CLIENT_SECRET: 'a secret of the client',
}

test('an identity provider is read from the environment', () => {
  expect(readConfig({}).oidc).toBeUndefined()
  expect(readConfig({ ...given, BEACON_OIDC_SECOND_FACTOR: 'mfa, otp' }).oidc).toEqual({
    issuer: 'https://id.example/realm',
    clientId: 'beacon',
    clientSecret: 'a secret of the client',
    scopes: 'openid email',
    secondFactorValues: ['mfa', 'otp'],
  })
})

test.each([
  ['http://id.example', /BEACON_OIDC_ISSUER must be an https address/],
  ['https://user:pw@id.example', /BEACON_OIDC_ISSUER/],
  ['https://id.example/?a=b', /BEACON_OIDC_ISSUER/],
  ['nonsense', /BEACON_OIDC_ISSUER/],
])('an issuer of %s is refused', (issuer, message) => {
  expect(() => readConfig({ ...given, BEACON_OIDC_ISSUER: issuer })).toThrow(message)
})

test('a provider of this machine needs no https', () => {
  expect(readConfig({ ...given, BEACON_OIDC_ISSUER: 'http://127.0.0.1:9000' }).oidc?.issuer).toBe(
    'http://127.0.0.1:9000',
  )
})

test('half a provider is a mistake, and no secret stands in what is said of it', () => {
  const { BEACON_OIDC_CLIENT_ID: _id, ...half } = given
  const error = (() => {
    try {
      readConfig({ ...half, BEACON_OIDC_SCOPES: 'email' })
    } catch (thrown) {
      return thrown as ConfigError
    }
  })()
  expect(error).toBeInstanceOf(ConfigError)
  expect(error!.mistakes).toEqual([
    'BEACON_OIDC_SCOPES must hold openid',
    'BEACON_OIDC_ISSUER and BEACON_OIDC_CLIENT_ID belong together',
  ])
})
