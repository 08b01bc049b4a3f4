import { homedir, userInfo } from 'node:os'
import { expect, test } from 'vitest'
import { accountHome } from '../../agent/account-home.ts'

const nobody = (): never => {
  throw Object.assign(new Error('uv_os_homedir returned ENOENT'), { code: 'ERR_SYSTEM_ERROR' })
}

test('a home folder is what the user database says, else what HOME says', () => {
  expect(accountHome()).toBe(userInfo().homedir)
  expect(accountHome(nobody)).toBe(homedir())
})

test('a user whom nothing knows runs the agent, too', () => {
  expect(accountHome(nobody, nobody)).toBe('/')
})
