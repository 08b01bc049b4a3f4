import { describe, expect, test } from 'vitest'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { type Answer, fakeServer, problem, type Script } from './fake-server.ts'
import { beacon, type TerminalOptions } from './fake-terminal.ts'

const NONE = { enrollment_keys: 0, answers: 0, second_factors: 0, sign_ins: 0 }
const key = (key_id: string, standing: string, sealed: Partial<typeof NONE> = {}) => ({
  key_id,
  standing,
  sealed: { ...NONE, ...sealed },
})
const rotation = (state: string, more = {}) => ({
  state,
  resealed: 0,
  unreadable: 0,
  keys_removed: 0,
  ...more,
})

function secrets(keys: unknown[], state: unknown = null, source = 'file'): Answer {
  return { body: { source, keys, rotation: state } }
}

async function against(script: Script, argv: readonly string[], options: TerminalOptions = {}) {
  const server = await fakeServer(script)
  const env = { BEACON_URL: server.url, BEACON_API_KEY: mintCheckedToken('personal') }
  return { server, ...(await beacon(argv, { ...options, env })) }
}

/** Says one thing after the other, and the last for ever. */
function inTurn(...answers: Answer[]): () => Answer {
  let turn = 0
  return () => answers[Math.min(turn++, answers.length - 1)]!
}

describe('secrets status', () => {
  test('shows each key and what it sealed', async () => {
    const answer = secrets([key('aaaa0000', 'current', { enrollment_keys: 3, answers: 7 })])
    const { exitCode, stdout, stderr } = await against({ 'GET /api/secrets': answer }, ['secrets', 'status'])
    expect([exitCode, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/KEY +STANDING +ENROLLMENT KEYS +ANSWERS/)
    expect(stdout).toMatch(/aaaa0000 +current +3 +7 +0 +0/)
    expect(stdout).toContain('secret.key in the data folder')
  })

  test('warns of what is sealed with a key that is lost', async () => {
    const answer = secrets([key('aaaa0000', 'current'), key('bbbb0000', 'missing', { second_factors: 2 })])
    const { exitCode, stderr } = await against({ 'GET /api/secrets': answer }, ['secrets', 'status'])
    expect(exitCode).toBe(0)
    expect(stderr).toContain('Sealed with a key that this server does not have: 2.')
  })

  test('answers with JSON as the server does', async () => {
    const answer = secrets([key('aaaa0000', 'current')], rotation('running'))
    const { stdout } = await against({ 'GET /api/secrets': answer }, ['secrets', 'status', '--json'])
    expect(JSON.parse(stdout)).toEqual(answer.body)
  })
})

describe('secrets rotate', () => {
  const taken = secrets([key('cccc0000', 'current'), key('aaaa0000', 'older', { answers: 9 })])
  const post = 'POST /api/secrets/rotate'
  const get = 'GET /api/secrets'

  test('asks first, and changes nothing when told no or when nobody can be asked', async () => {
    for (const [options, exitCode] of [
      [{ answers: ['n'] }, 1],
      [{}, 2],
    ] as const) {
      const ran = await against({ [post]: taken }, ['secrets', 'rotate'], options as TerminalOptions)
      expect(ran.exitCode).toBe(exitCode)
      expect(ran.server.calls).toEqual([])
    }
  })

  test('waits until nothing is left, and says how far it is', async () => {
    const { exitCode, stdout, stderr, server } = await against(
      {
        [post]: taken,
        [get]: inTurn(
          secrets(
            [key('cccc0000', 'current'), key('aaaa0000', 'older', { answers: 9 })],
            rotation('running'),
          ),
          secrets(
            [key('cccc0000', 'current'), key('aaaa0000', 'older', { answers: 4 })],
            rotation('running'),
          ),
          secrets([key('cccc0000', 'current', { answers: 9 })], rotation('finished', { resealed: 9 })),
        ),
      },
      ['secrets', 'rotate', '--yes'],
    )
    expect(exitCode).toBe(0)
    expect(stderr).toContain('still sealed with an older key: 9\nstill sealed with an older key: 4\n')
    expect(stdout).toContain('The key cccc0000 is in use. Sealed with it: 9.')
    expect(stdout).toContain('No older key is left.')
    expect(server.calls[0]!.body).toEqual({ keep_old: false })
    expect(server.calls).toHaveLength(4)
  })

  test('is not misled by an earlier rotation of another server', async () => {
    const earlier = rotation('finished', { resealed: 5, keys_removed: 1 })
    const { exitCode, server } = await against(
      {
        [post]: taken,
        [get]: inTurn(
          secrets([key('cccc0000', 'current'), key('aaaa0000', 'older', { answers: 9 })], earlier),
          secrets([key('cccc0000', 'current', { answers: 9 })], null),
        ),
      },
      ['secrets', 'rotate', '--yes'],
    )
    expect(exitCode).toBe(0)
    expect(server.calls).toHaveLength(3)
  })

  test('keeps the old key when told so', async () => {
    const kept = secrets(
      [key('cccc0000', 'current', { answers: 9 }), key('aaaa0000', 'older')],
      rotation('finished'),
    )
    const ran = await against({ [post]: taken, [get]: kept }, ['secrets', 'rotate', '--yes', '--keep-old'])
    expect(ran.server.calls[0]!.body).toEqual({ keep_old: true })
    expect(ran.stdout).toContain('The older key stays, as asked')
  })

  test('tells what does not open although its key is here', async () => {
    const left = secrets(
      [key('cccc0000', 'current', { answers: 8 }), key('aaaa0000', 'older', { answers: 1 })],
      rotation('finished', { unreadable: 1 }),
    )
    const ran = await against({ [post]: taken, [get]: left }, ['secrets', 'rotate', '--yes'])
    expect(ran.exitCode).toBe(0)
    expect(ran.stdout).toContain('Do not open although their key is here: 1.')
  })

  test('fails when the server could not', async () => {
    const failed = secrets(
      [key('cccc0000', 'current'), key('aaaa0000', 'older', { answers: 9 })],
      rotation('failed'),
    )
    const ran = await against({ [post]: taken, [get]: failed }, ['secrets', 'rotate', '--yes'])
    expect(ran.exitCode).toBe(1)
    expect(ran.stderr).toContain('run this again')
  })

  test('says what to do where the settings give the key', async () => {
    const refused = problem(409, 'secret_key_in_settings', 'start the servers with a new BEACON_SECRET_KEY')
    const ran = await against({ [post]: refused }, ['secrets', 'rotate', '--yes'])
    expect(ran.exitCode).toBe(1)
    expect(ran.stderr).toContain('BEACON_SECRET_KEY')
  })

  test('only says what it would do with --dry-run', async () => {
    const now = secrets([
      key('aaaa0000', 'current', { answers: 9 }),
      key('bbbb0000', 'missing', { answers: 5 }),
    ])
    const ran = await against({ [get]: now }, ['secrets', 'rotate', '--dry-run'])
    expect(ran.exitCode).toBe(0)
    expect(ran.stdout).toContain('To be sealed anew: 9.')
    expect(ran.server.calls.map(({ method }) => method)).toEqual(['GET'])
  })

  test('does not wait when told so', async () => {
    const ran = await against({ [post]: taken }, ['secrets', 'rotate', '--yes', '--no-wait', '--json'])
    expect(ran.exitCode).toBe(0)
    expect(JSON.parse(ran.stdout)).toEqual(taken.body)
    expect(ran.server.calls).toHaveLength(1)
  })
})
