import { chmodSync, lstatSync, renameSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Log } from '../log.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import { describeError } from '../text.ts'
import type { RobotSoftware } from './software.ts'
import { TokenBucket } from './token-bucket.ts'

export interface LocalSocketParts {
  readonly path: string
  readonly software: RobotSoftware
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Bytes of an address in Linux, the zero at its end left out, and of what is added while it is made. */
const MAX_PATH_BYTES = 107
const FRESH_SUFFIX_BYTES = 9
const CALL_TIMEOUT_MS = 2_000
/** How long a connection that asks too much is not read, so that it waits instead of costing work. */
const REST_MS = 100
const LINE_BREAK = 10

/** The socket for the robot's own software: JSON lines in, one answer line for each, in order. */
export class LocalSocket {
  readonly path: string
  readonly #parts: LocalSocketParts
  readonly #server: Server
  readonly #open = new Set<LocalConnection>()
  /** Which file is ours, so that another's is never removed. */
  #inode: number | undefined

  private constructor(parts: LocalSocketParts) {
    this.path = parts.path
    this.#parts = parts
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#welcome(socket))
  }

  /** Listens, in the place of a socket that a killed agent left; throws with a sentence when that cannot be. */
  static async listen(parts: LocalSocketParts): Promise<LocalSocket> {
    const local = new LocalSocket(parts)
    await local.#listen()
    return local
  }

  get connections(): number {
    return this.#open.size
  }

  /** Ends every connection, and removes the file. */
  async close(): Promise<void> {
    for (const connection of this.#open) connection.end()
    this.#removeOwn()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  async #listen(): Promise<void> {
    const { path, clock, random } = this.#parts
    if (Buffer.byteLength(path) + FRESH_SUFFIX_BYTES > MAX_PATH_BYTES)
      throw new Error(`the path ${path} is too long for a socket; BEACON_AGENT_SOCKET names another`)
    const there = lstatSync(path, { throwIfNoEntry: false })
    if (there && !there.isSocket()) throw new Error(`${path} is there and is not a socket`)
    if (there && (await answers(path, clock))) throw new Error(`another program listens on ${path}`)
    const fresh = `${path}.${random.bytes(4).toString('hex')}`
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(fresh, () => {
        this.#server.removeListener('error', reject)
        resolve()
      })
    })
    try {
      // It takes the name with its mode and while it listens: no one finds it half made.
      chmodSync(fresh, 0o660)
      renameSync(fresh, path)
    } catch (error) {
      rmSync(fresh, { force: true })
      this.#server.close()
      throw error
    }
    this.#inode = lstatSync(path).ino
    this.#server.on('error', (error) => this.#parts.log.warn(`the local socket: ${describeError(error)}`))
  }

  #removeOwn(): void {
    if (lstatSync(this.path, { throwIfNoEntry: false })?.ino === this.#inode)
      rmSync(this.path, { force: true })
  }

  #welcome(socket: Socket): void {
    const { software, clock } = this.#parts
    if (this.#open.size >= software.limits.connections && !this.#sendIdleAway()) {
      socket.on('error', () => socket.destroy())
      socket.end(answerLine(software.tooManyConnections()), () => socket.destroy())
      return
    }
    const connection = new LocalConnection(socket, software, clock, () => this.#open.delete(connection))
    this.#open.add(connection)
  }

  /** The one that was silent the longest, if it was for long. */
  #sendIdleAway(): boolean {
    const { software, clock } = this.#parts
    const [idlest] = [...this.#open].sort((one, other) => one.heardAt - other.heardAt)
    if (!idlest || clock.monotonic() - idlest.heardAt < software.limits.idleMs) return false
    idlest.end()
    return true
  }
}

/** One program that talks to the agent. */
class LocalConnection {
  /** On the monotonic clock. */
  heardAt: number
  readonly #socket: Socket
  readonly #software: RobotSoftware
  readonly #clock: Clock
  readonly #rate: TokenBucket
  readonly #gone: () => void
  #rest: Buffer = Buffer.alloc(0)
  #refusedInARow = 0
  #timer: Timer | undefined

  constructor(socket: Socket, software: RobotSoftware, clock: Clock, gone: () => void) {
    this.#socket = socket
    this.#software = software
    this.#clock = clock
    this.#rate = new TokenBucket(software.limits.connectionLines, clock)
    this.#gone = gone
    this.heardAt = clock.monotonic()
    socket.on('error', () => this.end())
    socket.on('close', () => this.end())
    socket.on('data', (part) => this.#received(part))
    // A last line without a line break counts; then all has been answered.
    socket.on('end', () => {
      if (this.#rest.length > 0) this.#answer(this.#rest)
      this.#rest = Buffer.alloc(0)
      socket.end(() => socket.destroy())
    })
  }

  end(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#socket.destroy()
    this.#gone()
  }

  #received(part: Buffer): void {
    this.heardAt = this.#clock.monotonic()
    const { lineBytes } = this.#software.limits
    let text = this.#rest.length > 0 ? Buffer.concat([this.#rest, part]) : part
    for (let end = text.indexOf(LINE_BREAK); end >= 0; end = text.indexOf(LINE_BREAK)) {
      const line = text.subarray(0, end)
      text = text.subarray(end + 1)
      if (line.length > lineBytes) this.#write(this.#software.tooLong())
      else if (line.length > 0) this.#answer(line)
      if (this.#socket.destroyed || this.#socket.writableEnded) return
    }
    if (text.length > lineBytes) {
      this.#endWith(this.#software.tooLong())
      return
    }
    // A copy: a few bytes must not keep all that came with them.
    this.#rest = Buffer.from(text)
  }

  #answer(line: Buffer): void {
    const text = line.toString('utf8').trim()
    const isWithinRate = this.#rate.take()
    const answer = isWithinRate ? this.#software.accept(text) : this.#software.tooManyLines()
    this.#refusedInARow = answer.ok ? 0 : this.#refusedInARow + 1
    if (this.#refusedInARow >= this.#software.limits.refusedInARow) {
      this.#endWith({ ok: false, error: 'too many refused lines in a row' })
      return
    }
    this.#write(answer)
    if (!isWithinRate) this.#pause()
  }

  #write(answer: unknown): void {
    this.#socket.write(answerLine(answer))
    if (this.#socket.writableLength > this.#software.limits.unreadBytes) this.end()
  }

  #endWith(answer: unknown): void {
    this.#rest = Buffer.alloc(0)
    this.#socket.removeAllListeners('data')
    this.#socket.resume()
    this.#timer?.cancel()
    this.#timer = this.#clock.after(CALL_TIMEOUT_MS, () => this.end())
    this.#socket.end(answerLine(answer), () => this.end())
  }

  #pause(): void {
    if (this.#timer || this.#socket.writableEnded) return
    this.#socket.pause()
    this.#timer = this.#clock.after(REST_MS, () => {
      this.#timer = undefined
      this.#socket.resume()
    })
  }
}

function answerLine(answer: unknown): string {
  return `${JSON.stringify(answer)}\n`
}

/** Whether anybody listens there; who does not answer within two seconds may still be somebody. */
function answers(path: string, clock: Clock): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const timer = clock.after(CALL_TIMEOUT_MS, () => finish(true))
    const finish = (isThere: boolean) => {
      timer.cancel()
      socket.destroy()
      resolve(isThere)
    }
    socket.once('connect', () => finish(true))
    socket.once('error', (error: NodeJS.ErrnoException) =>
      finish(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}
