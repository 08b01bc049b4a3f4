import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readClaimAnswer } from '../../agent/claim-answer.ts'
import type { HttpAnswer } from '../../agent/http.ts'

const granted = {
  robot_id: 'r',
  name: 'n',
  site_id: 's',
  fleet_id: 'f',
  gateway_url: 'wss://x/agent/ws',
  heartbeat_interval_ms: 10_000,
}
const answer = (status: number, more: Partial<HttpAnswer> = {}): HttpAnswer => ({
  status,
  retryAfter: undefined,
  location: undefined,
  date: undefined,
  contentType: 'application/problem+json',
  body: undefined,
  ...more,
})

test('a grant, the first time and again', () => {
  for (const status of [200, 201])
    expect(readClaimAnswer(answer(status, { body: { ...granted, newer_field: 1 } }), false, 0)).toEqual({
      kind: 'granted',
      response: granted,
    })
})

test('what is no grant is never taken for one', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...Object.keys(granted)), fc.jsonValue()), (body) => {
      const read = readClaimAnswer(answer(200, { body }), false, 0)
      if (read.kind === 'granted')
        expect(Object.keys(read.response).sort()).toEqual(Object.keys(granted).sort())
      else expect(read.kind).toBe('retry')
    }),
  )
})

test('only a refusal that names the credential, the machine or the claim ends the agent', () => {
  const final = [400, 401, 403, 409, 413, 415, 422]
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 599 }), (status) => {
      const body = { code: 'a_code' }
      const read = readClaimAnswer(answer(status, { body }), false, 0)
      expect(read.kind).toBe(final.includes(status) ? 'refused' : 'retry')
      // The sign-in page of a network, or a proxy, has none.
      for (const other of [undefined, { title: 'Unauthorized' }])
        expect(readClaimAnswer(answer(status, { body: other }), false, 0).kind).toBe('retry')
      // A gateway on the way has codes, too, and does not call them problems.
      for (const contentType of [undefined, 'application/json', 'text/html', 'application/problem+jsonx'])
        expect(readClaimAnswer(answer(status, { body, contentType }), false, 0).kind).toBe('retry')
    }),
  )
})

test('a request that is still being worked on is asked about again', () => {
  const body = { code: 'request_in_progress', detail: 'Wait' }
  expect(readClaimAnswer(answer(409, { body, retryAfter: '2' }), false, 0)).toMatchObject({
    kind: 'retry',
    notBeforeMs: 2_000,
  })
})

test('bad fields are told', () => {
  const body = {
    code: 'invalid_request',
    detail: 'Not valid',
    errors: [{ pointer: '/name', detail: 'too long' }],
  }
  expect(readClaimAnswer(answer(422, { body }), false, 0)).toMatchObject({
    kind: 'refused',
    exitCode: 1,
    sentence: expect.stringMatching(/Not valid; \/name: too long/),
  })
})

test('whoever came with a setup token is not told to make a key', () => {
  const refusal = (code: string, isSetupToken: boolean) =>
    readClaimAnswer(answer(403, { body: { code, detail: 'No' } }), isSetupToken, 0)
  for (const code of [
    'key_revoked',
    'robot_revoked',
    'robot_retired',
    'address_not_allowed',
    'invalid_token',
  ]) {
    expect(refusal(code, false)).toMatchObject({ sentence: expect.stringContaining('key') })
    expect(refusal(code, true)).toMatchObject({ sentence: expect.not.stringContaining('key') })
  }
  // The server's own words say where to get another.
  expect(refusal('setup_token_consumed', true)).toMatchObject({ sentence: 'enrolment refused: No' })
  expect(refusal('robot_retired', true)).toMatchObject({ sentence: expect.stringContaining('another robot') })
})
