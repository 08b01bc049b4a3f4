import { describe, expect, test } from 'vitest'
import { gatewayFor, gatewayOf, remarkOnPlainText } from '../../agent/addresses.ts'
import type { Identity } from '../../agent/state.ts'

const identity = (server: string, gatewayUrl: string): Identity => ({
  server,
  gatewayUrl,
  robotId: 'r',
  name: 'n',
  siteId: 's',
  fleetId: 'f',
  heartbeatIntervalMs: 1_000,
  robotToken: 't',
  machineId: undefined,
})

describe('where an agent dials', () => {
  const usual = identity('https://beacon.example', 'wss://robots.beacon.example/agent/ws')

  test('the address that enrolment named', () => {
    const expected = { url: usual.gatewayUrl, fallback: 'wss://beacon.example/agent/ws', remarks: [] }
    expect(gatewayFor(usual, usual.server, false)).toEqual(expected)
    expect(gatewayFor(usual, usual.server, true)).toEqual(expected)
    const same = identity('https://beacon.example', 'wss://beacon.example/agent/ws')
    expect(gatewayFor(same, same.server, false)).toEqual({ url: same.gatewayUrl, remarks: [] })
  })

  test('never in the clear where the address from enrolment is encrypted', () => {
    const shielded = identity('http://beacon.example', 'wss://robots.beacon.example/agent/ws')
    expect(gatewayFor(shielded, shielded.server, false)).toEqual({ url: shielded.gatewayUrl, remarks: [] })
    const local = identity('http://localhost:8080', 'wss://localhost:8081/agent/ws')
    expect(gatewayFor(local, local.server, false).fallback).toBe('ws://localhost:8080/agent/ws')
  })

  test('the server that a person names now, when it is another one', () => {
    expect(gatewayFor(usual, 'http://10.0.0.5:8080/base', true)).toEqual({
      url: 'ws://10.0.0.5:8080/base/agent/ws',
      remarks: [expect.stringMatching(/as asked/)],
    })
  })

  test('not an address that cannot be right from here', () => {
    const own = gatewayOf('http://10.0.0.5:8080')
    for (const wrong of [
      'ws://127.0.0.1:8080/agent/ws',
      'ws://[::1]/x',
      'ws://localhost/x',
      'nonsense',
      'http://x/',
    ])
      expect(gatewayFor(identity('http://10.0.0.5:8080', wrong), 'http://10.0.0.5:8080', false)).toEqual({
        url: own,
        remarks: [expect.any(String)],
      })
    const local = identity('http://localhost:8080', 'ws://127.0.0.1:8081/agent/ws')
    expect(gatewayFor(local, local.server, false).url).toBe(local.gatewayUrl)
  })

  test('a person hears of what travels in the clear', () => {
    const lowered = identity('https://beacon.example', 'ws://beacon.example/agent/ws')
    expect(gatewayFor(lowered, lowered.server, false).remarks.join()).toMatch(/not encrypted/)
    expect(remarkOnPlainText('http://beacon.example')).toMatch(/not encrypted/)
    expect(remarkOnPlainText('https://beacon.example')).toBeUndefined()
    expect(remarkOnPlainText('http://127.0.0.1:8080')).toBeUndefined()
  })
})
