import { FLEET_TOKEN_SCOPES } from '../../../src/access/scopes.ts'
import { BeaconError } from '../../../src/errors.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../../support/access.ts'
import { insertRobot } from '../../support/robots.ts'
import { type Api, type Json, startApi } from '../api.ts'
import { type RewindingDatabase, rewinding } from './rewinding.ts'
import { type Place, type Role, SCOPES, type Subject } from './rules.ts'

type Fleet = 'A1' | 'A2' | 'B1'
export const FLEETS: readonly Fleet[] = ['A1', 'A2', 'B1']
export const SITES = ['A', 'B'] as const
export const siteOf = (fleet: Fleet) => fleet[0] as 'A' | 'B'

/** One of everything in every fleet. The name of each thing says where it is: `in-A1`. */
export interface World {
  readonly api: Api
  readonly db: RewindingDatabase
  readonly sites: Readonly<Record<'A' | 'B', string>>
  readonly fleets: Readonly<Record<Fleet, string>>
  readonly robots: Readonly<Record<Fleet, string>>
  readonly keys: Readonly<Record<Fleet, string>>
  /** What must not be read by those who do not see the place. */
  readonly marks: readonly { readonly at: Place; readonly text: string }[]
  readonly people: readonly Caller[]
}

/** A subject of the rules, with the token that it calls with. */
export interface Caller {
  readonly subject: Subject
  readonly token: string
  readonly tokenId: string
  readonly userId: string | null
}

function narrow(role: Role, at: Place, prefix: string): Subject[] {
  return SCOPES.map((scope) => ({
    name: `${prefix}, ${scope} alone`,
    roles: [{ role, at }],
    scopes: [scope],
  }))
}

const WHERE: readonly Place[] = ['deployment', 'A', 'A1']

export const SUBJECTS: readonly Subject[] = [
  { name: 'owner', roles: [{ role: 'owner', at: 'deployment' }], scopes: null },
  ...(['admin', 'operator', 'viewer'] as const).flatMap((role) =>
    WHERE.map((at) => ({ name: `${role} of ${at}`, roles: [{ role, at }], scopes: null })),
  ),
  {
    name: 'viewer of everything, operator of A1',
    roles: [
      { role: 'viewer', at: 'deployment' },
      { role: 'operator', at: 'A1' },
    ],
    scopes: null,
  },
  {
    name: 'admin of A1, viewer of B',
    roles: [
      { role: 'admin', at: 'A1' },
      { role: 'viewer', at: 'B' },
    ],
    scopes: null,
  },
  { name: 'somebody without a role', roles: [], scopes: null },
  {
    name: 'viewer of A1, given robots:write',
    roles: [{ role: 'viewer', at: 'A1' }],
    scopes: ['robots:write'],
  },
  ...narrow('owner', 'deployment', 'owner'),
  ...narrow('admin', 'A', 'admin of A'),
  ...narrow('admin', 'A1', 'admin of A1'),
  ...FLEET_TOKEN_SCOPES.map((scope) => ({
    name: `fleet token of A1, ${scope}`,
    roles: [],
    fleet: 'A1' as const,
    scopes: [scope],
  })),
]

export async function makeWorld(): Promise<World> {
  let db: RewindingDatabase | undefined
  const claims = { claim: () => Promise.reject(new BeaconError('invalid_token')) }
  const api = await startApi({ claims }, (plain) => {
    db = rewinding(plain)
    return db
  })
  const database = db!.database
  const made = async (path: string, body: Json) => {
    const answer = await api.post(path, body)
    if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.text}`)
    return answer.body
  }
  const marks: { at: Place; text: string }[] = []
  const each = async <At extends Place>(
    places: readonly At[],
    make: (at: At) => Promise<string>,
  ): Promise<Record<At, string>> => {
    const ids = {} as Record<At, string>
    for (const at of places) {
      ids[at] = await make(at)
      marks.push({ at, text: ids[at] })
    }
    return ids
  }
  for (const at of [...SITES, ...FLEETS]) marks.push({ at, text: `in-${at}.` })
  const sites = await each(SITES, async (at) => (await made('/api/sites', { name: `site in-${at}.` })).id)
  const fleets = await each(
    FLEETS,
    async (at) => (await made('/api/fleets', { site_id: sites[siteOf(at)], name: `fleet in-${at}.` })).id,
  )
  const place = (at: Fleet) => ({ siteId: sites[siteOf(at)], fleetId: fleets[at] })
  const robots = await each(
    FLEETS,
    async (at) => (await insertRobot(database, place(at), { name: `robot in-${at}.` })).id,
  )
  const keys = await each(
    FLEETS,
    async (at) =>
      (
        await made('/api/enrollment-keys', {
          site_id: sites[siteOf(at)],
          fleet_id: fleets[at],
          name: `key in-${at}.`,
        })
      ).id,
  )

  const roleAt = ({ role, at }: { role: Role; at: Place }) => ({
    role,
    ...(at === 'deployment'
      ? {}
      : at.length === 1
        ? { siteId: sites[at as 'A'] }
        : { fleetId: fleets[at as Fleet] }),
  })
  const people: Caller[] = []
  for (const subject of SUBJECTS) {
    const settings = { name: subject.name, scopes: subject.scopes }
    if (subject.fleet !== undefined) {
      const scopes = subject.scopes!
      const token = await insertFleetToken(database, fleets[subject.fleet as Fleet], { ...settings, scopes })
      people.push({ subject, token: token.token, tokenId: token.id, userId: null })
      continue
    }
    const userId = await insertPerson(database, subject.roles.map(roleAt), { name: subject.name })
    const token = await insertPersonalToken(database, userId, settings)
    people.push({ subject, token: token.token, tokenId: token.id, userId })
  }
  return { api, db: db!, sites, fleets, robots, keys, marks, people }
}
