import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Clock, Timer } from '../runtime.ts'
import { describeError } from '../text.ts'
import type { Disk } from './disk.ts'
import {
  decodeLine,
  encodeLine,
  type Line,
  type Losses,
  NO_LOSSES,
  numberIn,
  type Span,
  wasEntry,
} from './lines.ts'

/** Something that waits for its acknowledgement; `text` is the same each time it is read. */
export interface RingEntry {
  readonly no: number
  readonly text: string
}

export interface RingParts {
  readonly disk: Disk
  readonly clock: Clock
  readonly folder: string
  /** Begins the names of its files, which nobody else's may. */
  readonly name: string
  /** Whose entries these are: those of others are deleted, not read. */
  readonly owner: string
  readonly maxBytes: number
  /** What is remembered of an entry that is lost: when it was, for one. */
  readonly label: (text: string) => string
  /** Told of trouble with the disk, and of its end, once each. */
  readonly onTrouble: (sentence: string) => void
}

/** An entry in memory alone; `since` is on the monotonic clock. */
interface FreshEntry extends RingEntry {
  readonly since: number
}

/** Where an entry's line stands in its file. */
interface Place {
  readonly no: number
  readonly at: number
  readonly length: number
}

/** A file of the ring. `places` are those of its entries that wait, by ascending numbers. */
interface Segment {
  readonly number: number
  readonly path: string
  /** Damaged lines of it that were looked at: none of them is counted as lost again. */
  damaged: number
  places: Place[]
  bytes: number
}

/** What is read at the start, file by file. */
interface Found {
  readonly segments: Segment[]
  /** What seems to have been an entry, with its number as far as that can be read. */
  readonly torn: { readonly segment: Segment; readonly no: number | undefined }[]
  /** By the numbers of files: damaged lines that were looked at before. */
  readonly seen: Map<number, number>
  newest: number
  floor: number
  losses: Losses
  /** The last file ends as it should. */
  isWhole: boolean
}

/** Entries that were lost, as they are to be told of. */
export interface LossReport {
  readonly id: string
  readonly count: number
  readonly span: Span
}

interface Range {
  readonly from: number
  readonly to: number
}

const SEGMENT_BYTES = 256 * 1024
/** A robot that is connected has its acknowledgement before that, and writes nothing. */
const HOLD_MS = 1_000
/** Flash wears out by being synced, so not more often. */
const SYNC_MS = 10_000
const RETRY_MS = 30_000
/** What waits in memory while the disk cannot be written. */
const MAX_MEMORY_BYTES = 4 * 1024 * 1024
/** Acknowledgements that wait to be written down; with more the oldest are not, and what they are of may be sent again. */
const MAX_RANGES = 1_000
/** The process, and not the disk, is short of something. */
const PASSING = ['EMFILE', 'ENFILE', 'ENOMEM', 'EINTR', 'EAGAIN']

/**
 * Entries on disk until they are acknowledged, in a ring of files: when it is full the oldest file goes, and what waited
 * in it is counted as dropped. Numbers only grow.
 *
 * An entry is first in `#fresh`, in memory; then, unless it was acknowledged by then, in the last of `#segments`. A file is
 * changed at its end alone, and no more once that is damaged, so whatever a crash leaves of it can be read. While the disk
 * fails, all goes on in memory. Nothing here throws for a disk.
 */
export class Ring {
  readonly #parts: RingParts
  readonly #segmentBytes: number
  #segments: Segment[] = []
  /** The last of them, while it may be written. */
  #writer: { readonly segment: Segment; readonly descriptor: number } | undefined
  #fresh: FreshEntry[] = []
  #freshBytes = 0
  /** Acknowledgements that are not written down yet. */
  #ranges: Range[] = []
  #lastNumber = 0
  #highest = -1
  #size = 0
  #bytes = 0
  #losses = NO_LOSSES
  /** The same as it was last written down. */
  #lossesOnDisk = NO_LOSSES
  /** Files of which more damage was found than is written down. */
  readonly #damagedSegments = new Set<Segment>()
  #damaged = 0
  #isLoaded = false
  #isFailing = false
  #isClosed = false
  #writeTimer: Timer | undefined
  #syncTimer: Timer | undefined
  #lastSyncAt = -Infinity
  #isSyncing = false
  #isUnsynced = false
  /** Files that are full, until they are synced. */
  #retired: number[] = []

  constructor(parts: RingParts) {
    this.#parts = parts
    this.#segmentBytes = Math.max(64, Math.min(SEGMENT_BYTES, Math.floor(parts.maxBytes / 4)))
    this.#attempt(() => this.#load())
  }

  /** Entries that wait. */
  get size(): number {
    return this.#size
  }

  /** What they take. */
  get bytes(): number {
    return this.#bytes
  }

  /** Entries lost because they did not fit, or could not be read any more. Outlasts the process until it was told. */
  get dropped(): number {
    return this.#losses.dropped
  }

  /** Of these, those that nobody was told of. */
  get untold(): number {
    return this.#losses.dropped - this.#losses.told
  }

  /** Lines that could not be read any more, found by this process. */
  get damaged(): number {
    return this.#damaged
  }

  /** The number of the oldest entry that waits. */
  get oldest(): number | undefined {
    for (const { places } of this.#segments) if (places.length > 0) return places[0]!.no
    return this.#fresh[0]?.no
  }

  /** The highest number that it ever held, as far as it knows; -1 before the first. */
  get highest(): number {
    return this.#highest
  }

  /** Keeps an entry. At the bound the oldest go. */
  add(entry: RingEntry): void {
    if (entry.no <= this.#highest) throw new RangeError(`${entry.no} is not above ${this.#highest}`)
    this.#highest = entry.no
    this.#fresh.push({ ...entry, since: this.#parts.clock.monotonic() })
    this.#freshBytes += entry.text.length
    this.#count(1, entry.text.length)
    const limit = Math.min(MAX_MEMORY_BYTES, this.#parts.maxBytes)
    while (this.#freshBytes > limit && this.#fresh.length > 1) {
      this.#lose(1, this.#labelOf(this.#fresh[0]!.text))
      this.#forgetFresh(0, 1)
    }
    this.#schedule()
  }

  /** At most `limit` entries that wait, with numbers above `no` and below `below`, oldest first. */
  after(no: number, limit: number, below = Infinity): RingEntry[] {
    const found: RingEntry[] = []
    for (const segment of [...this.#segments]) {
      if (found.length === limit) return found
      const newest = segment.places.at(-1)
      if (newest === undefined || newest.no <= no) continue
      if (!this.#read(segment, found, no, limit, below)) return found
    }
    for (let at = indexAbove(this.#fresh, no); at < this.#fresh.length && found.length < limit; at++) {
      const entry = this.#fresh[at]!
      if (entry.no >= below) break
      found.push(entry)
    }
    return found
  }

  /** Forgets the entries with these numbers, both included. What comes later is not among them. */
  acknowledge(from: number, upTo: number): void {
    const to = Math.min(upTo, this.#highest)
    let wasWritten = false
    for (const segment of this.#segments) {
      const start = indexAbove(segment.places, from - 1)
      const end = indexAbove(segment.places, to)
      if (end <= start) continue
      this.#forget(segment, start, end - start)
      wasWritten = true
    }
    const start = indexAbove(this.#fresh, from - 1)
    this.#forgetFresh(start, indexAbove(this.#fresh, to) - start)
    if (wasWritten) this.#noteRange({ from, to })
  }

  /**
   * What to tell of losses, if there is anything to tell. Until that was told, also after a restart, it is the same report
   * whenever it is asked for; what is lost meanwhile is for the next one. `newId` is asked for an id never used before.
   */
  report(newId: () => string): LossReport | undefined {
    if (!this.#losses.report) {
      if (this.untold === 0) return undefined
      const { dropped, span } = this.#losses
      this.#losses = { ...this.#losses, span: {}, report: { id: newId(), through: dropped, span } }
      this.flush()
    }
    const { id, through, span } = this.#losses.report!
    return { id, count: through - this.#losses.told, span }
  }

  /** The report with this id has arrived. */
  tell(id: string): void {
    const { report, ...losses } = this.#losses
    if (report?.id !== id) return
    this.#losses = { ...losses, told: report.through }
    this.#schedule()
  }

  /** Forgets everything, for nobody will ever ask for it. */
  clear(): void {
    this.acknowledge(0, Number.MAX_SAFE_INTEGER)
    const { dropped } = this.#losses
    if (this.untold > 0) this.#losses = { dropped, told: dropped, span: {} }
    this.#schedule()
  }

  /** Writes down what there is, and syncs it. */
  flush(): void {
    const { disk, folder } = this.#parts
    this.#attempt(() => {
      this.#write()
      if (!this.#isUnsynced) return
      this.#isUnsynced = false
      for (const descriptor of this.#openFiles()) disk.syncNow(descriptor, false)
      const opened = disk.open(folder)
      try {
        disk.syncNow(opened, true)
      } finally {
        disk.close(opened)
      }
    })
  }

  /** Writes and syncs what there is. Nothing must be asked of it any more. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#writeTimer?.cancel()
    this.#syncTimer?.cancel()
    const { disk } = this.#parts
    this.flush()
    for (const descriptor of this.#isSyncing ? [] : this.#openFiles())
      this.#quietly(() => disk.close(descriptor))
  }

  #count(entries: number, bytes: number): void {
    this.#size += entries
    this.#bytes += bytes
  }

  #forget(segment: Segment, at: number, count: number): void {
    for (const { length } of segment.places.splice(at, count)) this.#count(-1, -length)
  }

  #forgetFresh(at: number, count: number): void {
    for (const { text } of this.#fresh.splice(at, count)) {
      this.#count(-1, -text.length)
      this.#freshBytes -= text.length
    }
  }

  #lose(count: number, first?: string, last = first): void {
    if (count === 0) return
    const { dropped, span } = this.#losses
    this.#losses = { ...this.#losses, dropped: dropped + count, span: spanWith(span, first, last) }
  }

  /** An entry of a file cannot be read. */
  #loseDamaged(segment: Segment, count = 1): void {
    this.#damaged += count
    segment.damaged += count
    this.#damagedSegments.add(segment)
    this.#lose(count)
    this.#schedule()
  }

  #labelOf(text: string): string | undefined {
    try {
      return this.#parts.label(text)
    } catch {
      return undefined
    }
  }

  #noteRange(range: Range): void {
    const last = this.#ranges.at(-1)
    if (last && range.from <= last.to + 1 && range.to >= last.from)
      this.#ranges[this.#ranges.length - 1] = {
        from: Math.min(last.from, range.from),
        to: Math.max(last.to, range.to),
      }
    else this.#ranges.push(range)
    if (this.#ranges.length > MAX_RANGES) this.#ranges.shift()
    this.#schedule()
  }

  /** Reads on in a segment; false: no more can be had now. */
  #read(segment: Segment, found: RingEntry[], no: number, limit: number, below: number): boolean {
    const { disk, owner } = this.#parts
    let descriptor: number
    try {
      descriptor = disk.open(segment.path)
    } catch (error) {
      if (PASSING.includes((error as NodeJS.ErrnoException).code ?? '')) return false
      // A file that is gone, or closed to us, will not come back, and those behind it shall not wait for it.
      this.#loseDamaged(segment, segment.places.length)
      this.#forget(segment, 0, segment.places.length)
      return true
    }
    try {
      let at = indexAbove(segment.places, no)
      while (at < segment.places.length && found.length < limit) {
        const place = segment.places[at]!
        if (place.no >= below) return false
        const line = decodeLine(owner, textAt(disk, descriptor, place))
        if (line?.kind === 'entry' && line.no === place.no) {
          found.push({ no: line.no, text: line.text })
          at++
        } else {
          this.#loseDamaged(segment)
          this.#forget(segment, at, 1)
        }
      }
    } finally {
      this.#quietly(() => disk.close(descriptor))
    }
    return true
  }

  /** Has what there is written in a moment; an entry, once it was held as long as an acknowledgement may take. */
  #schedule(): void {
    if (this.#isClosed || this.#writeTimer) return
    const { clock } = this.#parts
    const since = this.#fresh[0]?.since ?? clock.monotonic()
    const delay = this.#isFailing ? RETRY_MS : Math.max(0, since + HOLD_MS - clock.monotonic())
    this.#writeTimer = clock.after(delay, () => {
      this.#writeTimer = undefined
      this.#attempt(() => this.#write(clock.monotonic() - HOLD_MS))
      if (this.#isFailing || this.#fresh.length > 0) this.#schedule()
    })
  }

  /** Does something with the disk; what goes wrong is told, and what was written so far is never added to. */
  #attempt(work: () => void): void {
    const { onTrouble, folder } = this.#parts
    try {
      work()
      if (this.#isFailing) onTrouble(`${folder} can be written again`)
      this.#isFailing = false
    } catch (error) {
      this.#retire()
      if (!this.#isFailing)
        onTrouble(
          `cannot keep what waits for the server in ${folder}: ${describeError(error)}. It waits in memory for now`,
        )
      this.#isFailing = true
      this.#schedule()
    }
  }

  /** Writes entries that are there since then or longer, and all notes. */
  #write(since = Infinity): void {
    if (!this.#isLoaded) this.#load()
    this.#writeFresh(since)
    this.#tidy(false)
    this.#writeNotes()
    if (this.#isUnsynced) this.#scheduleSync()
  }

  #writeFresh(since: number): void {
    const { owner } = this.#parts
    while (this.#fresh.length > 0 && this.#fresh[0]!.since <= since) {
      const room = this.#segmentBytes - (this.#writer?.segment.bytes ?? Infinity)
      const lines: Buffer[] = []
      let bytes = 0
      for (const entry of this.#fresh) {
        if (entry.since > since) break
        const { no, text } = entry
        const line = encodeLine(owner, { kind: 'entry', no, text })
        if (bytes + line.length > room) break
        lines.push(line)
        bytes += line.length
      }
      // A line that fits into no segment has one of its own.
      const isFirst = this.#writer?.segment.places.length === 0
      if (lines.length === 0 && isFirst) lines.push(encodeLine(owner, { kind: 'entry', ...this.#fresh[0]! }))
      if (lines.length === 0) {
        this.#begin()
        continue
      }
      const segment = this.#writer!.segment
      let at = segment.bytes
      this.#append(lines)
      const places = lines.map((line, index) => {
        const place = { no: this.#fresh[index]!.no, at, length: line.length }
        at += line.length
        return place
      })
      this.#forgetFresh(0, lines.length)
      for (const place of places) this.#count(1, place.length)
      segment.places.push(...places)
    }
  }

  /** What changed about older entries, while a file with them is there, and what was lost. */
  #writeNotes(): void {
    const { owner } = this.#parts
    const lines: Line[] = this.#ranges.map(({ from, to }) => ({ kind: 'acknowledged', from, to }))
    for (const { number, damaged } of this.#damagedSegments)
      lines.push({ kind: 'damage', file: number, lines: damaged })
    if (this.#losses !== this.#lossesOnDisk) lines.push({ kind: 'losses', losses: this.#losses })
    if (lines.length === 0) return
    if (this.#segments.length > 0 || this.untold > 0) {
      if (!this.#writer || this.#writer.segment.bytes > this.#segmentBytes) this.#begin()
      this.#append(lines.map((line) => encodeLine(owner, line)))
    }
    this.#ranges = []
    this.#damagedSegments.clear()
    this.#lossesOnDisk = this.#losses
  }

  #append(lines: readonly Buffer[]): void {
    const { disk } = this.#parts
    const { segment, descriptor } = this.#writer!
    const bytes = Buffer.concat(lines)
    try {
      disk.append(descriptor, bytes)
    } catch (error) {
      this.#quietly(() => disk.truncate(descriptor, segment.bytes))
      throw error
    }
    segment.bytes += bytes.length
    this.#isUnsynced = true
  }

  /** Begins a new file, and makes room for it. */
  #begin(): void {
    const { disk, owner, maxBytes } = this.#parts
    this.#retire()
    let bytes = this.#segments.reduce((sum, segment) => sum + segment.bytes, 0)
    let going = 0
    while (going < this.#segments.length && bytes + this.#segmentBytes > maxBytes)
      bytes -= this.#segments[going++]!.bytes
    const gone = this.#segments.slice(0, going)
    const lost = gone.reduce((sum, { places }) => sum + places.length, 0)
    const floor = gone.reduce((highest, { places }) => Math.max(highest, (places.at(-1)?.no ?? -1) + 1), 0)
    const losses = this.#lossesWith(gone, lost)
    const number = ++this.#lastNumber
    const path = this.#pathOf(number)
    const segment: Segment = { number, path, damaged: 0, places: [], bytes: 0 }
    const descriptor = disk.create(path)
    this.#writer = { segment, descriptor }
    try {
      // The count stands before what it counts is gone; the floor keeps both from being true.
      this.#append([encodeLine(owner, { kind: 'head', floor, losses })])
    } catch (error) {
      this.#writer = undefined
      this.#quietly(() => disk.close(descriptor))
      this.#quietly(() => disk.remove(path))
      throw error
    }
    this.#segments.push(segment)
    this.#losses = losses
    this.#lossesOnDisk = losses
    for (const one of gone) this.#forget(one, 0, one.places.length)
    this.#tidy(true)
  }

  /** The losses once these files are gone, with `lost` entries that wait in them. */
  #lossesWith(gone: readonly Segment[], lost: number): Losses {
    if (lost === 0) return this.#losses
    const { dropped, span } = this.#losses
    const holding = gone.filter(({ places }) => places.length > 0)
    const first = this.#labelIn(holding[0]!, holding[0]!.places[0]!)
    const last = this.#labelIn(holding.at(-1)!, holding.at(-1)!.places.at(-1)!)
    return { ...this.#losses, dropped: dropped + lost, span: spanWith(span, first, last) }
  }

  #labelIn({ path }: Segment, place: Place): string | undefined {
    const { disk, owner } = this.#parts
    try {
      const descriptor = disk.open(path)
      try {
        const line = decodeLine(owner, textAt(disk, descriptor, place))
        return line?.kind === 'entry' ? this.#labelOf(line.text) : undefined
      } finally {
        disk.close(descriptor)
      }
    } catch {
      return undefined
    }
  }

  /**
   * Removes files in which nothing waits, the oldest first: later ones may hold what was acknowledged of earlier ones. The
   * last stays while it has to tell of losses, and where something is about to be written.
   */
  #tidy(isWriting: boolean): void {
    const { disk } = this.#parts
    while (this.#segments[0]?.places.length === 0) {
      const [first] = this.#segments
      const isOnly = this.#segments.length === 1
      if (isOnly && (isWriting || this.untold > 0)) return
      if (this.#writer?.segment === first) this.#retire()
      disk.remove(first!.path)
      this.#segments.shift()
    }
  }

  /** The writer's file is closed once it is synced, and nothing is added to it any more. */
  #retire(): void {
    if (!this.#writer) return
    this.#retired.push(this.#writer.descriptor)
    this.#writer = undefined
    this.#isUnsynced = true
  }

  #openFiles(): number[] {
    return this.#writer ? [...this.#retired, this.#writer.descriptor] : [...this.#retired]
  }

  #scheduleSync(): void {
    if (this.#syncTimer || this.#isSyncing || this.#isClosed) return
    const { clock } = this.#parts
    const delay = Math.max(0, this.#lastSyncAt + SYNC_MS - clock.monotonic())
    this.#syncTimer = clock.after(delay, () => {
      this.#syncTimer = undefined
      void this.#sync()
    })
  }

  async #sync(): Promise<void> {
    const { disk, clock, folder } = this.#parts
    this.#isSyncing = true
    this.#isUnsynced = false
    this.#lastSyncAt = clock.monotonic()
    const retired = this.#retired
    this.#retired = []
    let failure: unknown
    try {
      const opened = disk.open(folder)
      const files = [...retired, ...(this.#writer ? [this.#writer.descriptor] : [])]
      const outcomes = await Promise.allSettled([
        ...files.map((descriptor) => disk.sync(descriptor, false)),
        disk.sync(opened, true),
      ])
      failure = outcomes.find((outcome) => outcome.status === 'rejected')?.reason
      this.#quietly(() => disk.close(opened))
    } catch (error) {
      failure = error
    }
    for (const descriptor of retired) this.#quietly(() => disk.close(descriptor))
    this.#isSyncing = false
    if (this.#isClosed) {
      for (const descriptor of this.#openFiles()) this.#quietly(() => disk.close(descriptor))
      return
    }
    if (failure !== undefined)
      this.#attempt(() => {
        throw failure
      })
    else if (this.#isUnsynced) this.#scheduleSync()
  }

  #pathOf(number: number): string {
    return join(this.#parts.folder, `${this.#prefix()}${String(number).padStart(10, '0')}.log`)
  }

  #prefix(): string {
    const { name, owner } = this.#parts
    return `${name}-${crc32(owner).toString(16).padStart(8, '0')}-`
  }

  #load(): void {
    const { disk, folder, name } = this.#parts
    disk.makeFolder(folder)
    const found: Found = {
      segments: [],
      torn: [],
      seen: new Map(),
      newest: -1,
      floor: 0,
      losses: NO_LOSSES,
      isWhole: false,
    }
    for (const file of disk.list(folder).sort()) {
      if (!file.startsWith(`${name}-`) || !file.endsWith('.log')) continue
      const number = Number(file.slice(this.#prefix().length, -'.log'.length))
      if (!file.startsWith(this.#prefix()) || !Number.isSafeInteger(number)) {
        // What another robot measured is none of this one's.
        disk.remove(join(folder, file))
        continue
      }
      this.#loadOne(number, join(folder, file), found)
      this.#lastNumber = Math.max(this.#lastNumber, number)
    }
    // Nothing is lower than what came since, if the folder could not be read before.
    const ceiling = this.#fresh[0]?.no ?? Infinity
    for (const { places } of found.segments) {
      places.splice(0, indexAbove(places, found.floor - 1))
      this.#damaged += places.splice(indexAbove(places, ceiling - 1)).length
      for (const { length } of places) this.#count(1, length)
    }
    this.#takeUp(found)
    this.#highest = Math.max(this.#highest, found.newest)
    this.#segments = found.segments
    this.#isLoaded = true
    const last = found.segments.at(-1)
    if (last && found.isWhole && last.bytes < this.#segmentBytes)
      this.#writer = { segment: last, descriptor: disk.reopen(last.path) }
    this.#tidy(this.#fresh.length > 0)
  }

  /** Goes on from the losses that were written down, with those that were found now and those of before the disk could be read. */
  #takeUp({ segments, torn, seen, floor, losses }: Found): void {
    const { dropped, span } = this.#losses
    this.#losses = losses
    this.#lossesOnDisk = losses
    const isThere = (no: number) =>
      segments.some(({ places }) => places[indexAbove(places, no - 1)]?.no === no)
    for (const segment of segments) {
      const fresh = segment.damaged - (seen.get(segment.number) ?? 0)
      if (fresh <= 0) continue
      this.#damagedSegments.add(segment)
      // One that was written again elsewhere, for the first time failed, is not lost.
      const lost = torn.filter(
        ({ segment: of, no }) => of === segment && (no === undefined || (no >= floor && !isThere(no))),
      )
      this.#lose(Math.min(fresh, lost.length))
    }
    this.#lose(dropped, span.first, span.last)
    if (this.#losses !== losses || this.#damagedSegments.size > 0) this.#schedule()
  }

  #loadOne(number: number, path: string, found: Found): void {
    const { disk, owner } = this.#parts
    const segment: Segment = { number, path, damaged: 0, places: [], bytes: 0 }
    found.segments.push(segment)
    found.isWhole = false
    let bytes: Buffer
    try {
      bytes = readWhole(disk, path)
    } catch (error) {
      if (PASSING.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      this.#damaged++
      segment.damaged++
      found.torn.push({ segment, no: undefined })
      return
    }
    segment.bytes = bytes.length
    found.isWhole = bytes.length > 0
    for (let at = 0; at < bytes.length; ) {
      const end = bytes.indexOf(0x0a, at)
      const next = end < 0 ? bytes.length : end + 1
      const text = bytes.toString('utf8', at, end < 0 ? next : end)
      const line = decodeLine(owner, text)
      found.isWhole = line !== undefined && end >= 0
      if (!line) {
        this.#damaged++
        segment.damaged++
        if (wasEntry(text)) found.torn.push({ segment, no: numberIn(text) })
      } else if (line.kind === 'entry') {
        // One that was written twice, for the first time seemed to fail, is there already.
        if (line.no > found.newest) segment.places.push({ no: line.no, at, length: next - at })
        found.newest = Math.max(found.newest, line.no)
      } else applyNote(line, found)
      at = next
    }
  }

  #quietly(work: () => void): void {
    try {
      work()
    } catch {
      // Nothing depends on it.
    }
  }
}

function applyNote(line: Exclude<Line, { kind: 'entry' }>, found: Found): void {
  switch (line.kind) {
    case 'acknowledged':
      for (const { places } of found.segments) {
        const start = indexAbove(places, line.from - 1)
        places.splice(start, indexAbove(places, line.to) - start)
      }
      return
    case 'damage':
      found.seen.set(line.file, line.lines)
      return
    case 'head':
      found.floor = Math.max(found.floor, line.floor)
      found.losses = line.losses
      return
    case 'losses':
      found.losses = line.losses
  }
}

/** A span with what was lost after it. */
function spanWith(span: Span, first: string | undefined, last: string | undefined): Span {
  return {
    ...((span.first ?? first) === undefined ? {} : { first: span.first ?? first }),
    ...((last ?? span.last) === undefined ? {} : { last: last ?? span.last }),
  }
}

/** The place of the first item with a number above `no`. */
function indexAbove(items: readonly { readonly no: number }[], no: number): number {
  let low = 0
  let high = items.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (items[middle]!.no <= no) low = middle + 1
    else high = middle
  }
  return low
}

function textAt(disk: Disk, descriptor: number, { at, length }: Place): string {
  try {
    return disk.readAt(descriptor, at, length).toString('utf8').replace(/\n$/, '')
  } catch {
    return ''
  }
}

/** No file of ours is longer than two segments. */
const MAX_FILE_BYTES = 2 * SEGMENT_BYTES

function readWhole(disk: Disk, path: string): Buffer {
  const descriptor = disk.open(path)
  try {
    return disk.readAt(descriptor, 0, MAX_FILE_BYTES)
  } finally {
    disk.close(descriptor)
  }
}
