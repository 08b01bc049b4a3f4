import { describe, expect, test } from 'vitest'
import { createAccess } from '../../src/access/principal.ts'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { mintCheckedToken, mintEnrollmentKey } from '../../src/protocol/tokens.ts'

describe('a token of the wrong form', () => {
  test('costs no database work', async () => {
    const pool = openPool({
      url: 'postgres://nobody@127.0.0.1:1/nothing',
      name: 'nothing',
      maxConnections: 1,
      statementTimeoutMs: 1_000,
      onIdleError: () => {},
    })
    try {
      const access = createAccess(openDatabase(pool))
      const good = mintCheckedToken('personal')
      const wrong = ['', 'rf_pat_', good.slice(1), `${good}0`, good.toUpperCase(), good.replace(/.$/, 'g')]
      for (const token of [...wrong, mintCheckedToken('robot'), mintEnrollmentKey()])
        await expect(access.authenticate(token, '127.0.0.1')).rejects.toMatchObject({ code: 'invalid_token' })
      await expect(access.authenticate(good, '127.0.0.1')).rejects.toThrow(/ECONNREFUSED/)
    } finally {
      await pool.end()
    }
  })
})
