import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Disk, systemDisk } from '../../agent/spool/disk.ts'
import { Ring, type RingEntry } from '../../agent/spool/ring.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'

const HELD_MS = 1_000

interface Wish {
  readonly maxBytes?: number
  readonly disk?: Disk
  readonly owner?: string
}

/** Does something with a folder as a user whom its mode binds: root is bound by none. */
function asSomebody(folder: string, work: () => void): void {
  if (process.getuid?.() !== 0) {
    work()
    return
  }
  const nobody = 65_534
  for (const path of [dirname(folder), folder]) chownSync(path, nobody, nobody)
  process.seteuid!(nobody)
  try {
    work()
  } finally {
    process.seteuid!(0)
  }
}

/** A ring in a folder of its own, which can be closed, or left as a killed process leaves it, and opened again. */
class Bench {
  readonly folder = join(temporaryFolder(), 'spool')
  clock = new ManualClock()
  readonly #open = new Set<number>()
  readonly troubles: string[] = []
  ring: Ring

  readonly wish: Wish

  constructor(wish: Wish = {}) {
    this.wish = wish
    this.ring = this.open()
    onTestFinished(() => this.kill())
  }

  /** The system closes what a killed process had open, and its timers are gone. */
  kill(): void {
    for (const descriptor of this.#open) closeSync(descriptor)
    this.#open.clear()
    this.clock = new ManualClock()
  }

  #disk(): Disk {
    // Thousands of syncs would take minutes, and show nothing without a power cut.
    const disk = this.wish.disk ?? { ...systemDisk, sync: async () => {}, syncNow() {} }
    const kept = (descriptor: number) => {
      this.#open.add(descriptor)
      return descriptor
    }
    return Object.assign(Object.create(disk) as Disk, {
      create: (path: string) => kept(disk.create(path)),
      reopen: (path: string) => kept(disk.reopen(path)),
      open: (path: string) => kept(disk.open(path)),
      close: (descriptor: number) => {
        this.#open.delete(descriptor)
        disk.close(descriptor)
      },
    })
  }

  open(owner = this.wish.owner ?? 'robot'): Ring {
    this.kill()
    this.ring = new Ring({
      disk: this.#disk(),
      clock: this.clock,
      folder: this.folder,
      name: 'beats',
      owner,
      maxBytes: this.wish.maxBytes ?? 1024 * 1024,
      label: (text) => `#${JSON.parse(text).seq}`,
      onTrouble: (sentence) => this.troubles.push(sentence),
    })
    return this.ring
  }

  add(...numbers: number[]): void {
    for (const no of numbers) this.ring.add({ no, text: textOf(no) })
  }

  /** Lets the ring write what it holds. */
  settle(): void {
    this.clock.advance(HELD_MS)
  }

  facts() {
    const { size, bytes, dropped, untold, damaged, oldest, highest } = this.ring
    return { size, bytes, dropped, untold, damaged, oldest, highest }
  }

  files(): string[] {
    return readdirSync(this.folder).sort()
  }

  all(): readonly RingEntry[] {
    return this.ring.after(-1, Number.MAX_SAFE_INTEGER)
  }

  numbers(): number[] {
    return this.all().map(({ no }) => no)
  }
}

const textOf = (no: number) => JSON.stringify({ seq: no, text: 'ä'.repeat(no % 7) })
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

describe('a ring on disk', () => {
  test('writes nothing of a robot whose acknowledgements come in time, however often it beats', () => {
    const bench = new Bench()
    for (let no = 1; no <= 20; no++) {
      bench.add(no)
      bench.clock.advance(300)
      bench.ring.acknowledge(no, no)
      bench.clock.advance(150)
      expect(bench.files()).toEqual([])
    }
    // Nor does a file stay for want of a moment in which nothing is under way.
    bench.add(21)
    bench.settle()
    expect(bench.files()).toHaveLength(1)
    bench.ring.acknowledge(21, 21)
    for (let no = 22; no <= 32; no++) {
      bench.add(no)
      bench.clock.advance(100)
      if (no > 22) bench.ring.acknowledge(no - 1, no - 1)
    }
    bench.ring.acknowledge(32, 32)
    expect(bench.files()).toEqual([])
    // And each that waits for longer is written once it does.
    bench.clock.advance(HELD_MS)
    bench.add(33)
    bench.clock.advance(600)
    bench.add(34)
    bench.clock.advance(HELD_MS - 600)
    const size = () => statSync(join(bench.folder, bench.files()[0]!)).size
    const one = size()
    bench.clock.advance(599)
    expect(size()).toBe(one)
    bench.clock.advance(1)
    expect(size()).toBeGreaterThan(one)
  })

  test('writes nothing when the acknowledgement comes soon', () => {
    const bench = new Bench()
    bench.add(1, 2)
    bench.ring.acknowledge(0, 2)
    bench.settle()
    expect(bench.files()).toEqual([])
    expect(bench.facts()).toMatchObject({ size: 0, bytes: 0, dropped: 0, oldest: undefined, highest: 2 })
  })

  test('has what was written after the process was killed, and what was acknowledged not again', () => {
    const bench = new Bench()
    bench.add(...upTo(20))
    bench.settle()
    bench.ring.acknowledge(0, 5)
    bench.ring.acknowledge(9, 11)
    bench.settle()
    bench.open()
    expect(bench.numbers()).toEqual([6, 7, 8, 12, 13, 14, 15, 16, 17, 18, 19, 20])
    expect(bench.all().map(({ text }) => text)).toEqual(bench.numbers().map(textOf))
    expect(bench.facts()).toMatchObject({ size: 12, oldest: 6, highest: 20, damaged: 0 })
    bench.ring.acknowledge(0, 20)
    bench.settle()
    expect(bench.files()).toEqual([])
  })

  test('forgets nothing that came after an acknowledgement, whatever numbers that names', () => {
    for (const forget of [(ring: Ring) => ring.clear(), (ring: Ring) => ring.acknowledge(0, 1_000)]) {
      const bench = new Bench()
      bench.add(1)
      bench.settle()
      forget(bench.ring)
      bench.add(2)
      bench.ring.close()
      bench.open()
      expect(bench.numbers()).toEqual([2])
    }
  })

  test('loses nothing at a clean end', () => {
    const bench = new Bench()
    bench.add(1, 2, 3)
    bench.ring.acknowledge(2, 2)
    bench.ring.close()
    bench.open()
    expect(bench.numbers()).toEqual([1, 3])
    expect(statSync(join(bench.folder, bench.files()[0]!)).mode & 0o777).toBe(0o600)
  })

  test('writes on in the same file after a restart, so that restarts do not fill the folder with files', () => {
    const bench = new Bench()
    for (const no of upTo(50)) {
      bench.add(no)
      bench.settle()
      bench.open()
    }
    expect(bench.files()).toHaveLength(1)
    expect(bench.numbers()).toEqual(upTo(50))
  })

  test('drops the oldest file when it is full, counts what was in it, and remembers the count', () => {
    const bench = new Bench({ maxBytes: 4_000 })
    for (const no of upTo(500)) {
      bench.add(no)
      bench.settle()
    }
    const size = bench.files().reduce((sum, file) => sum + statSync(join(bench.folder, file)).size, 0)
    expect(size).toBeLessThanOrEqual(4_000)
    const { dropped } = bench.ring
    expect(dropped).toBeGreaterThan(300)
    expect(bench.numbers()).toEqual(upTo(500).slice(dropped))
    bench.open()
    expect(bench.facts()).toMatchObject({ dropped, untold: dropped, size: 500 - dropped })
    bench.ring.acknowledge(0, 500)
    bench.ring.close()
    bench.open()
    expect(bench.facts()).toMatchObject({ dropped, untold: dropped, size: 0 })
    bench.ring.tell(bench.ring.report(() => 'one')!.id)
    bench.settle()
    expect(bench.files()).toEqual([])
  })

  test('syncs at most once in ten seconds, and before it ends', async () => {
    let syncs = 0
    const disk: Disk = {
      ...systemDisk,
      sync: async (_file, isFolder) => {
        if (!isFolder) syncs++
      },
      syncNow: (file, isFolder) => {
        if (!isFolder) syncs++
        systemDisk.syncNow(file, isFolder)
      },
    }
    const bench = new Bench({ disk })
    for (const no of upTo(60)) {
      bench.add(no)
      bench.settle()
      await new Promise(setImmediate)
    }
    expect(syncs).toBeGreaterThanOrEqual(6)
    expect(syncs).toBeLessThanOrEqual(7)
    bench.ring.close()
    expect(syncs).toBeLessThanOrEqual(8)
  })

  test('gives another robot nothing, and deletes what it finds', () => {
    const bench = new Bench()
    bench.add(1, 2)
    bench.ring.close()
    const [file] = bench.files()
    bench.open('another')
    expect(bench.numbers()).toEqual([])
    expect(bench.files()).toEqual([])
    bench.add(1)
    bench.ring.close()
    // Under the name of the first, the lines are still not its own.
    copyFileSync(join(bench.folder, bench.files()[0]!), join(bench.folder, file!))
    bench.open('robot')
    expect(bench.numbers()).toEqual([])
    expect(bench.ring.damaged).toBe(2)
  })
})

describe('what it lost', () => {
  /** Adds one after the other until the ring is full and has lost some. */
  function overflow(bench: Bench, from: number, count: number): void {
    for (let no = from; no < from + count; no++) {
      bench.add(no)
      bench.settle()
    }
  }
  const ids = () => {
    let last = 0
    return () => `report-${++last}`
  }

  test('is told once: the same report, over restarts, until it has arrived, and later losses in the next', () => {
    const bench = new Bench({ maxBytes: 4_000 })
    const newId = ids()
    expect(bench.ring.report(newId)).toBeUndefined()
    overflow(bench, 1, 300)
    const { dropped } = bench.ring
    const first = bench.ring.report(newId)
    expect(first).toEqual({ id: 'report-1', count: dropped, span: { first: '#1', last: `#${dropped}` } })
    // No word of it was written down in time but what the report itself wrote.
    bench.open()
    expect(bench.ring.report(newId)).toEqual(first)
    overflow(bench, 301, 300)
    const later = bench.ring.dropped
    expect(later).toBeGreaterThan(dropped)
    bench.open()
    expect(bench.ring.report(newId)).toEqual(first)
    expect(bench.ring.untold).toBe(later)
    bench.ring.tell('another')
    expect(bench.ring.untold).toBe(later)
    bench.ring.tell('report-1')
    bench.settle()
    bench.open()
    expect(bench.facts()).toMatchObject({ dropped: later, untold: later - dropped })
    expect(bench.ring.report(newId)).toEqual({
      id: 'report-2',
      count: later - dropped,
      span: { first: `#${dropped + 1}`, last: `#${later}` },
    })
    bench.ring.tell('report-2')
    bench.settle()
    bench.open()
    expect(bench.ring.report(newId)).toBeUndefined()
  })

  test('is told of, also when nothing else is left to be written', () => {
    const disk = { ...systemDisk, sync: async () => {}, syncNow() {} }
    let isFull = true
    const append = (descriptor: number, bytes: Buffer) => {
      if (isFull) throw Object.assign(new Error('full'), { code: 'ENOSPC' })
      systemDisk.append(descriptor, bytes)
    }
    const bench = new Bench({ maxBytes: 1_000, disk: { ...disk, append } })
    bench.add(...upTo(200))
    const { dropped } = bench.ring
    expect(dropped).toBeGreaterThan(100)
    bench.ring.acknowledge(0, 200)
    isFull = false
    bench.ring.report(() => 'one')
    bench.open()
    expect(bench.ring.report(() => 'two')).toMatchObject({ id: 'one', count: dropped, span: { first: '#1' } })
  })

  test('is nobody’s business any more once everything is forgotten', () => {
    const bench = new Bench({ maxBytes: 4_000 })
    overflow(bench, 1, 300)
    bench.ring.report(ids())
    bench.ring.clear()
    expect(bench.ring.untold).toBe(0)
    bench.settle()
    expect(bench.files()).toEqual([])
    bench.open()
    expect(bench.ring.report(ids())).toBeUndefined()
  })

  test('to damage counts once, however often it is found', () => {
    const bench = new Bench()
    bench.add(...upTo(10))
    bench.ring.close()
    const [file] = bench.files().map((name) => join(bench.folder, name))
    const lines = readFileSync(file!, 'utf8').split('\n')
    lines[3] = lines[3]!.replace('"seq":3', '"seq":9')
    writeFileSync(file!, lines.join('\n'))
    for (let round = 0; round < 3; round++) {
      bench.open()
      expect(bench.facts()).toMatchObject({ size: 9, dropped: 1, untold: 1, damaged: 1 })
      bench.settle()
    }
    bench.ring.tell(bench.ring.report(() => 'one')!.id)
    bench.ring.close()
    bench.open()
    expect(bench.facts()).toMatchObject({ size: 9, untold: 0 })
    // What is damaged while it runs counts, too, and once.
    writeFileSync(file!, readFileSync(file!, 'utf8').replace('"seq":5', '"seq":7'))
    bench.open()
    expect(bench.facts()).toMatchObject({ size: 8, untold: 1 })
    writeFileSync(file!, readFileSync(file!, 'utf8').replace('"seq":6', '"seq":8'))
    expect(bench.numbers()).toEqual([1, 2, 4, 7, 8, 9, 10])
    expect(bench.ring.untold).toBe(2)
    bench.settle()
    bench.open()
    expect(bench.facts()).toMatchObject({ size: 7, untold: 2 })
  })

  test('is not what was written again elsewhere after half of it had been written', () => {
    let fails = false
    const broken = () => Object.assign(new Error('broken'), { code: 'EIO' })
    const bench = new Bench({
      disk: {
        ...systemDisk,
        sync: async () => {},
        syncNow() {},
        append(descriptor, bytes) {
          systemDisk.append(descriptor, fails ? bytes.subarray(0, bytes.length - 3) : bytes)
          if (fails) throw broken()
        },
        truncate() {
          throw broken()
        },
      },
    })
    bench.add(1)
    bench.settle()
    fails = true
    bench.add(2)
    bench.settle()
    fails = false
    bench.clock.advance(30_000)
    bench.open()
    expect(bench.numbers()).toEqual([1, 2])
    expect(bench.facts()).toMatchObject({ damaged: 1, dropped: 0 })
  })
})

describe('whatever happens to its files', () => {
  /** Three files with what a ring may hold. */
  function prepared(): Bench {
    const bench = new Bench({ maxBytes: 2_000 })
    for (const no of upTo(24)) {
      bench.add(no)
      bench.settle()
    }
    bench.ring.acknowledge(0, 4)
    bench.ring.acknowledge(15, 17)
    bench.ring.close()
    return bench
  }

  function expectUsable(bench: Bench, known: readonly number[]): void {
    const numbers = bench.numbers()
    expect(numbers).toEqual([...numbers].sort((one, other) => one - other))
    for (const { no, text } of bench.all()) expect(text).toBe(textOf(no))
    expect(known).toEqual(expect.arrayContaining(numbers.filter((no) => no > 4 && (no < 15 || no > 17))))
    expect(bench.ring.size).toBe(numbers.length)
    bench.add(1_000)
    bench.ring.close()
    bench.open()
    expect(bench.numbers()).toEqual([...numbers, 1_000])
    bench.ring.acknowledge(0, 1_000)
    if (bench.ring.untold > 0) {
      const { id, count } = bench.ring.report(() => 'told')!
      expect(count).toBe(bench.ring.untold)
      bench.ring.tell(id)
    }
    bench.ring.close()
    expect(bench.files()).toEqual([])
  }

  test('cut at any length, all that stands in front of the cut is there', () => {
    const bench = prepared()
    const originals = new Map(bench.files().map((file) => [file, readFileSync(join(bench.folder, file))]))
    bench.open()
    const known = bench.numbers()
    expect(originals.size).toBeGreaterThan(2)
    for (const [file, content] of originals) {
      for (let length = 0; length < content.length; length++) {
        for (const [name, bytes] of originals) writeFileSync(join(bench.folder, name), bytes)
        truncateSync(join(bench.folder, file), length)
        bench.open()
        const lines = content.subarray(0, length).toString('latin1').split('\n').slice(0, -1)
        const kept = lines.map((line) => Number(/^\S+ e (\d+) /.exec(line)?.[1])).filter((no) => no > 0)
        expect(bench.numbers()).toEqual(expect.arrayContaining(kept.filter((no) => known.includes(no))))
        expectUsable(bench, known)
      }
    }
  })

  test('with any byte changed, at most what stands in its lines is lost', () => {
    const bench = prepared()
    const originals = new Map(bench.files().map((file) => [file, readFileSync(join(bench.folder, file))]))
    bench.open()
    const known = bench.numbers()
    for (const [file, content] of originals) {
      for (let at = 0; at < content.length; at++) {
        for (const [name, bytes] of originals) writeFileSync(join(bench.folder, name), bytes)
        const changed = Buffer.from(content)
        changed[at]! ^= 1 << (at % 8)
        writeFileSync(join(bench.folder, file), changed)
        bench.open()
        expect(known.filter((no) => !bench.numbers().includes(no)).length).toBeLessThanOrEqual(2)
        expect(bench.ring.damaged).toBeGreaterThanOrEqual(1)
        expectUsable(bench, known)
      }
    }
  })

  test('replaced by folders, by rubbish, by nothing, it goes on', () => {
    const bench = prepared()
    const [first, second, third] = bench.files().map((file) => join(bench.folder, file))
    rmSync(first!)
    mkdirSync(first!)
    writeFileSync(second!, Buffer.alloc(700_000, 0xff))
    writeFileSync(third!, '')
    bench.open()
    expect(bench.ring.damaged).toBeGreaterThan(0)
    bench.add(1_000)
    expect(bench.numbers().at(-1)).toBe(1_000)
  })

  test('gone while it runs, the others are still sent', () => {
    const bench = prepared()
    bench.open()
    const before = bench.numbers()
    rmSync(join(bench.folder, bench.files()[1]!))
    const after = bench.numbers()
    expect(after.length).toBeLessThan(before.length)
    expect(after.length).toBeGreaterThan(0)
    expect(bench.ring.damaged).toBe(before.length - after.length)
  })
})

describe('a disk that fails', () => {
  /** Fails as it is told, half of what is to be written being written. */
  class BadDisk implements Disk {
    failure: string | undefined
    readonly fail = () => {
      if (this.failure) throw Object.assign(new Error('bad disk'), { code: this.failure })
    }
    makeFolder(path: string): void {
      this.fail()
      systemDisk.makeFolder(path)
    }
    list = systemDisk.list
    create(path: string): number {
      if (this.failure === 'EROFS') this.fail()
      return systemDisk.create(path)
    }
    reopen = systemDisk.reopen
    open = systemDisk.open
    append(descriptor: number, bytes: Buffer): void {
      if (this.failure) systemDisk.append(descriptor, bytes.subarray(0, bytes.length >> 1))
      this.fail()
      systemDisk.append(descriptor, bytes)
    }
    truncate(descriptor: number, size: number): void {
      if (this.failure === 'EIO') this.fail()
      systemDisk.truncate(descriptor, size)
    }
    readAt = systemDisk.readAt
    async sync(descriptor: number, isFolder: boolean): Promise<void> {
      this.fail()
      await systemDisk.sync(descriptor, isFolder)
    }
    syncNow(descriptor: number, isFolder: boolean): void {
      this.fail()
      systemDisk.syncNow(descriptor, isFolder)
    }
    close = systemDisk.close
    remove = systemDisk.remove
  }

  test.each(['ENOSPC', 'EROFS', 'EIO'])(
    'by %s: it goes on in memory, says so once, and comes back',
    (code) => {
      const disk = new BadDisk()
      const bench = new Bench({ disk })
      bench.add(1, 2)
      bench.settle()
      disk.failure = code
      for (const no of upTo(30).slice(2)) {
        bench.add(no)
        bench.settle()
      }
      expect(bench.numbers()).toEqual(upTo(30))
      expect(bench.troubles).toEqual([expect.stringMatching(/bad disk.*waits in memory for now/)])
      disk.failure = undefined
      bench.clock.advance(30_000)
      expect(bench.troubles.at(-1)).toMatch(/can be written again/)
      bench.open()
      expect(bench.numbers()).toEqual(upTo(30))
    },
  )

  test('from the start: what an earlier process left comes back with it', () => {
    const disk = new BadDisk()
    const bench = new Bench({ disk })
    bench.add(1, 2)
    bench.ring.close()
    disk.failure = 'EIO'
    bench.open()
    bench.add(3)
    expect(bench.numbers()).toEqual([3])
    disk.failure = undefined
    bench.clock.advance(30_000)
    expect(bench.numbers()).toEqual([1, 2, 3])
  })

  test('for long: memory stays bounded, the oldest go and are counted', () => {
    const disk = new BadDisk()
    disk.failure = 'ENOSPC'
    const bench = new Bench({ disk, maxBytes: 2_000 })
    bench.add(...upTo(500))
    expect(bench.ring.bytes).toBeLessThanOrEqual(2_000)
    expect(bench.ring.dropped + bench.ring.size).toBe(500)
    expect(bench.numbers().at(-1)).toBe(500)
  })

  test('a folder that the agent may not enter does not end it, and is used once it may', () => {
    const bench = new Bench()
    bench.ring.close()
    asSomebody(bench.folder, () => {
      chmodSync(bench.folder, 0)
      bench.open()
      bench.add(1)
      bench.settle()
      expect(() => bench.files()).toThrow(/EACCES/)
      expect(bench.numbers()).toEqual([1])
      expect(bench.troubles).toEqual([expect.stringMatching(/EACCES.*waits in memory for now/)])
      chmodSync(bench.folder, 0o700)
      bench.clock.advance(30_000)
      expect(bench.troubles.at(-1)).toMatch(/can be written again/)
      expect(bench.files()).toHaveLength(1)
      bench.ring.close()
    })
    bench.open()
    expect(bench.numbers()).toEqual([1])
  })
})

describe('whatever is done with it', () => {
  const doing = fc.oneof(
    {
      weight: 30,
      arbitrary: fc.record({ kind: fc.constant('add' as const), gap: fc.integer({ min: 1, max: 5 }) }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('acknowledge' as const),
        back: fc.integer({ min: -3, max: 60 }),
        length: fc.nat(20),
      }),
    },
    {
      weight: 12,
      arbitrary: fc.record({
        kind: fc.constant('read' as const),
        back: fc.integer({ min: -3, max: 60 }),
        limit: fc.nat(10),
        below: fc.integer({ min: 0, max: 60 }),
      }),
    },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('close' as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('kill' as const), cut: fc.nat(40) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('clear' as const) }) },
  )

  test('it holds what a list would: all that waits, in order, less the oldest where it was full', () => {
    fc.assert(
      fc.property(
        fc.array(doing, { maxLength: 150 }),
        fc.constantFrom(1_500, 1_000_000),
        (happenings, maxBytes) => {
          const bench = new Bench({ maxBytes })
          let waiting: number[] = []
          let last = 0
          for (const happening of happenings) {
            const { ring } = bench
            switch (happening.kind) {
              case 'add':
                last += happening.gap
                bench.add(last)
                waiting.push(last)
                break
              case 'acknowledge': {
                const from = last - happening.back
                ring.acknowledge(from, from + happening.length)
                waiting = waiting.filter((no) => no < from || no > from + happening.length)
                break
              }
              case 'read': {
                const [from, below] = [last - happening.back, last - happening.back + happening.below]
                const expected = waiting.filter((no) => no > from && no < below).slice(0, happening.limit)
                expect(ring.after(from, happening.limit, below).map(({ no }) => no)).toEqual(expected)
                break
              }
              case 'settle':
                bench.settle()
                break
              case 'close':
                ring.close()
                bench.open()
                break
              case 'kill':
                bench.settle()
                ring.close()
                // What a power cut costs is the end of the last file.
                cutLast(bench, happening.cut)
                bench.open()
                // The lines that were cut may have been acknowledgements: then what they were of is there again.
                waiting = bench.numbers()
                break
              case 'clear':
                ring.clear()
                waiting = []
                break
            }
            const numbers = bench.numbers()
            // What was dropped is the oldest.
            expect(numbers).toEqual(numbers.length === 0 ? [] : waiting.slice(-numbers.length))
            if (maxBytes > 100_000) expect(numbers).toEqual(waiting)
            waiting = numbers
            expect(bench.ring.size).toBe(numbers.length)
            expect(bench.ring.oldest).toBe(numbers[0])
            for (const { no, text } of bench.all()) expect(text).toBe(textOf(no))
          }
          bench.ring.close()
        },
      ),
      { numRuns: 150 },
    )
  })

  function cutLast(bench: Bench, count: number): void {
    const file = bench.files().at(-1)
    if (!file) return
    const path = join(bench.folder, file)
    truncateSync(path, Math.max(0, statSync(path).size - count))
  }
})
