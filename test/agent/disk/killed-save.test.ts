import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { removeLeftovers } from '../../../agent/files.ts'
import type { Places } from '../../../agent/places.ts'
import { Sequence } from '../../../agent/sequence.ts'
import { SessionCount } from '../../../agent/session-count.ts'
import type { AgentState } from '../../../agent/state.ts'
import { loadState, saveState } from '../../../agent/state-file.ts'
import { Store } from '../../../agent/store.ts'
import { ManualClock } from '../../support/clock.ts'
import { placesAt, temporaryFolder } from '../support/agent-process.ts'
import { CLAIM, IDENTITY, ROTATING } from './states.ts'

const KILL_AT_CALL = join(import.meta.dirname, 'kill-at-call.mjs')
const WRITER = join(import.meta.dirname, 'writer.mjs')

/** Something that is written, and what counts as whole before and after it. */
interface Save {
  readonly task: string
  readonly given?: unknown
  /** Makes the disk as it is before. */
  readonly before: (places: Places) => void
  /** What is to be found there; equal before or after, whatever happened. */
  readonly look: (places: Places) => unknown
}

const storeAt = (places: Places) => new Store(places, { settings: { heartbeatSeconds: 5 }, others: {} })
const enrolled = (places: Places) => storeAt(places).becomeIdentity(IDENTITY)
const whole = (places: Places): unknown => {
  const { state } = loadState(places)
  return JSON.parse(JSON.stringify(state)) as AgentState
}

const SAVES: Readonly<Record<string, Save>> = {
  'the first claim': { task: 'claim', given: CLAIM, before: () => {}, look: whole },
  'an identity in place of its claim': {
    task: 'become',
    given: IDENTITY,
    before: (places) => storeAt(places).keepPending(CLAIM),
    look: whole,
  },
  'a claim beside an identity': { task: 'claim', given: CLAIM, before: enrolled, look: whole },
  'a token that is to come next': { task: 'identity', given: ROTATING, before: enrolled, look: whole },
  'an identity in place of a damaged one': {
    task: 'restore',
    before: (places) => {
      enrolled(places)
      writeFileSync(places.config, 'state = "enrolled"\n')
    },
    look: whole,
  },
  'the numbers of heartbeats': {
    task: 'number',
    before: (places) => void new Sequence(places.sequence, new ManualClock(5_000), () => {}).next(),
    // The number that goes out is above all before, whichever mark is found.
    look: (places) => new Sequence(places.sequence, new ManualClock(0), () => {}).upcoming > 5_000,
  },
  'the count of sessions': {
    task: 'session',
    given: { robotId: IDENTITY.robotId, sessionNo: 8 },
    before: (places) => new SessionCount(places.sessionCount, IDENTITY.robotId, () => {}).opened(7),
    look: (places) => new SessionCount(places.sessionCount, IDENTITY.robotId, () => {}).last,
  },
}

function placesFor({ before }: Save): Places {
  const places = placesAt(join(temporaryFolder(), 'state', 'agent.toml'))
  before(places)
  return places
}

interface Outcome {
  readonly signal: NodeJS.Signals | null
  readonly output: string
}

function write(
  { task, given }: Save,
  places: Places,
  fault: { readonly at: number; readonly kind: string } = { at: 0, kind: 'none' },
): Promise<Outcome> {
  return outcomeOf(
    [process.execPath, '--import', KILL_AT_CALL, WRITER, places.config, task, JSON.stringify(given ?? null)],
    {
      FAULT_FOLDER: places.stateDir,
      FAULT_AT: String(fault.at),
      FAULT: fault.kind,
    },
  )
}

async function outcomeOf(
  [program, ...args]: readonly string[],
  env: Record<string, string>,
): Promise<Outcome> {
  const child = spawn(program!, args, {
    env: { PATH: process.env.PATH, NODE_NO_WARNINGS: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const [, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { signal, output }
}

/** What is found when nothing goes wrong, and what was there before; and by which calls. */
async function withoutFault(save: Save) {
  const places = placesFor(save)
  const before = save.look(places)
  const { output, signal } = await write(save, places)
  expect(output).toContain('END')
  expect(signal).toBeNull()
  return { before, after: save.look(places), calls: /CALLS (.*)/.exec(output)![1]!.split(' ') }
}

/** The same fault at each call, or at each of one name. */
function faultsAt(calls: readonly string[], kind: string, name?: string) {
  return calls.flatMap((call, index) =>
    name === undefined || call === name ? [{ kind, at: index + 1 }] : [],
  )
}

/** After whatever happened: one or the other, whole, and the next start clears up and can write. */
function expectWhole(
  save: Save,
  places: Places,
  expected: { before: unknown; after: unknown },
  when: string,
): void {
  const found = save.look(places)
  expect([expected.before, expected.after], when).toContainEqual(found)
  removeLeftovers(places.stateDir, places.stem)
  const names = readdirSync(join(places.stateDir, '..'), { recursive: true, encoding: 'utf8' })
  expect(
    names.filter((name) => name.endsWith('.tmp')),
    when,
  ).toEqual([])
  expect(save.look(places), when).toEqual(found)
  if (save.look !== whole) return
  const { state } = loadState(places)
  saveState(places, { ...state, others: { later: when } })
  expect(loadState(places), when).toMatchObject({ state: { others: { later: when } }, warnings: [] })
}

/** Three at a time: they wait for the disk, and for a process to start. */
async function forEach<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = [...items]
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item)
  }
  await Promise.all([worker(), worker(), worker()])
}

const LONG = { timeout: 180_000 }

describe.each(Object.entries(SAVES))('a process that writes %s', (_, save) => {
  test('and is killed at any call leaves the old or the new, whole', LONG, async () => {
    const expected = await withoutFault(save)
    expect(expected.calls.length).toBeGreaterThan(5)
    // After one call is before the next.
    const faults = [
      ...faultsAt(expected.calls, 'before'),
      { kind: 'after', at: expected.calls.length },
      ...faultsAt(expected.calls, 'torn', 'writeSync'),
    ]
    await forEach(faults, async (fault) => {
      const places = placesFor(save)
      const { signal, output } = await write(save, places, fault)
      const when = `${fault.kind} call ${fault.at}`
      expect(signal, `${when} ${output}`).toBe('SIGKILL')
      expectWhole(save, places, expected, when)
    })
  })

  test('and meets a disk that fails at any call says so, and leaves the old or the new', {
    timeout: 120_000,
  }, async () => {
    const expected = await withoutFault(save)
    const faults = [...faultsAt(expected.calls, 'ENOSPC'), ...faultsAt(expected.calls, 'short', 'writeSync')]
    let told = 0
    await forEach(faults, async (fault) => {
      const places = placesFor(save)
      const { signal, output } = await write(save, places, fault)
      const when = `${fault.kind} at call ${fault.at}: ${output}`
      expect(signal, when).toBeNull()
      expect(output, when).toMatch(/^(END|EXIT 1 cannot write .*)$/m)
      if (/cannot write .*(ENOSPC|EIO)/.test(output)) told++
      if (fault.kind === 'short') {
        // The rest is written by another call.
        expect(output, when).toContain('END')
        expect(save.look(places), when).toEqual(expected.after)
      } else if (save.task === 'session') {
        const last = save.look(places)
        expect([7, 8, undefined], when).toContain(last)
      } else expectWhole(save, places, expected, when)
    })
    expect(told).toBeGreaterThan(expected.calls.length / 2)
  })
})

const CALLS = ['openat', 'write', 'fsync', 'close', 'link', 'rename', 'unlink', 'mkdir'] as const

/** Where the system kills at a system call itself. In a pipeline (`CI`) it must; elsewhere one line says that it is left out. */
function canTrace(): boolean {
  const { status, stderr, error } = spawnSync('strace', ['-o', '/dev/null', 'true'], { encoding: 'utf8' })
  if (status === 0) return true
  const why = error?.message ?? stderr.trim()
  const how = `killing at system calls: strace cannot be used (${why}); get it with: apt-get install strace`
  if (process.env.CI) throw new Error(how)
  process.stderr.write(`LEFT OUT: ${how}\n`)
  return false
}

describe.runIf(canTrace())('a system that, while a process writes', () => {
  const traced = [
    'the first claim',
    'an identity in place of its claim',
    'the numbers of heartbeats',
  ] as const

  /** The process under strace from the moment on at which it begins to write: what it calls before is not always the same. */
  async function trace(
    save: Save,
    places: Places,
    options: readonly string[],
    log = '/dev/null',
  ): Promise<Outcome> {
    const { task, given } = save
    const child = spawn(process.execPath, [WRITER, places.config, task, JSON.stringify(given ?? null)], {
      env: { PATH: process.env.PATH, WAIT: 'yes' },
      stdio: 'pipe',
    })
    const ended = once(child, 'close')
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    child.stdin.on('error', () => {})
    await once(child.stdout, 'data')
    const tracer = spawn('strace', ['-o', log, ...options, '-p', String(child.pid)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const traceEnded = once(tracer, 'close')
    await once(tracer.stderr, 'data')
    child.stdin.write('\n')
    const [, signal] = (await ended) as [number | null, NodeJS.Signals | null]
    await traceEnded
    return { signal, output }
  }

  /** The calls of a save: of each name, which ones by number. */
  async function callsOf(save: Save): Promise<{ name: string; no: number }[]> {
    const places = placesFor(save)
    const log = join(places.stateDir, '..', 'calls')
    const { output } = await trace(save, places, ['-e', `trace=${CALLS.join(',')}`], log)
    expect(output).toContain('END')
    const lines = readFileSync(log, 'utf8').split('\n')
    const seen = new Map<string, number>()
    const found: { name: string; no: number }[] = []
    for (const line of lines.slice(
      0,
      lines.findIndex((one) => one.includes('END')),
    )) {
      const name = /^\w+/.exec(line)?.[0]
      if (!name || line.includes('write(1,')) continue
      const no = (seen.get(name) ?? 0) + 1
      seen.set(name, no)
      found.push({ name, no })
    }
    for (const needed of ['openat', 'write', 'fsync', 'close', 'rename'])
      expect([...seen.keys()]).toContain(needed)
    return found
  }

  test.each(traced)(
    '%s, kills it at any system call: the old or the new is there, whole',
    LONG,
    async (name) => {
      const save = SAVES[name]!
      const expected = await withoutFault(save)
      const calls = await callsOf(save)
      expect(calls.length).toBeGreaterThan(10)
      await forEach(calls, async (call) => {
        const places = placesFor(save)
        const inject = `inject=${call.name}:signal=KILL:when=${call.no}`
        const { signal, output } = await trace(save, places, ['-e', `trace=${call.name}`, '-e', inject])
        const when = `${call.name} ${call.no}: ${output}`
        expect(signal, when).toBe('SIGKILL')
        expect(output, when).not.toContain('END')
        expectWhole(save, places, expected, when)
      })
    },
  )

  test.each(traced)(
    '%s, fails at any system call: it says so, and the old or the new is there',
    LONG,
    async (name) => {
      const save = SAVES[name]!
      const expected = await withoutFault(save)
      const calls = (await callsOf(save)).filter((call) => !['close', 'unlink', 'mkdir'].includes(call.name))
      await forEach(calls, async (call) => {
        const places = placesFor(save)
        const code = call.name === 'write' ? 'ENOSPC' : 'EIO'
        const inject = `inject=${call.name}:error=${code}:when=${call.no}`
        const { signal, output } = await trace(save, places, ['-e', `trace=${call.name}`, '-e', inject])
        const when = `${call.name} ${call.no}: ${output}`
        expect(signal, when).toBeNull()
        // Where no second name can be given, the file is copied; a mark that cannot be read has its copy.
        if (call.name !== 'link') expect(output, when).toMatch(/\bcan(not)?\b.*(EIO|ENOSPC)|is damaged|END/)
        expectWhole(save, places, expected, when)
      })
    },
  )
})
