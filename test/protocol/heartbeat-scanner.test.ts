import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeBySchema, decodeRobotFrame } from '../../src/protocol/codec.ts'
import { type Heartbeat, scanHeartbeat } from '../../src/protocol/heartbeat-scanner.ts'
import { heartbeatTexts, mutated, nastyHeartbeats } from './heartbeat-texts.ts'

/** As PostgreSQL's jsonb keeps it: of members that come twice the last one, and no negative zero. */
function meant(heartbeat: Heartbeat) {
  return {
    ...heartbeat,
    body: JSON.parse(heartbeat.body, (_name, value) => (Object.is(value, -0) ? 0 : value)) as unknown,
  }
}

/** What the schema says of a text is what the codec says of it, whether it was scanned or not. */
function expectAgreement(text: string): void {
  const bySchema = decodeBySchema(text)
  const decoded = decodeRobotFrame(text)
  if (decoded.kind !== 'heartbeat' || bySchema.kind !== 'heartbeat') expect(decoded).toEqual(bySchema)
  else expect(meant(decoded.heartbeat)).toEqual(meant(bySchema.heartbeat))
}

describe('a scanned heartbeat', () => {
  it.each(nastyHeartbeats.map((text) => [text.slice(0, 200), text]))(
    'is what the schema makes of it: %s',
    (_shown, text) => expectAgreement(text),
  )

  it('is what the schema makes of it, for any valid one in any order and spacing', () => {
    let scanned = 0
    let valid = 0
    fc.assert(
      fc.property(heartbeatTexts, (text) => {
        expectAgreement(text)
        if (decodeBySchema(text).kind !== 'heartbeat') return
        valid += 1
        if (scanHeartbeat(text)) scanned += 1
      }),
      { numRuns: 8_000 },
    )
    // Otherwise all of this would say nothing of the scanner.
    expect(valid).toBeGreaterThan(3_000)
    expect(scanned).toBeGreaterThan(1_000)
  })

  it('is what the schema makes of it, for any text that was one but for some characters', () => {
    fc.assert(
      fc.property(mutated(heartbeatTexts), (text) => expectAgreement(text)),
      { numRuns: 12_000 },
    )
  })

  it('has the time that Date.parse reads', () => {
    fc.assert(
      fc.property(
        fc.date({
          min: new Date('1969-12-31T00:00:00Z'),
          max: new Date('9999-12-31T23:59:58.999Z'),
          noInvalidDate: true,
        }),
        fc.constantFrom('Z', '+00:00', '-00:00', '+14:00', '-15:59', '+05:30'),
        fc.constantFrom('', '.5', '.25', '.999', '.9999', '.123456', '.123456789'),
        (date, zone, fraction) => {
          const at = `${date.toISOString().slice(0, 19)}${fraction}${zone}`
          const text = `{"type":"heartbeat","seq":1,"at":"${at}"}`
          expectAgreement(text)
          const time = Date.parse(at)
          expect(scanHeartbeat(text)?.time).toBe(time >= 0 && time <= 253_402_300_799_999 ? time : undefined)
        },
      ),
      { numRuns: 4_000 },
    )
  })

  it('is scanned when it is plain, as nearly all are', () => {
    const plain = {
      type: 'heartbeat',
      seq: 7,
      at: '2026-01-01T00:00:00.123456+09:00',
      health: 'warn',
      mode: 'auto',
      activity: 'ドックへ移動中',
      battery: { charge: 1, charging: true, voltage: 25.299999237060547 },
      pose: { lat: 52.52000659999999, lon: 13.404954 },
      system: { cpu: 0.31, memory: 0.52, disk: 0.4, temperature_c: -3.5, load_1m: 0.72, uptime_s: 86_400 },
      network: { ssid: 'hall 3', rssi: -61, links: [{ up: true, name: null }] },
      estop: false,
      faults: [],
      metrics: { motor_left_amps: 2.1, wifi_rssi_dbm: -61 },
    }
    for (const text of [JSON.stringify(plain), JSON.stringify(plain, null, 2)]) {
      const heartbeat = scanHeartbeat(text)
      const { type: _type, seq, at, ...body } = plain
      expect(heartbeat && meant(heartbeat)).toEqual({
        seq,
        at,
        time: Date.parse(at),
        health: 'warn',
        faults: [],
        body,
      })
    }
    expect(scanHeartbeat('{"seq":0,"at":"1970-01-01T00:00:00Z","type":"heartbeat"}')).toEqual({
      seq: 0,
      at: '1970-01-01T00:00:00Z',
      time: 0,
      health: 'unknown',
      faults: undefined,
      body: '{}',
    })
  })
})
