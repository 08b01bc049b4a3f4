import { createHash, randomBytes } from 'node:crypto'
import { createClaims } from '../../src/claims/claims.ts'
import type { AuditEntry } from '../../src/db/audit.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { type Answer, type Api, type Json, startApi } from './api.ts'

/** The REST edge with the real claims behind it. */
export interface ClaimingApi extends Api {
  /** What claims told the audit log of refusals. */
  readonly refused: AuditEntry[]
  /** Claims as a robot does, with a token of its own unless told otherwise. */
  claim(secret: string, body?: Json): Promise<Answer>
}

export async function startClaimingApi(): Promise<ClaimingApi> {
  let claims: ReturnType<typeof createClaims> | undefined
  const refused: AuditEntry[] = []
  const api = await startApi({
    claims: { claim: (call) => claims!.claim(call), check: (call) => claims!.check(call) },
  })
  claims = createClaims({
    database: api.db.database,
    clock: systemClock,
    random: systemRandom,
    bus: api.parts.bus,
    audit: { refused: (entry) => void refused.push(entry), used: () => {} },
    log: createLog('silent'),
    metrics: createMetrics(),
    defaults: { heartbeatIntervalMs: 10_000 },
  })
  return {
    ...api,
    refused,
    claim: (secret, body = {}) =>
      api.post('/agent/enroll', { token_hash: randomBytes(32).toString('hex'), ...body }, { token: secret }),
  }
}

export const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

/** A machine's claim, the same whenever it is asked for by the same name. */
export function machine(name: string, changes: Json = {}): Json {
  return {
    name,
    claim_id: `claim-of-${name}`,
    token_hash: sha256(`token of ${name}`),
    fingerprint: { hostname: name, machine_id: `machine of ${name}` },
    ...changes,
  }
}

/** What the audit log tells of a thing, oldest first. */
export async function auditOf(api: Api, targetId: string): Promise<Json[]> {
  const { rows } = await api.db.pool.query(
    `SELECT action, outcome, actor_kind, actor_id, target_kind, target_name, fleet_id, request_id, data
     FROM audit_log WHERE target_id = $1 ORDER BY seq`,
    [targetId],
  )
  return rows
}
