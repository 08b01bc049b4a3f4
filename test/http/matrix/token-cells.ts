import { expect } from 'vitest'
import { newId } from '../../../src/ids.ts'
import type { Answer, Json } from '../api.ts'
import { type Cell, type Cells, type CellTable, ofFleets, once } from './cells.ts'
import { type Place, seesTokensOf } from './rules.ts'
import { FLEETS, type Person } from './world.ts'

/** The token of each fleet, and that of B1 looked for in A1. */
function ofFleetTokens(action: string, more: (at: Place) => Partial<Cell> = () => ({})): Cells {
  return ({ fleets, fleetTokens, persons }) => [
    ...FLEETS.map((at) => ({
      what: `of ${at}`,
      at,
      url: `/api/fleets/${fleets[at]}/tokens/${fleetTokens[at]}${action}`,
      target: fleetTokens[at],
      ...more(at),
    })),
    {
      what: 'of B1 in A1',
      at: 'A1',
      nothing: true,
      url: `/api/fleets/${fleets.A1}/tokens/${fleetTokens.B1}${action}`,
    },
    {
      what: 'of somebody in A1',
      at: 'A1',
      nothing: true,
      url: `/api/fleets/${fleets.A1}/tokens/${persons[0]!.tokenIds[0]}${action}`,
    },
  ]
}

/** Which token the call is about: the one that asks, others of the same person, or those of everybody else. */
function ofTokens(path: (id: string) => string, makesAnother = false): Cells {
  return (world, { subject, tokenId, userId }) => {
    const { roles } = subject
    const own = world.persons
      .filter(({ id }) => id === userId)
      .flatMap((person) => person.tokenIds)
      .map((id): Cell => {
        const is = id === tokenId ? 'self' : 'own'
        return { what: `of oneself (${is})`, person: { roles, is }, url: path(id), target: id }
      })
    const others = world.persons
      .filter(({ isOther }) => isOther)
      .map((person) => ({
        what: `of ${person.name}`,
        person: { roles: person.roles },
        url: path(person.tokenIds[0]!),
        target: person.tokenIds[0]!,
      }))
    return [
      ...own,
      ...others,
      { what: 'of a fleet', url: path(world.fleetTokens.A1) },
      { what: 'of nothing', url: path(newId()) },
    ].map((cell) => (makesAnother ? { ...cell, target: undefined } : cell))
  }
}

const FLEET_CREDENTIALS = ['tokens:manage', 'enrollment-keys:write'] as const

/** Calls about the tokens of people and fleets. */
export const TOKEN_CELLS: CellTable = {
  'GET /api/tokens': ({ persons }, { subject, userId }) => {
    const shows = (which: (person: Person) => boolean) => (answer: Answer) =>
      expect(answer.body.items.map((item: Json) => item.id).sort()).toEqual(
        persons
          .filter(which)
          .flatMap((person) => person.tokenIds)
          .sort(),
      )
    return [
      { what: 'one’s own', url: '/api/tokens', check: shows((person) => person.id === userId) },
      {
        what: 'everybody’s',
        url: '/api/tokens?all=true&limit=200',
        person: { roles: [] },
        check: shows((person) => person.id === userId || seesTokensOf(subject, person)),
      },
      ...persons
        .filter(({ isOther }) => isOther)
        .map((other) => ({
          what: `those of ${other.name}`,
          url: `/api/tokens?user=${other.id}`,
          person: { roles: other.roles },
          check: shows((person) => person.id === other.id && seesTokensOf(subject, person)),
        })),
    ]
  },
  'POST /api/tokens': once('/api/tokens', { body: { name: 'a new token' } }),
  'GET /api/tokens/self': once('/api/tokens/self'),
  'POST /api/tokens/self/rotate': once('/api/tokens/self/rotate'),
  'POST /api/tokens/self/revoke': once('/api/tokens/self/revoke'),
  'GET /api/tokens/{id}': ofTokens((id) => `/api/tokens/${id}`),
  'POST /api/tokens/{id}/revoke': ofTokens((id) => `/api/tokens/${id}/revoke`),
  'POST /api/tokens/{id}/rotate': ofTokens((id) => `/api/tokens/${id}/rotate`, true),

  'GET /api/fleets/{id}/tokens': ofFleets((id, at, world) => ({
    url: `/api/fleets/${id}/tokens?limit=200`,
    check: ({ body }) => {
      const asking = world.callers.filter(({ subject }) => subject.fleet === at)
      expect(body.items.map((item: Json) => item.id).sort()).toEqual(
        [world.fleetTokens[at], ...asking.map(({ tokenId }) => tokenId)].sort(),
      )
    },
  })),
  'POST /api/fleets/{id}/tokens': ofFleets((id, at) => ({
    url: `/api/fleets/${id}/tokens`,
    body: { name: 'a new token', scopes: ['robots:read'] },
    also: { scope: 'robots:read', at },
    target: undefined,
  })),
  'GET /api/fleets/{id}/tokens/{token_id}': ofFleetTokens(''),
  'POST /api/fleets/{id}/tokens/{token_id}/revoke': ofFleetTokens('/revoke'),
  'POST /api/fleets/{id}/tokens/{token_id}/rotate': ofFleetTokens('/rotate', (at) => ({
    also: { scope: 'robots:read', at },
    target: undefined,
  })),

  'POST /api/tokens/revoke-all': (world, { subject, userId }) => {
    const url = '/api/tokens/revoke-all'
    const own: Cell[] =
      userId === null
        ? []
        : [
            {
              what: 'of oneself',
              url,
              person: { roles: subject.roles, is: 'own' },
              body: { of: { user_id: userId } },
            },
          ]
    const others = world.persons
      .filter(({ isOther }) => isOther)
      .map(({ id, name, roles }) => ({
        what: `of ${name}`,
        url,
        person: { roles },
        body: { of: { user_id: id } },
        target: id,
      }))
    const fleets = FLEETS.flatMap((at): Cell[] => {
      const of = { fleet_id: world.fleets[at] }
      const cell = { url, at, target: world.fleets[at], needs: [...FLEET_CREDENTIALS] }
      const only = { needs: ['enrollment-keys:write' as const], body: { of, only: ['enrollment_keys'] } }
      return [
        { what: `of ${at}`, ...cell, body: { of } },
        { what: `the keys of ${at}`, ...cell, ...only },
      ]
    })
    const of = { fleet_id: world.fleets.A1 }
    const ofA1 = { url, at: 'A1', target: world.fleets.A1 } as const
    fleets.push(
      {
        what: 'of A1, to see',
        ...ofA1,
        needs: [...FLEET_CREDENTIALS],
        body: { of, dry_run: true },
      },
      {
        what: 'of A1, with robots',
        ...ofA1,
        needs: [...FLEET_CREDENTIALS, 'robots:write'],
        body: { of, include: ['robots'] },
      },
    )
    return [
      ...own,
      ...others,
      ...fleets,
      { what: 'of nobody', url, body: { of: { user_id: newId() } } },
      {
        what: 'of everybody',
        url,
        at: 'deployment',
        needs: [...FLEET_CREDENTIALS, 'users:manage'],
        body: { of: { deployment: true } },
      },
    ]
  },
}
