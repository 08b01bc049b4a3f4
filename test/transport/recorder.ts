import type { RobotSocket, SocketHandler } from '../../src/transport/transport.ts'

/** A socket's owner that notes what it is told, and whether it was told within a call of its own. */
export class Recorder implements SocketHandler {
  readonly texts: string[] = []
  binaries = 0
  overflows = 0
  readonly ends: { code: number; reason: string }[] = []
  /** Things that must not happen. */
  readonly faults: string[] = []
  /** Called with each text, before `until` looks. */
  onText: (text: string) => void = () => {}
  onOverflow: () => void = () => {}
  socket!: RobotSocket
  #calling = false
  #isGone = false
  readonly #waiting: { done: () => boolean; resolve: () => void }[] = []

  /** Takes a socket, after the one before is gone. */
  opened(socket: RobotSocket): this {
    this.socket = socket
    this.#isGone = false
    return this
  }

  text(text: string): void {
    if (this.#isGone) this.faults.push(`text after the end: ${text}`)
    this.texts.push(text)
    this.onText(text)
    this.#look()
  }

  binary(): void {
    if (this.#isGone) this.faults.push('a binary message after the end')
    this.binaries += 1
    this.#look()
  }

  overflowed(): void {
    this.overflows += 1
    this.onOverflow()
    this.#look()
  }

  closed(code: number, reason: string): void {
    if (this.#calling) this.faults.push('closed within a call of the socket')
    if (this.#isGone) this.faults.push('closed twice')
    this.#isGone = true
    this.ends.push({ code, reason })
    this.#look()
  }

  /** Does something with the socket, within which `closed` must not come. */
  call(what: (socket: RobotSocket) => void): void {
    this.#calling = true
    what(this.socket)
    this.#calling = false
  }

  until(done: () => boolean): Promise<void> {
    return done() ? Promise.resolve() : new Promise((resolve) => this.#waiting.push({ done, resolve }))
  }

  #look(): void {
    for (const waiting of this.#waiting) if (waiting.done()) waiting.resolve()
  }
}
