import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ConfigError, readConfig, readDatabaseSettings } from '../../src/config.ts'
import { withRole } from '../../src/db/roles.ts'

const BEACON_DATABASE_URL = 'postgres://app@db/beacon'
const BEACON_DATABASE_OWNER_URL = 'postgres://owner@db/beacon'

function mistakesOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    readConfig(env)
    return []
  } catch (error) {
    return (error as ConfigError).mistakes
  }
}

describe('the address of the owner', () => {
  test('is a setting of its own, that may stand in a file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'beacon-settings-'))
    const file = join(folder, 'owner')
    await writeFile(file, `${BEACON_DATABASE_OWNER_URL}\n`)
    expect(readConfig({ BEACON_DATABASE_URL, BEACON_DATABASE_OWNER_URL })).toMatchObject({
      databaseUrl: BEACON_DATABASE_URL,
      databaseOwnerUrl: BEACON_DATABASE_OWNER_URL,
      unknownNames: [],
    })
    expect(readConfig({ BEACON_DATABASE_URL, BEACON_DATABASE_OWNER_URL_FILE: file })).toMatchObject({
      databaseOwnerUrl: BEACON_DATABASE_OWNER_URL,
      unknownNames: [],
    })
    expect(readConfig({ BEACON_DATABASE_URL }).databaseOwnerUrl).toBeUndefined()
    await rm(folder, { recursive: true })
  })

  test('is refused alone, or when it is none, without being repeated', () => {
    expect(mistakesOf({ BEACON_DATABASE_OWNER_URL })).toEqual([
      'BEACON_DATABASE_OWNER_URL is set, and BEACON_DATABASE_URL is not',
    ])
    expect(mistakesOf({ BEACON_DATABASE_URL, BEACON_DATABASE_OWNER_URL: 'mysql://u:secret@h' })).toEqual([
      'BEACON_DATABASE_OWNER_URL must begin with postgres://',
    ])
  })

  test('has no part in where other programs look for the data', () => {
    const env = { BEACON_DATABASE_URL, BEACON_PORT: 'nonsense', BEACON_DATA_DIR: '/data' }
    expect(readDatabaseSettings(env)).toEqual({ databaseUrl: BEACON_DATABASE_URL, dataDir: '/data' })
    expect(() => readDatabaseSettings({ BEACON_DATABASE_URL: 'mysql://x' })).toThrow(ConfigError)
  })
})

test.each([
  ['postgres://u:p@h/d', 'postgres://u:p@h/d?options=-c+role%3Dbeacon_server'],
  [
    'postgres://u:p@h/d?sslmode=require',
    'postgres://u:p@h/d?sslmode=require&options=-c+role%3Dbeacon_server',
  ],
  [
    'postgresql://u:p@/d?host=%2Frun%2Fa%20b&options=-c%20geqo%3Doff',
    'postgresql://u:p@/d?host=%2Frun%2Fa+b&options=-c+geqo%3Doff+-c+role%3Dbeacon_server',
  ],
])('%s with a role', (url, expected) => {
  expect(withRole(url, 'beacon_server')).toBe(expected)
})
