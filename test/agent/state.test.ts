import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AgentExit } from '../../agent/exit.ts'
import { placesOf } from '../../agent/places.ts'
import { type AgentState, parseState, renderState } from '../../agent/state.ts'
import { loadState, saveState } from '../../agent/state-file.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { placesAt, temporaryFolder } from './support/agent-process.ts'

const text = fc.string({ unit: 'grapheme', minLength: 1 })
const token = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => mintCheckedToken('robot', () => bytes))
const digest = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString('hex'))
const settings = fc.record(
  {
    enrollmentKeyFile: text,
    heartbeatSeconds: fc.double({ min: 0.5, max: 3_600, noNaN: true }),
    logLevel: fc.constantFrom('info', 'debug'),
  },
  { requiredKeys: [] },
)
const identity = fc.record({
  server: text,
  robotId: text,
  name: text,
  siteId: text,
  fleetId: text,
  gatewayUrl: text,
  heartbeatIntervalMs: fc.integer({ min: 1, max: 3_600_000 }),
  robotToken: token,
  nextToken: fc.option(token, { nil: undefined }),
  tokenMadeAt: fc.option(text, { nil: undefined }),
  machineId: fc.option(text, { nil: undefined }),
  credentialHash: fc.option(digest, { nil: undefined }),
  refusedCredentials: fc.option(fc.array(digest, { minLength: 1 }), { nil: undefined }),
})
const pending = fc.record({
  server: text,
  claimId: text,
  robotToken: token,
  credentialHash: fc.option(digest, { nil: undefined }),
})
const others = fc.constantFrom({}, { colour: 'red' }, { later: { deep: [1, 2] } })

const enrolledState: fc.Arbitrary<AgentState> = fc.record({ settings, identity, others })
/** Its token was refused, and it has begun to claim another identity. */
const enrollingAnew: fc.Arbitrary<AgentState> = fc.record({ settings, identity, pending, others })
const claimingState: fc.Arbitrary<AgentState> = fc.record({ settings, pending, others })
const anyState: fc.Arbitrary<AgentState> = fc.oneof(
  enrolledState,
  enrollingAnew,
  claimingState,
  fc.record({ settings, others }).filter((state) => renderState(state).includes('=')),
)

const example: AgentState = {
  settings: {},
  others: {},
  identity: {
    server: 'https://beacon.example',
    robotId: 'r-1',
    name: 'bot',
    siteId: 's',
    fleetId: 'f',
    gatewayUrl: 'wss://beacon.example/agent/ws',
    heartbeatIntervalMs: 10_000,
    robotToken: mintCheckedToken('robot'),
    machineId: undefined,
  },
}
/** The identity stands in the file for a later reader, too. */
function withIdentity(state: AgentState): AgentState {
  if (!state.identity) return state
  const { server, name } = state.identity
  return { ...state, settings: { ...state.settings, server, name } }
}

describe('the text of agent.toml', () => {
  test('reads back as what was written', () => {
    fc.assert(
      fc.property(anyState, (state) => {
        expect(parseState(renderState(state))).toEqual(withIdentity(state))
      }),
    )
  })

  test('cut short anywhere, never passes for a robot without an identity', () => {
    fc.assert(
      fc.property(
        fc.oneof(enrolledState, claimingState),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (state, at) => {
          const whole = renderState(state)
          const torn = whole.slice(0, Math.floor(whole.length * at))
          let read: AgentState | undefined
          try {
            read = parseState(torn)
          } catch {
            return
          }
          // What is left may lack keys that this version does not know, but not who the robot is.
          expect(read).toEqual({ ...withIdentity(state), others: read.others })
        },
      ),
    )
  })

  test('with a mistyped token is refused', () => {
    const damaged = renderState(example).replace(
      /rf_robot_(.)/,
      (_, digit) => `rf_robot_${digit === '0' ? '1' : '0'}`,
    )
    expect(() => parseState(damaged)).toThrow(/robot_token: is damaged/)
  })
})

describe('the file', () => {
  test('keeps the content before as its copy and leaves nothing else behind', () => {
    const places = placesAt(join(temporaryFolder(), 'new', 'agent.toml'))
    saveState(places, { settings: { logLevel: 'debug' }, others: {} })
    saveState(places, example)
    expect(loadState(places)).toEqual({ state: withIdentity(example), warnings: [], isFromCopy: false })
    expect(parseState(readFileSync(places.backup, 'utf8'))).toMatchObject({ settings: { logLevel: 'debug' } })
    expect(readdirSync(places.stateDir).sort()).toEqual(['agent.toml', 'agent.toml.bak'])
    expect(statSync(places.config).mode & 0o777).toBe(0o600)
    expect(statSync(places.stateDir).mode & 0o777).toBe(0o700)
  })

  test('is read from its copy when it is damaged or gone', () => {
    const places = placesAt(join(temporaryFolder(), 'agent.toml'))
    saveState(places, example)
    saveState(places, example)
    for (const damage of ['', 'state = "enrolled"\nserver = "htt', '\u0000\u0000\u0000\u0000']) {
      writeFileSync(places.config, damage)
      const { state, warnings } = loadState(places)
      expect(state).toEqual(withIdentity(example))
      expect(warnings.join()).toMatch(/cannot be used.*going on with the copy/)
    }
    rmSync(places.config)
    expect(loadState(places).warnings.join()).toMatch(/is gone/)
  })

  test('that nothing can be made of ends the agent', () => {
    const places = placesAt(join(temporaryFolder(), 'agent.toml'))
    writeFileSync(places.config, 'robot_token = "rf_robot_')
    expect(() => loadState(places)).toThrow(AgentExit)
    writeFileSync(places.backup, 'also broken =')
    expect(() => loadState(places)).toThrow(/beacon agent forget/)
  })

  test('with a robot token quotes it in no message', () => {
    const places = placesAt(join(temporaryFolder(), 'agent.toml'))
    const whole = renderState(example)
    writeFileSync(places.config, whole.replace('robot_token = "', 'robot_token = '))
    let message = ''
    try {
      loadState(places)
    } catch (error) {
      message = (error as Error).message
    }
    expect(message).toMatch(/cannot be used/)
    expect(message).not.toContain(example.identity!.robotToken.slice(9, 20))
  })

  test('that others could read is closed, aloud', () => {
    const places = placesAt(join(temporaryFolder(), 'agent.toml'))
    saveState(places, example)
    chmodSync(places.config, 0o644)
    expect(loadState(places).warnings.join()).toMatch(/permissions are now 0600/)
    expect(statSync(places.config).mode & 0o777).toBe(0o600)
  })

  test('that cannot be written ends the agent with the reason', () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'file'), '')
    expect(() => saveState(placesAt(join(folder, 'file', 'agent.toml')), example)).toThrow(/cannot write/)
  })

  test('absent, there is no identity', () => {
    const places = placesAt(join(temporaryFolder(), 'agent.toml'))
    expect(loadState(places)).toEqual({
      state: { settings: {}, others: {} },
      warnings: [],
      isFromCopy: false,
    })
    expect(existsSync(places.config)).toBe(false)
  })
})

describe('where it lies', () => {
  const from = { config: undefined, env: {}, isRoot: false, accountHome: '/home/ada' }
  const config = (more: object) => placesOf({ ...from, ...more }).config

  test('by flag, by XDG, by home; by the system for root', () => {
    expect(config({})).toBe('/home/ada/.config/roboflare/agent.toml')
    expect(config({ env: { HOME: '/elsewhere' } })).toBe('/elsewhere/.config/roboflare/agent.toml')
    expect(config({ env: { XDG_CONFIG_HOME: '/xdg' } })).toBe('/xdg/roboflare/agent.toml')
    expect(config({ config: '/srv/one.toml', env: { XDG_CONFIG_HOME: '/xdg' } })).toBe('/srv/one.toml')
    expect(placesOf({ ...from, isRoot: true, accountHome: '/root' })).toMatchObject({
      config: '/etc/beacon/agent.toml',
      stateDir: '/var/lib/beacon',
      isCustom: false,
    })
  })

  test('only the usual place stands for the machine itself', () => {
    expect(placesOf(from).isCustom).toBe(false)
    expect(placesOf({ ...from, config: '/home/ada/.config/roboflare/agent.toml' }).isCustom).toBe(false)
    expect(placesOf({ ...from, config: '/srv/one.toml' }).isCustom).toBe(true)
    expect(placesOf({ ...from, env: { HOME: '/elsewhere' } }).isCustom).toBe(true)
  })

  test('a link leads to one identity, by whichever name', () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'real'))
    writeFileSync(join(folder, 'real', 'agent.toml'), '')
    symlinkSync(join(folder, 'real', 'agent.toml'), join(folder, 'link.toml'))
    expect(placesAt(join(folder, 'link.toml'))).toEqual(placesAt(join(folder, 'real', 'agent.toml')))
  })
})
