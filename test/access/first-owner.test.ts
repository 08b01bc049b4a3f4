import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DEPLOYMENT } from '../../src/access/authority.ts'
import { ensureOwner } from '../../src/access/first-owner.ts'
import { createAccess } from '../../src/access/principal.ts'
import { SCOPES } from '../../src/access/scopes.ts'
import { isCheckedToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

describe('the first owner', () => {
  let db: TestDatabase
  beforeEach(async () => {
    db = await createTestDatabase()
  })
  afterEach(() => db.drop())
  const ensure = (adminToken?: string) =>
    ensureOwner(db.database, { adminToken, random: systemRandom, clock: systemClock })
  const tokens = async () => (await db.pool.query('SELECT * FROM access_tokens')).rows

  test('is made on a database without tokens, with a token that may do everything', async () => {
    const { created, token } = await ensure()
    expect(created).toBe(true)
    expect(isCheckedToken('personal', token!)).toBe(true)
    const principal = await createAccess(db.database).authenticate(token!, '127.0.0.1')
    expect(principal.authority.isOwner).toBe(true)
    expect(principal.authority.coversAll(SCOPES, DEPLOYMENT)).toBe(true)
    const [row] = await tokens()
    expect(row).toMatchObject({ id: principal.id, last_four: token!.slice(-4) })
    expect(JSON.stringify(row)).not.toContain(token!.slice(7))
    const { rows: lines } = await db.pool.query('SELECT * FROM audit_log ORDER BY seq')
    expect(lines).toMatchObject([
      { action: 'user.created', actor_kind: 'server', data: { role: 'owner' } },
      { action: 'access_token.created', actor_kind: 'server', target_id: row.id },
    ])
    expect(JSON.stringify(lines)).not.toContain(token!.slice(7))
  })

  test('takes the token that was given, and does not repeat it', async () => {
    const given = mintCheckedToken('personal')
    expect(await ensure(given)).toEqual({ created: true })
    expect((await createAccess(db.database).authenticate(given, '127.0.0.1')).name).toBe('owner')
  })

  test('is made once, also by servers that start together', async () => {
    const results = await Promise.all(Array.from({ length: 12 }, () => ensure()))
    expect(results.filter(({ created }) => created)).toHaveLength(1)
    expect(results.filter(({ token }) => token !== undefined)).toHaveLength(1)
    expect(await tokens()).toHaveLength(1)
  })

  test('is not made where there is a token already, not even a revoked one', async () => {
    await ensure()
    await db.pool.query('UPDATE access_tokens SET revoked_at = now()')
    expect(await ensure()).toEqual({ created: false })
    expect(await ensure(mintCheckedToken('personal'))).toEqual({ created: false })
    expect(await tokens()).toHaveLength(1)
  })
})
