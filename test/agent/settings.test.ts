import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { AgentExit } from '../../agent/exit.ts'
import { type AgentFlags, type Environment, readSettings } from '../../agent/settings.ts'
import type { FileSettings } from '../../agent/state.ts'
import { KEY, temporaryFolder } from './support/agent-process.ts'

const OTHER_KEY = KEY.replaceAll('5', '7')

function read(flags: AgentFlags, env: Environment = {}, file: FileSettings = {}, isEnrolled = false) {
  return readSettings(flags, env, file, isEnrolled)
}

function mistakes(flags: AgentFlags, env: Environment = {}, file: FileSettings = {}): string[] {
  try {
    read(flags, env, file)
  } catch (error) {
    if (error instanceof AgentExit && error.exitCode === 2) return error.message.split('\n')
    throw error
  }
  return []
}

describe('settings', () => {
  test('a flag outranks the environment, which outranks the file, which outranks the default', () => {
    const flags = { server: 'https://flag.example/' }
    const env = { BEACON_SERVER: 'https://env.example', BEACON_NAME: 'from env', BEACON_ENROLLMENT_KEY: KEY }
    const file = { server: 'https://file.example', name: 'from file', heartbeatSeconds: 5 }
    expect(read(flags, env, file)).toEqual({
      server: 'https://flag.example',
      serverIsExplicit: true,
      name: 'from env',
      credential: expect.objectContaining({ secret: KEY, isSetupToken: false }),
      ownIntervalMs: 5_000,
      logLevel: 'info',
      spoolBytes: 16 * 1024 * 1024,
      network: expect.anything(),
      adopts: false,
    })
    expect(read({ enrollmentKey: KEY }, {}, file)).toMatchObject({
      server: 'https://file.example',
      serverIsExplicit: false,
    })
    expect(read({ enrollmentKey: KEY }).server).toBe('http://127.0.0.1:8080')
  })

  test('an empty variable is not set', () => {
    expect(read({ enrollmentKey: KEY }, { BEACON_SERVER: '', BEACON_NAME: '' })).toMatchObject({
      server: 'http://127.0.0.1:8080',
      name: undefined,
    })
  })

  test('a key may come from a file, and the flag for it outranks a key in the environment', () => {
    const path = join(temporaryFolder(), 'key')
    writeFileSync(path, `${OTHER_KEY}\n`)
    expect(read({ enrollmentKeyFile: path }, { BEACON_ENROLLMENT_KEY: KEY }).credential?.secret).toBe(
      OTHER_KEY,
    )
    expect(read({}, { BEACON_ENROLLMENT_KEY_FILE: path }).credential?.secret).toBe(OTHER_KEY)
    expect(read({}, {}, { enrollmentKeyFile: path }).credential?.secret).toBe(OTHER_KEY)
  })

  test('an enrolled robot looks for no key, not even a file that is gone', () => {
    const settings = read({ enrollmentKeyFile: '/nowhere/key' }, {}, {}, true)
    expect(settings.credential).toBeUndefined()
  })

  test('every mistake is told at once, by the name it was made under', () => {
    expect(
      mistakes(
        { server: 'ftp://x', name: ' padded ', enrollmentKeyFile: '/nowhere/key' },
        { BEACON_HEARTBEAT_SECONDS: 'often', BEACON_LOG_LEVEL: 'loud' },
      ),
    ).toEqual([
      expect.stringMatching(/^--server must be/),
      expect.stringMatching(/^--name must not begin/),
      expect.stringMatching(/^BEACON_HEARTBEAT_SECONDS must be a number/),
      expect.stringMatching(/^BEACON_LOG_LEVEL must be one of debug, info/),
      expect.stringMatching(/^--enrollment-key-file: \/nowhere\/key cannot be read \(ENOENT\)/),
    ])
    expect(mistakes({ enrollmentKey: KEY }, {}, { heartbeatSeconds: 0.1, logLevel: 'x' })).toEqual([
      expect.stringMatching(/^heartbeat_seconds in agent.toml must lie/),
      expect.stringMatching(/^log_level in agent.toml/),
    ])
  })

  test('keys that cannot be right are refused here, without being quoted', () => {
    const wrong = ['rf_enroll_12ab', 'rf_pat_secretsecret', 'rf_robot_secretsecret', 'two words']
    for (const enrollmentKey of wrong) {
      const found = mistakes({ enrollmentKey })
      expect(found).toHaveLength(1)
      expect(found[0]).not.toContain(enrollmentKey)
    }
    expect(mistakes({ enrollmentKey: KEY, enrollmentKeyFile: 'x' })).toEqual([
      '--enrollment-key and --enrollment-key-file cannot both be given',
    ])
  })

  test('a setup token has places of its own, and none beside a key', () => {
    const token = `rf_setup_${'abcdefghijk'.repeat(5)}`
    expect(read({ setupToken: token }).credential).toMatchObject({ secret: token, isSetupToken: true })
    expect(read({}, { BEACON_SETUP_TOKEN: token }).credential?.isSetupToken).toBe(true)
    expect(mistakes({ enrollmentKey: KEY, setupToken: token })).toEqual([
      '--enrollment-key and --setup-token cannot both be given',
    ])
    expect(mistakes({ setupToken: KEY })).toEqual(['--setup-token must be a setup token (rf_setup_…)'])
    expect(mistakes({ setupToken: token.slice(0, -1) })).toEqual([
      '--setup-token is not whole: it has 64 characters',
    ])
    expect(mistakes({ enrollmentKey: token })).toEqual([
      '--enrollment-key is a setup token: give it as --setup-token',
    ])
  })
})
