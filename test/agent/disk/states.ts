import type { Identity, PendingClaim } from '../../../agent/state.ts'
import { mintCheckedToken } from '../../../src/protocol/tokens.ts'

/** A robot as it is after its claim was granted, with all that an identity may have. */
export const IDENTITY: Identity = {
  server: 'https://beacon.example',
  robotId: '0190a000-0000-7000-8000-000000000001',
  name: 'warehouse-bot-01',
  siteId: '0190a000-0000-7000-8000-000000000002',
  fleetId: '0190a000-0000-7000-8000-000000000003',
  gatewayUrl: 'wss://beacon.example/agent/ws',
  heartbeatIntervalMs: 10_000,
  robotToken: mintCheckedToken('robot'),
  tokenMadeAt: '2026-01-01T00:00:00.000Z',
  machineId: 'a'.repeat(64),
  boundTo: 'b'.repeat(64),
  credentialHash: 'c'.repeat(64),
}

/** The same while it changes its token. */
export const ROTATING: Identity = {
  ...IDENTITY,
  nextToken: mintCheckedToken('robot'),
  refusedCredentials: ['d'.repeat(64)],
}

export const CLAIM: PendingClaim = {
  server: 'https://beacon.example',
  claimId: '0190a000-0000-7000-8000-0000000000ff',
  robotToken: IDENTITY.robotToken,
  credentialHash: 'c'.repeat(64),
}
