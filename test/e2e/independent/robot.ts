/** A robot written from the contract alone: fetch to enrol, the `ws` client for its session. */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { mintToken } from './operator.ts'

export type Frame = { readonly type: string } & Record<string, unknown>
export type Closed = { readonly code: number; readonly reason: string; readonly at: number }

export type EnrolAnswer = {
  readonly status: number
  readonly body: {
    readonly robot_id: string
    readonly name: string
    readonly site_id: string
    readonly fleet_id: string
    readonly gateway_url: string
    readonly heartbeat_interval_ms: number
    readonly robot_token?: string
    readonly code?: string
    readonly detail?: string
  }
  readonly text: string
  readonly retryAfter: string | null
}

export type Machine = { readonly hostname: string; readonly machine_id: string }

export function newMachine(): Machine {
  const id = randomBytes(16).toString('hex')
  return { hostname: `robot-${id.slice(0, 6)}`, machine_id: id }
}

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

export function fingerprintOf(machine: Machine): Record<string, unknown> {
  return {
    hostname: machine.hostname,
    os: 'Debian GNU/Linux 12',
    platform: 'linux',
    arch: 'arm64',
    mac: '02:00:5e:10:00:01',
    machine_id: machine.machine_id,
    agent_version: '0.0.1-independent',
  }
}

/** One claim, as a robot with nothing but an HTTP client would send it. */
export async function enrol(
  base: string,
  credential: string,
  claim: { name?: string; token_hash?: string; claim_id?: string; machine?: Machine } = {},
): Promise<EnrolAnswer> {
  const { machine = newMachine(), ...rest } = claim
  const response = await fetch(`${base}/agent/enroll`, {
    method: 'POST',
    headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json' },
    body: JSON.stringify({ ...rest, fingerprint: fingerprintOf(machine) }),
    signal: AbortSignal.timeout(20_000),
  })
  const text = await response.text()
  let body: unknown = {}
  try {
    body = JSON.parse(text)
  } catch {
    // the status and the text are enough for the caller
  }
  return {
    status: response.status,
    body: body as EnrolAnswer['body'],
    text,
    retryAfter: response.headers.get('retry-after'),
  }
}

export type Claim = { readonly claim_id: string; readonly token: string; readonly machine: Machine }

export const newClaim = (): Claim => ({
  claim_id: randomUUID(),
  token: mintToken('rf_robot_'),
  machine: newMachine(),
})

/** Sends one claim, at one server after the other, until one of them says yes or no. */
export async function enrolUntilAnswered(
  bases: readonly string[],
  credential: string,
  claim: Claim,
  onTry: () => void = () => {},
): Promise<EnrolAnswer> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const base = bases[attempt % bases.length] as string
    onTry()
    try {
      const answer = await enrol(base, credential, {
        claim_id: claim.claim_id,
        token_hash: sha256(claim.token),
        machine: claim.machine,
      })
      if (answer.status < 500 && answer.status !== 429) return answer
    } catch {
      // nobody there, or cut off before the answer: it may have been granted, so the same claim again
    }
    await delay(20 + Math.random() * 130)
  }
  throw new Error('no answer to the claim')
}

/** The server said no to the upgrade, in plain HTTP. */
export class UpgradeRefusedError extends Error {
  readonly status: number
  readonly body: string
  readonly headers: Readonly<Record<string, unknown>>
  constructor(status: number, body: string, headers: Readonly<Record<string, unknown>>) {
    super(`upgrade refused: ${status} ${body.slice(0, 300)}`)
    this.name = 'UpgradeRefusedError'
    this.status = status
    this.body = body
    this.headers = headers
  }
}

/** `http://…` or the `ws://…` of an enrolment answer: both lead to the same door. */
export function gatewayOf(base: string): string {
  const url = new URL(base)
  url.protocol = url.protocol.replace('http', 'ws')
  if (url.pathname === '/') url.pathname = '/agent/ws'
  return url.href
}

/** One WebSocket of one robot: every frame is kept, and so is how it ended. */
export class Session {
  readonly socket: WebSocket
  readonly frames: Frame[] = []
  readonly closed: Promise<Closed>
  #closed: Closed | null = null
  readonly #watchers = new Set<() => void>()

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => {
      this.frames.push(JSON.parse(String(data)) as Frame)
      this.#changed()
    })
    socket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => {
        this.#closed = { code, reason: reason.toString('utf8'), at: Date.now() }
        resolve(this.#closed)
        this.#changed()
      })
    })
  }

  static open(base: string, token: string): Promise<Session> {
    const socket = new WebSocket(gatewayOf(base), 'beacon.v1', {
      headers: { authorization: `Bearer ${token}` },
      perMessageDeflate: false,
      handshakeTimeout: 15_000,
    })
    const session = new Session(socket)
    return new Promise((resolve, reject) => {
      socket.once('open', () => resolve(session))
      socket.once('unexpected-response', (_request, response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.once('close', () => {
          reject(new UpgradeRefusedError(response.statusCode ?? 0, body, response.headers))
          socket.terminate()
        })
      })
      socket.once('error', reject)
    })
  }

  get ended(): Closed | null {
    return this.#closed
  }

  send(frame: Record<string, unknown>): void {
    this.socket.send(JSON.stringify(frame))
  }

  hello(machine: Machine, more: Record<string, unknown> = {}): void {
    this.send({
      type: 'hello',
      protocol: 1,
      agent: {
        version: '0.0.1-independent',
        hostname: machine.hostname,
        os: 'Debian GNU/Linux 12',
        platform: 'linux',
        arch: 'arm64',
      },
      machine_id: machine.machine_id,
      boot_id: randomUUID(),
      instance_id: randomUUID(),
      ...more,
    })
  }

  heartbeat(seq: number, more: Record<string, unknown> = {}): void {
    this.send({ type: 'heartbeat', seq, at: new Date().toISOString(), ...more })
  }

  get acknowledged(): number {
    return this.frames.reduce((top, frame) => {
      return frame.type === 'ack' ? Math.max(top, Number(frame.seq)) : top
    }, 0)
  }

  /** The first frame, already here or still to come, that `wanted` accepts. */
  async frame(wanted: (frame: Frame) => boolean, timeoutMs = 10_000): Promise<Frame> {
    const found = await this.until(() => this.frames.find(wanted), timeoutMs)
    return found
  }

  welcome(timeoutMs?: number): Promise<Frame> {
    return this.frame((frame) => frame.type === 'welcome', timeoutMs)
  }

  async acked(seq: number, timeoutMs = 10_000): Promise<void> {
    await this.until(() => (this.acknowledged >= seq ? true : undefined), timeoutMs)
  }

  until<T>(look: () => T | undefined, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        const value = look()
        if (value !== undefined) {
          done()
          resolve(value)
        } else if (this.#closed !== null) {
          done()
          reject(new Error(`closed while waiting: ${JSON.stringify(this.#closed)}`))
        }
      }
      const timer = setTimeout(() => {
        done()
        reject(new Error(`nothing after ${timeoutMs} ms; last: ${JSON.stringify(this.frames.slice(-3))}`))
      }, timeoutMs)
      const done = () => {
        clearTimeout(timer)
        this.#watchers.delete(settle)
      }
      this.#watchers.add(settle)
      settle()
    })
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }
}

export type Beat = { readonly seq: number; readonly at: string }

/**
 * A robot that lives on: it beats on its interval, keeps every heartbeat until it is acknowledged,
 * comes back when told or cut off, and stops when the close code says so.
 */
export class Robot {
  readonly machine: Machine
  readonly token: string
  readonly id: string
  readonly acknowledged: Beat[] = []
  readonly closes: Closed[] = []
  readonly sessions: number[] = []
  readonly welcomes: Frame[] = []
  session: Session | null = null
  intervalMs: number
  #bases: readonly string[]
  #next = 1
  #waiting: Beat[] = []
  #running = false
  #resting = false
  #loop: Promise<void> = Promise.resolve()
  readonly #halt = new AbortController()

  constructor(bases: readonly string[], id: string, token: string, machine: Machine, everyMs = 0) {
    this.#bases = bases
    this.id = id
    this.token = token
    this.machine = machine
    this.intervalMs = everyMs
  }

  /** Enrols with a token of its own making; asks again with the same claim until it has an answer. */
  static async enrol(bases: readonly string[], key: string, everyMs = 0): Promise<Robot> {
    const claim = newClaim()
    const answer = await enrolUntilAnswered(bases, key, claim)
    if (answer.status >= 300) throw new Error(`enrolment: ${answer.status} ${answer.text}`)
    return new Robot(bases, answer.body.robot_id, claim.token, claim.machine, everyMs)
  }

  get unacknowledged(): readonly Beat[] {
    return this.#waiting
  }

  get lastSent(): number {
    return this.#next - 1
  }

  get welcomed(): boolean {
    return this.session !== null && this.session.ended === null && this.#greeted
  }
  #greeted = false

  start(): void {
    this.#running = true
    this.#loop = this.#live()
  }

  /** Makes no new heartbeats of its own, but stays connected. */
  rest(): void {
    this.#resting = true
  }

  /** Where it goes from its next connection on (a server that came back on another port). */
  goTo(bases: readonly string[]): void {
    this.#bases = bases
  }

  async stop(): Promise<void> {
    this.#running = false
    this.#halt.abort()
    this.session?.socket.terminate()
    await this.#loop
  }

  /** Makes one heartbeat, keeps it, and sends it when there is a session. */
  beat(): Beat {
    const beat = { seq: this.#next++, at: new Date().toISOString() }
    this.#waiting.push(beat)
    if (this.welcomed) this.#send(beat)
    return beat
  }

  #send(beat: Beat): void {
    this.session?.send({ type: 'heartbeat', ...beat, health: 'ok', metrics: { turns: beat.seq } })
  }

  async #live(): Promise<void> {
    for (let attempt = 0; this.#running; attempt += 1) {
      const base = this.#bases[attempt % this.#bases.length] as string
      try {
        this.session = await Session.open(base, this.token)
        await this.#one(this.session)
      } catch {
        // refused, unreachable or cut off before the welcome: the loop comes again
      }
      this.#greeted = false
      const end = this.session?.ended ?? null
      this.session?.socket.terminate()
      this.session = null
      if (end !== null) {
        this.closes.push(end)
        if (end.code >= 4500 && end.code <= 4999) return
      }
      await this.#pause(end)
    }
  }

  async #one(session: Session): Promise<void> {
    const oldest = this.#waiting[0]
    session.hello(this.machine, oldest === undefined ? {} : { resume_seq: oldest.seq })
    session.socket.on('message', () => this.#settle(session))
    const welcome = await session.welcome()
    this.welcomes.push(welcome)
    this.sessions.push(Number(welcome.session_no))
    if (this.intervalMs === 0) this.intervalMs = Number(welcome.heartbeat_interval_ms)
    for (const beat of this.#waiting) this.#send(beat)
    this.#greeted = true
    while (this.#running && session.ended === null) {
      if (!this.#resting) this.beat()
      await Promise.race([session.closed, this.#sleep(this.intervalMs)])
    }
  }

  #settle(session: Session): void {
    const upTo = session.acknowledged
    while (this.#waiting[0] !== undefined && this.#waiting[0].seq <= upTo)
      this.acknowledged.push(this.#waiting.shift() as Beat)
  }

  async #pause(end: Closed | null): Promise<void> {
    const told = end === null ? null : /(\d+)/.exec(end.reason)
    const asked = end?.code === 1012 && told !== null ? Number(told[1]) : 0
    await this.#sleep(asked > 0 ? asked : 50 + Math.random() * 200)
  }

  async #sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#halt.signal }).catch(() => {})
  }
}
