import { expect, test } from 'vitest'
import { createPasswords, weakness } from '../../../src/access/sign-in/passwords.ts'
import { BeaconError } from '../../../src/errors.ts'
import { systemRandom } from '../../../src/runtime.ts'

const passwords = createPasswords(systemRandom)

test('a password is kept as Argon2id, salted, and known again', async () => {
  const [one, two] = [await passwords.hash('a quiet harbour'), await passwords.hash('a quiet harbour')]
  expect(one).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  expect(one).not.toBe(two)
  expect(await passwords.verify(one, 'a quiet harbour')).toBe(true)
  expect(await passwords.verify(one, 'a quiet harbor')).toBe(false)
  expect(passwords.outdated(one)).toBe(false)
})

test('the same letters are the same password, however they are put together', async () => {
  const hash = await passwords.hash('cafe\u0301 am Hafen')
  expect(await passwords.verify(hash, 'caf\u00e9 am Hafen')).toBe(true)
})

test('all of a long password counts', async () => {
  const long = 'ä'.repeat(500)
  const hash = await passwords.hash(`${long}1`)
  expect(await passwords.verify(hash, `${long}1`)).toBe(true)
  expect(await passwords.verify(hash, `${long}2`)).toBe(false)
})

test('a hash of other parameters is outdated, and still known', async () => {
  const { hash } = await import('@node-rs/argon2')
  const old = await hash('a quiet harbour', { memoryCost: 8192, timeCost: 1, parallelism: 1 })
  expect(passwords.outdated(old)).toBe(true)
  expect(await passwords.verify(old, 'a quiet harbour')).toBe(true)
})

test('without a hash the same work is done, and the answer is no', async () => {
  const compared: string[] = []
  const watched = createPasswords(systemRandom, {
    hash: async () => 'made up',
    verify: async (hash) => {
      compared.push(hash)
      return true
    },
  })
  expect(await watched.verify(null, 'anything')).toBe(false)
  expect(await watched.verify('known', 'anything')).toBe(true)
  expect(compared).toEqual(['made up', 'known'])
})

test('two are at work at the same time, forty wait, and the next is told to come back', async () => {
  let atWork = 0
  let most = 0
  const release: (() => void)[] = []
  const busy = createPasswords(systemRandom, {
    async hash() {
      atWork += 1
      most = Math.max(most, atWork)
      await new Promise<void>((resolve) => release.push(resolve))
      atWork -= 1
      return 'done'
    },
    verify: async () => true,
  })
  const all = Array.from({ length: 42 }, () => busy.hash('x'))
  await expect(busy.hash('x')).rejects.toThrow(BeaconError)
  await expect(busy.hash('x')).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 2 })
  let done = 0
  for (const each of all) void each.then(() => (done += 1))
  while (done < 42) {
    release.shift()?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect([most, atWork]).toEqual([2, 0])
  // A place is free again.
  const next = busy.hash('x')
  release.shift()?.()
  expect(await next).toBe('done')
})

test('one that fails gives its place back', async () => {
  const failing = createPasswords(systemRandom, {
    hash: () => Promise.reject(new Error('no memory')),
    verify: () => Promise.reject(new Error('no memory')),
  })
  for (let tries = 0; tries < 5; tries++) await expect(failing.hash('x')).rejects.toThrow('no memory')
  await expect(failing.verify(null, 'x')).rejects.toThrow('no memory')
})

test.each([
  ['a quiet harbour at dawn', undefined],
  ['tr0ub4dor&3xyz', undefined],
  ['elevenchars', 'must be at least 12 characters long'],
  ['ä'.repeat(11), 'must be at least 12 characters long'],
  [`abcde${'ü'.repeat(511)}`, 'must be at most 1024 bytes long'],
  ['abababababababab', 'must hold at least five different characters'],
  ['ada lovelace rocks', 'must not hold your email or name'],
  ['my ADA@example.test', 'must not hold your email or name'],
  ['Password1234', 'is one of those that are tried first'],
  ['123456789012', 'is one of those that are tried first'],
  ['!!welcome2024!!', 'is one of those that are tried first'],
  ['letmein-please', 'is one of those that are tried first'],
  ['dragondragon', 'is one of those that are tried first'],
])('%j: %s', (password, expected) => {
  expect(weakness(password, { email: 'ada@example.test', name: 'Ada Lovelace' })).toBe(expected)
})
