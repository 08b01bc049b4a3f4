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

const { frame: TEMPLATE, payloadStart } = textFrame(HEARTBEAT)
const seqOffset = HEARTBEAT.indexOf(String(FIRST_SEQ))
const atOffset = HEARTBEAT.indexOf(AT)

/** The frames of heartbeats, each with a number and the time of its own, made without building JSON. */
export class HeartbeatFrames {
  readonly #template = Buffer.from(TEMPLATE)
  readonly #seqMask = mask(Buffer.alloc(SEQ_DIGITS), seqOffset)
  #now = 0

  make(seq: number): Buffer {
    const now = Date.now()
    if (now !== this.#now) {
      this.#now = now
      mask(Buffer.from(new Date(now).toISOString()), atOffset).copy(this.#template, payloadStart + atOffset)
    }
    const frame = Buffer.allocUnsafe(this.#template.length)
    this.#template.copy(frame)
    let left = seq
    for (let digit = SEQ_DIGITS - 1; digit >= 0; digit--) {
      frame[payloadStart + seqOffset + digit] = (0x30 + (left % 10)) ^ this.#seqMask[digit]!
      left = Math.floor(left / 10)
    }
    return frame
  }
}
