import { afterAll, beforeAll } from 'vitest'
import { createSeal } from '../../../src/access/seal.ts'
import { createSignInDesk } from '../../../src/access/sign-in/desk.ts'
import type { OidcSettings } from '../../../src/config.ts'
import type { AuditEntry } from '../../../src/db/audit.ts'
import type { HttpParts } from '../../../src/http/parts.ts'
import { systemRandom } from '../../../src/runtime.ts'
import { ManualClock } from '../../support/clock.ts'
import { quickPasswords } from '../../support/people.ts'
import { RETENTION } from '../../support/retention.ts'
import { type Api, type Json, startApi } from '../api.ts'

export interface PeopleApi extends Api {
  readonly clock: ManualClock
  readonly passwords: ReturnType<typeof quickPasswords>
  /** What was told to the audit log besides changes. */
  readonly refused: AuditEntry[]
  /** The lines of the audit log about somebody. */
  auditOf(userId: string): Promise<Json[]>
}

interface Settings {
  readonly config?: Partial<HttpParts['config']>
  readonly oidc?: OidcSettings
}

/** The REST edge with a clock that stands still and passwords that take no time. */
export async function startPeopleApi({ config = {}, oidc }: Settings = {}): Promise<PeopleApi> {
  const clock = new ManualClock('2026-03-01T12:00:00Z')
  const passwords = quickPasswords()
  const refused: AuditEntry[] = []
  const seal = createSeal(Buffer.alloc(32, 7), systemRandom)
  const api = await startApi({
    clock,
    config: {
      publicUrl: undefined,
      trustedProxies: [],
      heartbeatIntervalMs: 10_000,
      history: RETENTION,
      ...config,
    },
    seal,
    signIn: createSignInDesk({ clock, random: systemRandom, seal, oidc, passwords }),
    audit: { refused: (entry) => void refused.push(entry), used: () => {} },
  })
  return {
    ...api,
    clock,
    passwords,
    refused,
    async auditOf(userId) {
      const { rows } = await api.db.pool.query(
        'SELECT action, outcome, actor_kind, actor_id, target_id, data FROM audit_log WHERE target_id = $1 ORDER BY seq',
        [userId],
      )
      return rows
    },
  }
}

/** Starts one for the tests of a file and stops it after them. */
export function usePeopleApi(settings: Settings = {}): () => PeopleApi {
  let api: PeopleApi | undefined
  beforeAll(async () => {
    api = await startPeopleApi(settings)
  })
  afterAll(() => api?.close())
  return () => {
    if (!api) throw new Error('the tests have not begun')
    return api
  }
}
