import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EventQueue } from '../../../agent/events.ts'
import { AgentExit } from '../../../agent/exit.ts'
import { KeptFile } from '../../../agent/kept-file.ts'
import { FaultFile } from '../../../agent/local/fault-store.ts'
import type { Log } from '../../../agent/log.ts'
import { Sequence } from '../../../agent/sequence.ts'
import { SessionCount } from '../../../agent/session-count.ts'
import { type AgentState, parseState, renderState } from '../../../agent/state.ts'
import { type LoadedState, loadState, restoreState, saveState } from '../../../agent/state-file.ts'
import { Store } from '../../../agent/store.ts'
import { ManualClock } from '../../support/clock.ts'
import { placesAt, temporaryFolder } from '../support/agent-process.ts'
import { silentLog } from '../support/silent-log.ts'
import { CLAIM, IDENTITY, ROTATING } from './states.ts'

/** Writes into a file of its own: a disk is slow to cut one short that is there. */
function put(path: string, content: string | Buffer): void {
  rmSync(path, { force: true })
  writeFileSync(path, content)
}

/** To a neighbour, to the other case, and out of ASCII; a line break and a comment, which mean something. */
const CHANGES: readonly ((byte: number) => number)[] = [
  (byte) => byte ^ 0x01,
  (byte) => byte ^ 0x20,
  (byte) => byte ^ 0x80,
  () => 0x0a,
  () => 0x23,
]

/** The content cut at each length, and with each of its bytes changed in several ways. */
function* damaged(whole: Buffer, changes = CHANGES): Generator<Buffer> {
  for (let length = 0; length < whole.length; length++) yield whole.subarray(0, length)
  for (let at = 0; at < whole.length; at++) {
    const before = whole[at]!
    const bytes = new Set(changes.map((change) => change(before)))
    bytes.delete(before)
    for (const byte of bytes) {
      const changed = Buffer.from(whole)
      changed[at] = byte
      yield changed
    }
  }
}

/** What a file system may leave when the power goes before a file's content is on the disk, though its name is. */
const POWER_CUTS: readonly ((whole: Buffer) => Buffer)[] = [
  () => Buffer.alloc(0),
  (whole) => Buffer.alloc(whole.length),
  (whole) => Buffer.from(whole).fill(0, whole.length >> 1),
  (whole) => Buffer.from(whole).fill(0, 0, whole.length >> 1),
  (whole) => Buffer.alloc(whole.length, 0xff),
  () => Buffer.from('{"other": "file"}\n'),
]

/** Who the robot is. `server` and `name` are settings: a person may change them, and so nobody can tell who did. */
function whoIs({ identity, pending }: AgentState): unknown {
  return JSON.parse(JSON.stringify({ identity: { ...identity, server: '', name: '' }, pending }))
}

const WRITTEN: Readonly<Record<string, (store: Store) => void>> = {
  'a claim under way': (store) => store.keepPending(CLAIM),
  'an identity': (store) => {
    store.keepPending(CLAIM)
    store.becomeIdentity(IDENTITY)
  },
  'an identity that changes its token': (store) => {
    store.becomeIdentity(IDENTITY)
    store.keepIdentity(ROTATING)
    store.keepIdentity(ROTATING)
  },
  'an identity that enrols anew': (store) => {
    store.becomeIdentity(IDENTITY)
    store.keepPending({ ...CLAIM, claimId: 'another' })
  },
}

function written(write: (store: Store) => void) {
  const places = placesAt(join(temporaryFolder(), 'agent.toml'))
  write(new Store(places, { settings: { heartbeatSeconds: 5 }, others: { colour: 'red' } }))
  const whole = readFileSync(places.config)
  return { places, whole, who: whoIs(parseState(whole.toString())) }
}

describe.each(Object.entries(WRITTEN))('agent.toml with %s', (_, write) => {
  test('cut anywhere, or with any byte changed, is still the same robot', () => {
    const { places, whole, who } = written(write)
    let count = 0
    for (const bytes of damaged(whole)) {
      put(places.config, bytes)
      expect(whoIs(loadState(places).state)).toEqual(who)
      count++
    }
    expect(count).toBeGreaterThan(whole.length * 5)
  })

  test('does not care for its copy while it is whole itself', () => {
    const { places, whole, who } = written(write)
    for (const bytes of damaged(whole, [() => 0x00])) {
      put(places.backup, bytes)
      const loaded = loadState(places)
      expect(whoIs(loaded.state)).toEqual(who)
      expect(loaded.isFromCopy).toBe(false)
    }
  })

  test('after a power cut that left the name without the content, is read from its copy', () => {
    const { places, whole, who } = written(write)
    for (const cut of POWER_CUTS) {
      put(places.config, cut(whole))
      const { state, isFromCopy, warnings } = loadState(places)
      expect(whoIs(state)).toEqual(who)
      expect(isFromCopy).toBe(true)
      expect(warnings.join()).toMatch(/cannot be used: .*; going on with the copy before it/)
      expect(restoreState(places, state)).toMatch(/written anew from its copy; .* is now .*damaged$/)
      expect(readFileSync(places.damaged)).toEqual(cut(whole))
      expect(loadState(places)).toEqual({ state, warnings: [], isFromCopy: false })
      expect(whoIs(parseState(readFileSync(places.backup, 'utf8')))).toEqual(who)
    }
  })

  test('damaged in both places is the same robot, or none until a person comes', () => {
    const { places, whole, who } = written(write)
    const damage = fc.record({
      at: fc.nat(whole.length - 1),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 600 }),
    })
    const ruin = (path: string, { at, bytes }: { at: number; bytes: Uint8Array }) =>
      put(path, Buffer.concat([whole.subarray(0, at), bytes, whole.subarray(at + bytes.length)]))
    fc.assert(
      fc.property(damage, damage, (current, copy) => {
        ruin(places.config, current)
        ruin(places.backup, copy)
        let loaded: LoadedState
        try {
          loaded = loadState(places)
        } catch (error) {
          expect(error).toBeInstanceOf(AgentExit)
          expect((error as AgentExit).exitCode).toBe(1)
          return
        }
        expect(whoIs(loaded.state)).toEqual(who)
      }),
      { numRuns: 500 },
    )
  })
})

describe('the checksum', () => {
  test('lets a person change settings, comments, spaces and the order of lines', () => {
    const { places, who } = written(WRITTEN['an identity']!)
    const [state, checksum, ...rest] = readFileSync(places.config, 'utf8').trim().split('\n')
    const lines = rest
      .filter((line) => !line.startsWith('#') && !line.startsWith('heartbeat_seconds'))
      .map((line) => line.replace(' = ', '   =  '))
    writeFileSync(
      places.config,
      ['# mine', 'log_level = "debug"', state, '', ...lines.reverse(), 'note = 1', checksum, ''].join('\r\n'),
    )
    const loaded = loadState(places)
    expect(loaded).toMatchObject({ isFromCopy: false, warnings: [] })
    expect(whoIs(loaded.state)).toEqual(who)
    expect(loaded.state.settings).toMatchObject({ logLevel: 'debug' })
    expect(loaded.state.settings).not.toHaveProperty('heartbeatSeconds')
  })

  test('does not let the identity be changed, in whichever part', () => {
    const state: AgentState = { settings: {}, others: {}, identity: ROTATING, pending: CLAIM }
    const text = renderState(state)
    const lines = text.split('\n')
    const free = /^(#|$|server =|name =|\[)/
    const covered = lines.flatMap((line, index) => {
      const isOfClaim = index > lines.indexOf('[pending]')
      return (!free.test(line) || isOfClaim) && line !== '' ? [index] : []
    })
    expect(covered.length).toBeGreaterThan(15)
    for (const index of covered) {
      const without = lines.toSpliced(index, 1).join('\n')
      const isChecksum = lines[index]!.startsWith('checksum')
      if (isChecksum) expect(whoIs(parseState(without))).toEqual(whoIs(state))
      else expect(() => parseState(without), lines[index]).toThrow()
      const changed = lines.with(
        index,
        lines[index]!.replace(/[0-9A-Za-z](?="?,?( \])?$)/, (last) => (last === '1' ? '2' : '1')),
      )
      expect(changed).not.toEqual(lines)
      expect(() => parseState(changed.join('\n')), changed[index]).toThrow()
    }
  })

  test('is missing in a file of before, which is read and gets one with the next save', () => {
    const { places, who } = written(WRITTEN['an identity']!)
    const old = readFileSync(places.config, 'utf8').replace(/^checksum = .*\n/m, '')
    expect(old).not.toContain('checksum =')
    put(places.config, old)
    const { state } = loadState(places)
    expect(whoIs(state)).toEqual(who)
    saveState(places, state)
    expect(readFileSync(places.config, 'utf8')).toMatch(
      /^state = "enrolled"\nchecksum = "sha256:[0-9a-f]{64}"\n/,
    )
  })
})

describe('a damaged agent.toml', () => {
  test('never becomes the copy', () => {
    const { places, whole, who } = written(WRITTEN['an identity']!)
    for (const cut of POWER_CUTS) {
      put(places.config, cut(whole))
      saveState(places, parseState(whole.toString()))
      for (const path of [places.config, places.backup])
        expect(whoIs(parseState(readFileSync(path, 'utf8')))).toEqual(who)
    }
  })

  test('without a good copy gets one with the next save', () => {
    const { places, whole } = written(WRITTEN['an identity']!)
    for (const ruin of [() => rmSync(places.backup), () => put(places.backup, '')]) {
      put(places.config, 'state = "enr')
      ruin()
      saveState(places, parseState(whole.toString()))
      expect(readFileSync(places.backup)).toEqual(whole)
    }
  })

  test('that was made so by hand is kept for whoever made it', () => {
    const { places, whole } = written(WRITTEN['an identity']!)
    const typed = `${whole}heartbeat_seconds = five\n`
    put(places.config, typed)
    restoreState(places, loadState(places).state)
    expect(readFileSync(places.damaged, 'utf8')).toBe(typed)
    expect(readdirSync(places.stateDir).sort()).toEqual([
      'agent.toml',
      'agent.toml.bak',
      'agent.toml.damaged',
    ])
  })
})

describe('the numbers of heartbeats', () => {
  /** After some numbers went out; the clock of this robot is wrong from the next start on. */
  function used() {
    const path = join(temporaryFolder(), 'agent.toml.seq')
    const sequence = new Sequence(path, new ManualClock(1_700_000_000_000), () => {})
    let last = 0
    for (let turn = 0; turn < 1_500; turn++) last = sequence.next()
    return { path, last, whole: readFileSync(path) }
  }
  const nextAt = (path: string, clock: ManualClock) => new Sequence(path, clock, () => {}).next()

  test.each(['', '.bak'])(
    'never go back, however agent.toml.seq%s is damaged and whatever the clock says',
    (which) => {
      const { path, last, whole } = used()
      const other = which === '' ? `${path}.bak` : path
      for (const bytes of [...damaged(whole), ...POWER_CUTS.map((cut) => cut(whole))]) {
        put(`${path}${which}`, bytes)
        expect(nextAt(path, new ManualClock(0))).toBeGreaterThan(last)
        put(other, whole)
      }
    },
  )

  test('go on from what an agent of before wrote', () => {
    const { path, last } = used()
    rmSync(`${path}.bak`)
    put(path, `${last + 1}\n`)
    expect(nextAt(path, new ManualClock(0))).toBe(last + 1)
  })

  test('begin with the clock where both files are damaged, and it is told', () => {
    const { path, last } = used()
    for (const one of [path, `${path}.bak`]) put(one, '17')
    const told: string[] = []
    const sequence = new Sequence(path, new ManualClock(1_700_000_100_000), (sentence) => told.push(sentence))
    expect(sequence.next()).toBeGreaterThan(last)
    expect(told).toHaveLength(2)
    expect(told[0]).toMatch(/agent\.toml\.seq is damaged/)
  })
})

test('the count of sessions is right, or not told at all, however its file is damaged', () => {
  const path = join(temporaryFolder(), 'agent.toml.session')
  const { robotId } = IDENTITY
  new SessionCount(path, robotId, () => {}).opened(1_234)
  const whole = readFileSync(path)
  expect(new SessionCount(path, robotId, () => {}).last).toBe(1_234)
  for (const bytes of [...damaged(whole), ...POWER_CUTS.map((cut) => cut(whole))]) {
    put(path, bytes)
    expect(new SessionCount(path, robotId, () => {}).last).toBeUndefined()
  }
  put(path, `${robotId} 1234\n`)
  expect(new SessionCount(path, robotId, () => {}).last).toBe(1_234)
})

describe('events and faults', () => {
  const event = {
    type: 'event',
    id: 'e-1',
    at: '2026-01-01T00:00:00Z',
    level: 'warn',
    code: 'door',
    message: 'open',
  } as const
  const warnings: string[] = []
  const log: Log = { ...silentLog, warn: (sentence) => void warnings.push(sentence) }
  const open = (path: string) => new KeptFile(path, new ManualClock(), log)

  function texts(queue: EventQueue): string[] {
    const sent: string[] = []
    queue.pump((text) => sent.push(text) > 0)
    return sent
  }

  test('are taken whole or not at all, and it is told', () => {
    const folder = temporaryFolder()
    const eventPath = join(folder, 'agent.toml.events')
    const faultPath = join(folder, 'agent.toml.faults')
    const queue = new EventQueue(new ManualClock(), undefined, open(eventPath))
    queue.keepEvent(event)
    queue.stop()
    const fault = { code: 'arm', level: 'error', message: 'no air', since: '2026-01-01T00:00:00Z' } as const
    const faults = new FaultFile(faultPath, 'boot', new ManualClock(), log)
    faults.write([fault])
    faults.stop()
    const read = {
      [eventPath]: () => texts(new EventQueue(new ManualClock(), undefined, open(eventPath))),
      [faultPath]: () => [...new FaultFile(faultPath, 'boot', new ManualClock(), log).read()],
    }
    expect(read[eventPath]!()).toEqual([JSON.stringify(event)])
    expect(read[faultPath]!()).toEqual([fault])
    expect(warnings).toEqual([])
    for (const [path, look] of Object.entries(read)) {
      const whole = readFileSync(path)
      for (const bytes of [...damaged(whole), ...POWER_CUTS.map((cut) => cut(whole))]) {
        put(path, bytes)
        expect(look()).toEqual([])
      }
      expect(warnings.splice(0)).toContain(`${path} is damaged: what it held is left out`)
    }
  })

  test('of an agent of before are read', () => {
    const path = join(temporaryFolder(), 'agent.toml.events')
    put(path, `${JSON.stringify([event])}\n`)
    expect(texts(new EventQueue(new ManualClock(), undefined, open(path)))).toEqual([JSON.stringify(event)])
  })
})
