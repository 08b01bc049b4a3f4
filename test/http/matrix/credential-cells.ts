import { expect } from 'vitest'
import type { Json } from '../api.ts'
import {
  type Cell,
  type CellTable,
  lists,
  ofKeys,
  ofProvisioningTokens,
  ofRobots,
  together,
} from './cells.ts'
import { may, type Place } from './rules.ts'
import { ADMITTED, FLEETS, siteOf } from './world.ts'

/** Only those who may reveal a key read its value. */
const revealed =
  (at: Place): NonNullable<Cell['check']> =>
  ({ body }, subject) =>
    expect(typeof body.key_value).toBe(may(subject, 'enrollment-keys:reveal', at) ? 'string' : 'object')

/** Calls about what robots enrol with. */
export const CREDENTIAL_CELLS: CellTable = {
  'GET /api/enrollment-keys': lists('/api/enrollment-keys', (world) => world.keys, ['site', 'fleet']),
  'POST /api/enrollment-keys': (world) =>
    FLEETS.map((at) => ({
      what: `in ${at}`,
      at,
      url: '/api/enrollment-keys',
      body: { site_id: world.sites[siteOf(at)], fleet_id: world.fleets[at], name: 'a new key' },
    })),
  'GET /api/enrollment-keys/{id}': ofKeys((id, at) => ({
    url: `/api/enrollment-keys/${id}`,
    check: revealed(at),
  })),
  'POST /api/enrollment-keys/{id}/revoke': together(
    ofKeys((id) => ({ url: `/api/enrollment-keys/${id}/revoke` })),
    ({ keys }) => [
      {
        what: 'with its robots',
        at: 'A1',
        url: `/api/enrollment-keys/${keys.A1}/revoke`,
        body: { cascade: 'revoke_robots' },
        also: { scope: 'robots:write', at: 'A1' },
        check: ({ body }, subject) => {
          const revoked = may(subject, 'robots:write', 'B1') ? 2 : 1
          expect([body.robots_revoked, body.robots_out_of_reach]).toEqual([revoked, 2 - revoked])
        },
      },
    ],
  ),
  'GET /api/enrollment-keys/{id}/robots': ofKeys((id, at, { robots }) => ({
    url: `/api/enrollment-keys/${id}/robots`,
    check: ({ body }, subject) => {
      const due = ADMITTED.filter(([place, from]) => from === at && may(subject, 'robots:read', place))
      expect(body.items.map((item: Json) => item.id)).toEqual(due.map(([place]) => robots[place]))
    },
  })),

  'GET /api/provisioning-tokens': lists('/api/provisioning-tokens', (world) => world.provisioningTokens, [
    'site',
    'fleet',
  ]),
  'POST /api/provisioning-tokens': (world) =>
    FLEETS.map((at) => ({
      what: `in ${at}`,
      at,
      url: '/api/provisioning-tokens',
      body: { fleet_id: world.fleets[at], name: 'a new token' },
    })),
  'GET /api/provisioning-tokens/{id}': ofProvisioningTokens((id) => ({
    url: `/api/provisioning-tokens/${id}`,
  })),
  'GET /api/provisioning-tokens/{id}/robots': ofProvisioningTokens((id) => ({
    url: `/api/provisioning-tokens/${id}/robots`,
  })),
  'POST /api/provisioning-tokens/{id}/revoke': together(
    ofProvisioningTokens((id) => ({ url: `/api/provisioning-tokens/${id}/revoke` })),
    ofProvisioningTokens((id, at, { robots }) => ({
      what: `with the robots of ${at}`,
      url: `/api/provisioning-tokens/${id}/revoke`,
      body: { cascade: 'revoke_robots' },
      also: { scope: 'robots:write', at },
      target: undefined,
      prepare: ({ db }) =>
        db.query('UPDATE robots SET token_credential_id = $1 WHERE id = $2', [id, robots[at]]),
    })),
  ),

  'POST /api/robots/{id}/setup-token': ofRobots((id) => ({ url: `/api/robots/${id}/setup-token` })),
}
