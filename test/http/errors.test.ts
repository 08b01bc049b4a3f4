import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BeaconError, ERRORS, problemOf } from '../../src/errors.ts'
import { GroupFullError } from '../../src/grouping.ts'
import { refusalFor } from '../../src/http/problems.ts'

const docs = readFileSync(join(import.meta.dirname, '../../docs/errors.md'), 'utf8')
const ROW = /^\| `([a-z_]+)` \| (\d{3}) \| (yes|no) \| (.+) \| (.+) \|$/gm

describe('docs/errors.md', () => {
  test('has every code once, with its status and whether to ask again, and no other', () => {
    const rows = [...docs.matchAll(ROW)].map(([, code, status, retry]) => `${code} ${status} ${retry}`)
    const table = Object.entries(ERRORS).map(
      ([code, { status, retry }]) => `${code} ${status} ${retry ? 'yes' : 'no'}`,
    )
    expect(rows.sort()).toEqual(table.sort())
  })

  test('shows a document as it is sent', () => {
    const example = JSON.parse(/```json\n([\s\S]*?)```/.exec(docs)![1]!)
    const error = new BeaconError('invalid_request', example.detail, { errors: example.errors })
    expect(problemOf(error, example.request_id)).toEqual(example)
  })
})

describe('errors of every kind', () => {
  const withCode = (code: string, message = 'text') => Object.assign(new Error(message), { code })

  test.each([
    [new BeaconError('not_empty'), 'not_empty'],
    [withCode('FST_ERR_CTP_BODY_TOO_LARGE'), 'body_too_large'],
    [withCode('ECONNREFUSED'), 'database_unavailable'],
    [withCode('57P01'), 'database_unavailable'],
    [new Error('timeout exceeded when trying to connect'), 'database_unavailable'],
    [withCode('57014'), 'overloaded'],
    [new GroupFullError(5), 'overloaded'],
    [withCode('FST_ERR_SOMETHING_NEW'), 'internal_error'],
    [withCode('23505'), 'internal_error'],
    [new TypeError('x is not a function'), 'internal_error'],
    ['a text', 'internal_error'],
    [null, 'internal_error'],
    [undefined, 'internal_error'],
  ])('%s is %s', (error, code) => {
    const refusal = refusalFor(error)
    expect(refusal.code).toBe(code)
    if (code === 'internal_error') expect(refusal.detail).toBe(ERRORS.internal_error.title)
    if (refusal.status === 503) expect(refusal.retryAfterSeconds).toBeGreaterThan(0)
  })
})
