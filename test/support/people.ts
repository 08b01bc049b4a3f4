import { createHash } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import { expect } from 'vitest'
import { createPasswords, type Passwords } from '../../src/access/sign-in/passwords.ts'
import { setPassword } from '../../src/db/sign-in.ts'
import { systemRandom } from '../../src/runtime.ts'
import type { Api } from '../http/api.ts'
import { insertPerson, type RoleAtPlace } from './access.ts'
import { Browser } from './browser.ts'

export const PASSWORD = 'a quiet harbour at dawn'

/** A password hash that takes no time, and remembers what was asked of it. */
export function quickPasswords(): Passwords & { readonly verified: string[] } {
  const verified: string[] = []
  const quick = (password: string) => `quick ${createHash('sha256').update(password).digest('hex')}`
  const passwords = createPasswords(systemRandom, {
    hash: async (password) => quick(password),
    verify: async (hash, password) => {
      verified.push(hash)
      return hash === quick(password)
    },
  })
  return { ...passwords, outdated: () => false, verified }
}

let count = 0

/** Somebody with an email and the password. */
export async function insertSigner(
  api: Api,
  roles: readonly RoleAtPlace[] = [{ role: 'viewer' }],
): Promise<{ id: string; email: string }> {
  count += 1
  const email = `person-${count}@example.test`
  const id = await insertPerson(api.db.database, roles, { name: `person ${count}`, email })
  await setPassword(api.db.database, id, await api.parts.signIn.passwords.hash(PASSWORD))
  return { id, email }
}

let host = 0

/** A browser at an address that no other has. */
export function newBrowser(api: Api, options: ConstructorParameters<typeof Browser>[1] = {}): Browser {
  host += 1
  return new Browser(api, {
    address: `10.${(host >> 16) & 255}.${(host >> 8) & 255}.${host & 255}`,
    ...options,
  })
}

export async function signedIn(api: Api, email: string, password = PASSWORD): Promise<Browser> {
  const browser = newBrowser(api)
  const answer = await browser.post('/api/sign-in', { email, password })
  expect(answer.body).toEqual({ signed_in: true, second_factor: null })
  return browser
}

/** What an authenticator shows at a time. */
export function codeAt(secret: string, at: number): string {
  return new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: at })
}

/** Sets a second factor up with a browser that is signed in. */
export async function setUpSecondFactor(
  browser: Browser,
  now: number,
): Promise<{ secret: string; backupCodes: string[] }> {
  const started = await browser.post('/api/session/second-factor')
  expect(started.status).toBe(201)
  const confirmed = await browser.post('/api/session/second-factor/confirm', {
    code: codeAt(started.body.secret, now),
  })
  expect(confirmed.status).toBe(200)
  return { secret: started.body.secret, backupCodes: confirmed.body.backup_codes }
}
