import { performance } from 'node:perf_hooks'
import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import { answerQuestions } from '../support/answering.ts'
import { inParallel, quantile } from '../support/measure.ts'
import { FIRST_SEQ, HeartbeatFrames } from './heartbeat-frames.ts'
import { RawWebSocket, textFrame } from './raw-websocket.ts'

// Many robots in one process, to be pointed at our own server or at the bare engine, which sends back what they say:
// an acknowledgement and an echo both answer a heartbeat.

export type RobotsQuestion =
  /** Connects one robot more for each token and has it greeted. */
  | { readonly do: 'connect'; readonly port: number; readonly tokens: readonly string[] }
  /** Each robot sends one heartbeat. */
  | { readonly do: 'beat' }
  /** Each robot keeps so many heartbeats on the way, as fast as answers come. */
  | { readonly do: 'saturate'; readonly seconds: number; readonly inFlight: number }
  /** All robots together send so many heartbeats a second, whatever is answered. */
  | { readonly do: 'pace'; readonly seconds: number; readonly perSecond: number }

/** What became of heartbeats: all were answered. */
export interface Answered {
  readonly count: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const GATEWAY_PATH = '/agent/ws'
const HANDSHAKES_AT_ONCE = 200
const ROBOTS_PER_ADDRESS = 2_000
const MAX_IN_FLIGHT = 256
const HELLO = textFrame(
  JSON.stringify({
    type: 'hello',
    protocol: 1,
    agent: { version: '1.0.0', hostname: 'robot', os: 'Debian 12', platform: 'linux', arch: 'arm64' },
    machine_id: '0f8c2f9e4f5c4e0f9c0f5d5b3c7a1e42',
    boot_id: 'b7b1b4a5-2f46-4f0f-9a52-0d9f0f4f7a10',
    instance_id: '2d3b8a90-5f0e-4b7f-8a34-54d4e6f0c7a9',
  }),
).frame

const ACK_START = '{"type":"ack","seq":'
const ECHO_START = '{"type":"heartbeat","seq":'
/** Where the server's word for a frame's type differs. */
const TYPE_OFFSET = '{"type":"'.length
const [A, E, H] = [...'aeh'].map((letter) => letter.charCodeAt(0))

const frames = new HeartbeatFrames()

/** What all robots are doing: how they go on after an answer, and what was measured. */
let goOn: (robot: Robot) => void = () => {}
let latenciesMs: number[] = []
let outstanding = 0
let fail: (error: Error) => void = (error) => {
  throw error
}

class Robot {
  readonly #socket: RawWebSocket
  /** When each heartbeat on the way was sent, by its number. */
  readonly #sentAt = new Float64Array(MAX_IN_FLIGHT)
  #greeted: () => void = () => {}
  #nextSeq = FIRST_SEQ
  #answeredSeq = FIRST_SEQ - 1

  constructor(port: number, token: string, localAddress: string) {
    this.#socket = new RawWebSocket(
      {
        port,
        path: GATEWAY_PATH,
        localAddress,
        headers: [`Sec-WebSocket-Protocol: ${SUBPROTOCOL}`, `Authorization: Bearer ${token}`],
        onText: (payload) => this.#take(payload),
        onEnd: (reason) => fail(new Error(`a robot lost its session: ${reason}`)),
      },
      () => this.#socket.send(HELLO),
    )
  }

  greeted(): Promise<void> {
    return new Promise((resolve) => {
      this.#greeted = resolve
    })
  }

  get inFlight(): number {
    return this.#nextSeq - 1 - this.#answeredSeq
  }

  beat(): void {
    if (this.inFlight >= MAX_IN_FLIGHT) {
      fail(new Error('a robot has too many heartbeats unanswered'))
      return
    }
    const seq = this.#nextSeq++
    outstanding += 1
    this.#sentAt[seq % MAX_IN_FLIGHT] = performance.now()
    this.#socket.send(frames.make(seq))
  }

  #take(payload: Buffer): void {
    switch (payload[TYPE_OFFSET]) {
      case A:
        this.#answered(readSeq(payload, ACK_START.length))
        break
      case H:
        if (payload[TYPE_OFFSET + 2] === A) this.#answered(readSeq(payload, ECHO_START.length))
        else this.#greeted()
        break
      case E:
        fail(new Error(`a robot was told: ${payload}`))
        break
      default:
        this.#greeted()
    }
  }

  #answered(seq: number): void {
    const now = performance.now()
    for (; this.#answeredSeq < seq; outstanding--) {
      this.#answeredSeq += 1
      latenciesMs.push(now - this.#sentAt[this.#answeredSeq % MAX_IN_FLIGHT]!)
    }
    goOn(this)
  }
}

function readSeq(payload: Buffer, start: number): number {
  let seq = 0
  for (let at = start; at < payload.length; at++) {
    const digit = payload[at]! - 0x30
    if (digit < 0 || digit > 9) break
    seq = seq * 10 + digit
  }
  return seq
}

const robots: Robot[] = []

async function connectRobots(port: number, tokens: readonly string[]): Promise<void> {
  await inParallel(tokens.length, HANDSHAKES_AT_ONCE, async (index) => {
    const robot = new Robot(
      port,
      tokens[index]!,
      `127.0.0.${2 + Math.floor(robots.length / ROBOTS_PER_ADDRESS)}`,
    )
    robots.push(robot)
    await robot.greeted()
  })
}

/** Measures from `begin` until every heartbeat is answered and none is to come. */
async function measure(begin: () => void, mayEnd: () => boolean): Promise<Answered> {
  latenciesMs = []
  const begun = performance.now()
  await new Promise<void>((resolve, reject) => {
    fail = reject
    const look = () => {
      if (outstanding === 0 && mayEnd()) resolve()
      else setTimeout(look, 1)
    }
    begin()
    look()
  })
  const seconds = (performance.now() - begun) / 1000
  goOn = () => {}
  const sorted = Float64Array.from(latenciesMs).sort()
  return { count: sorted.length, seconds, p50Ms: quantile(sorted, 0.5), p99Ms: quantile(sorted, 0.99) }
}

function saturate(seconds: number, inFlight: number): Promise<Answered> {
  const end = performance.now() + seconds * 1000
  goOn = (robot) => {
    while (robot.inFlight < inFlight && performance.now() < end) robot.beat()
  }
  return measure(
    () => robots.forEach(goOn),
    () => performance.now() >= end,
  )
}

function pace(seconds: number, perSecond: number): Promise<Answered> {
  const total = Math.round(seconds * perSecond)
  const begun = performance.now()
  let sent = 0
  const sendDue = () => {
    const due = Math.min(total, ((performance.now() - begun) * perSecond) / 1000)
    while (sent < due) robots[sent++ % robots.length]!.beat()
    if (sent < total) setTimeout(sendDue, 1)
  }
  return measure(sendDue, () => sent === total)
}

answerQuestions(async (question: RobotsQuestion) => {
  switch (question.do) {
    case 'connect':
      return new Promise<void>((resolve, reject) => {
        fail = reject
        connectRobots(question.port, question.tokens).then(resolve, reject)
      })
    case 'beat':
      return measure(
        () => {
          for (const robot of robots) robot.beat()
        },
        () => true,
      )
    case 'saturate':
      return saturate(question.seconds, question.inFlight)
    case 'pace':
      return pace(question.seconds, question.perSecond)
  }
})
