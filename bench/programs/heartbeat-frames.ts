import { mask, textFrame } from './raw-websocket.ts'

/** All numbers of a run have as many digits, so that a heartbeat is a copy with some bytes changed. */
export const FIRST_SEQ = 1_000_000
const SEQ_DIGITS = 7

const AT = '2026-01-01T00:00:00.000Z'

/** What a mobile robot with a battery says of itself. */
export const HEARTBEAT = JSON.stringify({
  type: 'heartbeat',
  seq: FIRST_SEQ,
  at: AT,
  health: 'ok',
  mode: 'auto',
  activity: 'driving to dock 4',
  battery: { charge: 0.81, charging: false, voltage: 25.3 },
  pose: { frame: 'map', x: 12.41, y: -3.07, theta: 1.57 },
  system: { cpu: 0.31, memory: 0.52, disk: 0.4, temperature_c: 51.5, load_1m: 0.72, uptime_s: 86_400 },
  estop: false,
  faults: [],
  metrics: { motor_left_amps: 2.1, motor_right_amps: 2.3, wifi_rssi_dbm: -61 },
})

export const HEARTBEAT_BYTES = Buffer.byteLength(HEARTBEAT)

/** As much as a robot may say with little: for what asks about many heartbeats, not about large ones. */
export const SHORT_HEARTBEAT = JSON.stringify({
  type: 'heartbeat',
  seq: FIRST_SEQ,
  at: AT,
  health: 'ok',
  battery: { charge: 0.81 },
  pose: { frame: 'map', x: 12.41, y: -3.07, theta: 1.57 },
})

/** The frames of heartbeats, each with a number and the time of its own, made without building JSON. */
export class HeartbeatFrames {
  readonly #template: Buffer
  readonly #seqAt: number
  readonly #seqMask: Buffer
  readonly #timeOffset: number
  readonly #timeAt: number
  #time = 0

  constructor(heartbeat = HEARTBEAT) {
    const { frame, payloadStart } = textFrame(heartbeat)
    const seqOffset = heartbeat.indexOf(String(FIRST_SEQ))
    this.#template = frame
    this.#seqAt = payloadStart + seqOffset
    this.#seqMask = mask(Buffer.alloc(SEQ_DIGITS), seqOffset)
    this.#timeOffset = heartbeat.indexOf(AT)
    this.#timeAt = payloadStart + this.#timeOffset
  }

  /** `at`: the robot's clock, milliseconds since 1970. */
  make(seq: number, at = Date.now()): Buffer {
    if (at !== this.#time) {
      this.#time = at
      mask(Buffer.from(new Date(at).toISOString()), this.#timeOffset).copy(this.#template, this.#timeAt)
    }
    const frame = Buffer.allocUnsafe(this.#template.length)
    this.#template.copy(frame)
    let left = seq
    for (let digit = SEQ_DIGITS - 1; digit >= 0; digit--) {
      frame[this.#seqAt + digit] = (0x30 + (left % 10)) ^ this.#seqMask[digit]!
      left = Math.floor(left / 10)
    }
    return frame
  }
}
