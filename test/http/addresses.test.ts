import { expect, test } from 'vitest'
import { insertSigner, newBrowser, PASSWORD } from '../support/people.ts'
import { usePeopleApi } from './people/people-api.ts'

const api = usePeopleApi()

test.each([
  ['fe80::1%eth0', 'fe80::1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
])('somebody signs in from %s', async (address, kept) => {
  const { email, id } = await insertSigner(api())
  const browser = newBrowser(api(), { address })
  expect((await browser.post('/api/sign-in', { email, password: PASSWORD })).status).toBe(200)
  const { rows } = await api().db.pool.query(
    'SELECT host(address) AS address FROM sign_ins WHERE user_id = $1',
    [id],
  )
  expect(rows).toEqual([{ address: kept }])
})
