import { expect } from 'vitest'
import { insertInvitation } from '../../../src/db/invitations.ts'
import { newId } from '../../../src/ids.ts'
import { hashToken } from '../../../src/protocol/tokens.ts'
import { PASSWORD } from '../../support/people.ts'
import type { Answer, Json } from '../api.ts'
import { type Cell, type Cells, type CellTable, once } from './cells.ts'
import { may, type Place, type Subject, seesUser } from './rules.ts'
import { FLEETS, OWN_PAGE, SITES, type World } from './world.ts'

type Roles = Subject['roles']

/** Roles as a body has them. */
function given({ sites, fleets }: World, roles: Roles): Json[] {
  return roles.map(({ role, at }) => ({
    role,
    ...(at in sites ? { site_id: sites[at as 'A'] } : {}),
    ...(at in fleets ? { fleet_id: fleets[at as 'A1'] } : {}),
  }))
}

/** Everybody whom calls are about, the caller, and nobody. */
function ofUsers(action: string, more: (world: World, id: string) => Partial<Cell> = () => ({})): Cells {
  return (world, { subject, userId }) => {
    const url = (id: string) => `/api/users/${id}${action}`
    const others = world.persons
      .filter(({ isOther }) => isOther)
      .map(({ id, name, roles }): Cell => {
        return { what: name, person: { roles }, url: url(id), target: id, ...more(world, id) }
      })
    const own: Cell[] =
      userId === null
        ? []
        : [
            {
              what: 'oneself',
              person: { roles: subject.roles, is: 'own' },
              url: url(userId),
              target: userId,
              ...more(world, userId),
            },
          ]
    return [...others, ...own, { what: 'nobody', url: url(newId()), ...more(world, newId()) }]
  }
}

/** Those of whom enough can be told apart by trying every change on them. */
const CHANGED = ['oneself', 'another owner', 'a viewer of A1 and B1']

const WANTED: readonly Roles[] = [
  [],
  [{ role: 'viewer', at: 'A1' }],
  [{ role: 'operator', at: 'A1' }],
  [{ role: 'viewer', at: 'B1' }],
  [{ role: 'admin', at: 'deployment' }],
  [{ role: 'owner', at: 'deployment' }],
]
const named = (roles: Roles) => roles.map(({ role, at }) => `${role} of ${at}`).join(', ') || 'nothing'

/** A place by its ids. */
function placeOf({ sites, fleets }: World, siteId: string | null, fleetId: string | null): Place {
  const fleet = FLEETS.find((at) => fleets[at] === fleetId)
  return fleet ?? SITES.find((at) => sites[at] === siteId) ?? 'deployment'
}

/** Lines of the audit log are of places where the caller may read them, and there are such lines. */
function withinReach(
  world: World,
  subject: Subject,
  lines: readonly { site_id: string | null; fleet_id: string | null }[],
): void {
  const shown = new Set(lines.map((line) => placeOf(world, line.site_id, line.fleet_id)))
  const due = [...SITES, ...FLEETS, 'deployment' as const].filter((at) => may(subject, 'audit:read', at))
  expect([...shown].sort()).toEqual(due.sort())
}

const INVITATION = `rf_invite_${'ab'.repeat(32)}`

const wrongCode = { body: { code: '000000' }, refusal: 'proof_refused' }

/** Calls about people, and how they come in. */
export const PEOPLE_CELLS: CellTable = {
  'GET /api/users': (world) => [
    {
      what: 'all',
      url: '/api/users?limit=200',
      check: ({ body }, subject) =>
        expect(body.items.map((item: Json) => item.id).sort()).toEqual(
          world.persons
            .filter((person) => seesUser(subject, { roles: person.roles }))
            .map(({ id }) => id)
            .sort(),
        ),
    },
  ],
  'POST /api/users': (world) =>
    WANTED.filter((roles) => roles.length > 0).map((roles) => ({
      what: named(roles),
      url: '/api/users',
      gives: roles,
      body: { name: 'somebody new', email: 'new@example.test', roles: given(world, roles) },
    })),
  'GET /api/users/{id}': ofUsers('', (world) => ({
    // Of somebody's roles those within reach.
    check: ({ body }: Answer, subject: Subject) => {
      const person = world.persons.find(({ id }) => id === body.id)!
      const due = person.roles.filter(({ at }) => may(subject, 'users:manage', at))
      expect(body.roles).toHaveLength(due.length)
    },
  })),
  'PATCH /api/users/{id}': (world, caller) => [
    ...ofUsers('', () => ({ body: { name: 'renamed' } }))(world, caller),
    ...WANTED.flatMap((roles) =>
      ofUsers('', () => ({ gives: roles, body: { roles: given(world, roles) } }))(world, caller)
        .filter(({ what }) => CHANGED.includes(what))
        .map((cell) => ({ ...cell, what: `${cell.what} to ${named(roles)}` })),
    ),
  ],
  'DELETE /api/users/{id}': ofUsers(''),
  'POST /api/users/{id}/invite': ofUsers('/invite', () => ({ body: { email: 'again@example.test' } })),
  'POST /api/users/{id}/reset-second-factor': ofUsers('/reset-second-factor', (_, id) => ({
    prepare: ({ db }) => db.query('UPDATE users SET two_factor_enabled = true WHERE id = $1', [id]),
  })),
  'POST /api/invitations/accept': (world) => [
    {
      what: 'one that stands',
      url: '/api/invitations/accept',
      body: { token: INVITATION, password: 'another quiet harbour' },
      prepare: ({ db }) =>
        insertInvitation(db.database, {
          id: newId(),
          userId: world.persons.find(({ isOther }) => isOther)!.id,
          tokenHash: hashToken(INVITATION),
          createdBy: world.persons.find(({ name }) => name === 'owner')!.id,
          days: 1,
        }),
    },
    {
      what: 'one that nobody made',
      url: '/api/invitations/accept',
      body: { token: INVITATION, password: 'another quiet harbour' },
      refusal: 'invitation_invalid',
    },
  ],

  'GET /api/security': once('/api/security'),
  'PATCH /api/security': once('/api/security', { body: { rotate_on_suspicion: false } }),

  'GET /api/sign-in': once('/api/sign-in'),
  'POST /api/sign-in': ({ email }) => [
    { what: 'it', url: '/api/sign-in', body: { email, password: PASSWORD } },
  ],
  'POST /api/sign-in/second-factor': once('/api/sign-in/second-factor', {
    body: { code: '000000' },
    headers: OWN_PAGE,
    refusal: 'sign_in_failed',
  }),
  'GET /api/sign-in/oidc': once('/api/sign-in/oidc', { refusal: 'not_found' }),
  'GET /api/sign-in/oidc/callback': once('/api/sign-in/oidc/callback', { refusal: 'not_found' }),
  'GET /api/session': once('/api/session'),
  'POST /api/session/second-factor': once('/api/session/second-factor'),
  'POST /api/session/second-factor/confirm': once('/api/session/second-factor/confirm', wrongCode),
  'POST /api/session/second-factor/backup-codes': once('/api/session/second-factor/backup-codes', wrongCode),
  'POST /api/session/second-factor/remove': (_, { userId }) => [
    {
      what: 'it',
      url: '/api/session/second-factor/remove',
      body: { password: PASSWORD },
      prepare: ({ db }) => db.query('UPDATE users SET two_factor_enabled = true WHERE id = $1', [userId]),
    },
  ],
  'POST /api/password': once('/api/password', {
    body: { current_password: PASSWORD, new_password: 'another quiet harbour' },
  }),
  'GET /api/sessions': (_, { sessionId }) => [
    {
      what: 'one’s own',
      url: '/api/sessions',
      check: ({ body }) => expect(body.items.map((item: Json) => item.id)).toEqual([sessionId]),
    },
  ],
  'DELETE /api/sessions/{id}': ({ callers }, { subject, sessionId }) => [
    ...callers
      .flatMap((caller) => caller.sessionId ?? [])
      .map((id): Cell => {
        const own = id === sessionId ? { person: { roles: subject.roles, is: 'own' as const } } : {}
        return { what: id === sessionId ? 'one’s own' : 'of another', url: `/api/sessions/${id}`, ...own }
      }),
    { what: 'none', url: `/api/sessions/${newId()}` },
  ],
  'POST /api/sign-out': once('/api/sign-out'),

  'GET /api/audit': (world) => [
    {
      what: 'all',
      url: '/api/audit?limit=200',
      check: ({ body }, subject) => withinReach(world, subject, body.items),
    },
  ],
  'GET /api/audit/export': (world) => [
    {
      what: 'all',
      url: '/api/audit/export',
      check: ({ text }, subject) =>
        withinReach(
          world,
          subject,
          text
            .split('\n')
            .filter((line) => line !== '')
            .map((line) => JSON.parse(line)),
        ),
    },
  ],
  'GET /api/audit/verify': once('/api/audit/verify'),

  'GET /api/secrets': once('/api/secrets'),
  'POST /api/secrets/rotate': once('/api/secrets/rotate', { refusal: 'secret_key_in_settings' }),
}
