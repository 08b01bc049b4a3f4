import { createHash } from 'node:crypto'
import type { MessageName } from './json-schema.ts'

const ROBOT = '0198c0de-4b1d-7a6e-9c53-0f1e2d3c4b5a'
const HASH = createHash('sha256').update('the robot’s next token').digest('hex')

/** Messages as they travel, the plainest first. */
export const EXAMPLES: Readonly<Record<MessageName, readonly object[]>> = {
  hello: [
    { type: 'hello', protocol: 1 },
    {
      type: 'hello',
      protocol: 1,
      agent: {
        version: 'my-robot 2.1.0',
        hostname: 'cart-7',
        os: 'Debian GNU/Linux 12',
        platform: 'linux',
        arch: 'arm64',
      },
      machine_id: '5b3c6f0f8f6b4c55a1d0d8f2b3a49c11',
      boot_id: '7f0f8a52-2d3f-4d7e-9d55-0d6c4a7a3a0e',
      instance_id: '1f5d0c9b',
      resume_seq: 1767225600123,
      last_session_no: 41,
    },
  ],
  heartbeat: [
    { type: 'heartbeat', seq: 1767225600123, at: '2026-01-01T00:00:00.123Z' },
    {
      type: 'heartbeat',
      seq: 1767225600124,
      at: '2026-01-01T01:00:10.125+01:00',
      clock_offset_ms: -86_400_000,
      health: 'warn',
      mode: 'auto',
      activity: 'docking at station 4',
      battery: { charge: 0.82, charging: true, voltage: 25.1 },
      pose: { frame: 'map', x: 12.5, y: -3.25, theta: 1.57 },
      system: {
        cpu: 0.25,
        memory: 0.5,
        disk: 0.75,
        temperature_c: 51.5,
        load_1m: 0.4,
        uptime_s: 90_061,
      },
      network: { interface: 'wlan0', signal_dbm: -61 },
      estop: false,
      faults: [
        {
          code: 'lidar.dirty',
          level: 'warn',
          message: 'The front lidar is dusty',
          since: '2025-12-31T23:58:00Z',
        },
      ],
      metrics: { crates_moved: 318, wheel_slip: 0.02 },
    },
    { type: 'heartbeat', seq: 1767225600125, at: '2026-01-01T00:00:20Z', pose: { lat: 47.37, lon: 8.54 } },
  ],
  event: [
    {
      type: 'event',
      id: '0198c0df-1111-7a6e-9c53-0f1e2d3c4b5a',
      at: '2026-01-01T00:00:03Z',
      level: 'error',
      code: 'gripper.lost_part',
      message: 'The gripper closed on nothing',
      data: { station: 4, attempts: [1, 2] },
    },
  ],
  token_rotated: [{ type: 'token_rotated', token_hash: HASH }],
  bye: [{ type: 'bye', reason: 'shutdown' }],
  welcome: [
    {
      type: 'welcome',
      robot_id: ROBOT,
      name: 'cart-7',
      session_no: 42,
      heartbeat_interval_ms: 10_000,
      server_time: '2026-01-01T00:00:00.321Z',
      lifecycle: 'active',
    },
    {
      type: 'welcome',
      robot_id: ROBOT,
      name: 'cart-7',
      session_no: 43,
      heartbeat_interval_ms: 10_000,
      server_time: '2026-01-01T00:00:00.321Z',
      lifecycle: 'active',
      reconnect_spread_ms: 100_000,
    },
  ],
  ack: [{ type: 'ack', seq: 1767225600124 }],
  event_ack: [{ type: 'event_ack', ids: ['0198c0df-1111-7a6e-9c53-0f1e2d3c4b5a'] }],
  settings: [{ type: 'settings', heartbeat_interval_ms: 5_000 }],
  rotate_token: [{ type: 'rotate_token', reason: 'age' }],
  token_rotation_ack: [{ type: 'token_rotation_ack', token_hash: HASH }],
  drain: [{ type: 'drain', reconnect_in_ms: 4_217 }],
  error: [{ type: 'error', code: 'hello_expected', message: 'the first frame has to be hello' }],
  claim_request: [
    {
      name: 'cart-7',
      token_hash: HASH,
      claim_id: '0198c0dd-0000-7a6e-9c53-0f1e2d3c4b5a',
      fingerprint: {
        hostname: 'cart-7',
        os: 'Debian GNU/Linux 12',
        platform: 'linux',
        arch: 'arm64',
        mac: 'b8:27:eb:12:34:56',
        machine_id: '5b3c6f0f8f6b4c55a1d0d8f2b3a49c11',
        agent_version: 'my-robot 2.1.0',
      },
    },
    {},
  ],
  claim_response: [
    {
      robot_id: ROBOT,
      name: 'cart-7',
      site_id: '0198c0dc-aaaa-7a6e-9c53-0f1e2d3c4b5a',
      fleet_id: '0198c0dc-bbbb-7a6e-9c53-0f1e2d3c4b5a',
      gateway_url: 'wss://beacon.example.com/agent/ws',
      heartbeat_interval_ms: 10_000,
    },
  ],
}
