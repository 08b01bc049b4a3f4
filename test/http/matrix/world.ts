import { FLEET_TOKEN_SCOPES } from '../../../src/access/scopes.ts'
import { createSeal } from '../../../src/access/seal.ts'
import { createSignInDesk } from '../../../src/access/sign-in/desk.ts'
import { setPassword } from '../../../src/db/sign-in.ts'
import { BeaconError } from '../../../src/errors.ts'
import { systemClock, systemRandom } from '../../../src/runtime.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../../support/access.ts'
import { Browser } from '../../support/browser.ts'
import { PASSWORD, quickPasswords } from '../../support/people.ts'
import { insertRobot } from '../../support/robots.ts'
import { type Api, type Json, startApi } from '../api.ts'
import { type RewindingDatabase, rewinding } from './rewinding.ts'
import { type Place, type Role, SCOPES, type Subject } from './rules.ts'

type Fleet = 'A1' | 'A2' | 'B1'
export const FLEETS: readonly Fleet[] = ['A1', 'A2', 'B1']
export const SITES = ['A', 'B'] as const
export const siteOf = (fleet: Fleet) => fleet[0] as 'A' | 'B'

/** Which robot came with which fleet's key. */
export const ADMITTED: readonly (readonly [Fleet, Fleet])[] = [
  ['A1', 'A1'],
  ['A2', 'B1'],
  ['B1', 'A1'],
]

async function signIn(api: Api, db: RewindingDatabase, userId: string, email: string) {
  await setPassword(db.database, userId, await api.parts.signIn.passwords.hash(PASSWORD))
  const browser = new Browser(api)
  const answer = await browser.post('/api/sign-in', { email, password: PASSWORD })
  if (answer.status !== 200) throw new Error(`POST /api/sign-in: ${answer.text}`)
  // It is not to be written down again, minutes later, that the session is in use.
  const [session] = await db.query<{ id: string }>(
    "UPDATE sign_ins SET last_seen_at = now() + interval '1 hour' WHERE user_id = $1 RETURNING id",
    [userId],
  )
  const [cookie] = browser.cookies
  return { cookie: cookie!.join('='), sessionId: session!.id }
}

/** One of everything in every fleet. The name of each thing says where it is: `in-A1`. */
export interface World {
  readonly api: Api
  readonly db: RewindingDatabase
  readonly sites: Readonly<Record<'A' | 'B', string>>
  readonly fleets: Readonly<Record<Fleet, string>>
  readonly robots: Readonly<Record<Fleet, string>>
  /** Robots were moved since: the key of A1 admitted the robot of B1, too, and the key of B1 the robot of A2. */
  readonly keys: Readonly<Record<Fleet, string>>
  readonly provisioningTokens: Readonly<Record<Fleet, string>>
  readonly fleetTokens: Readonly<Record<Fleet, string>>
  /** Everybody there is. */
  readonly persons: readonly Person[]
  /** What must not be read by those who do not see the place. */
  readonly marks: readonly { readonly at: Place; readonly text: string }[]
  readonly callers: readonly Caller[]
  /** Of somebody who has a password. */
  readonly email: string
}

export interface Person {
  readonly id: string
  readonly name: string
  readonly roles: Subject['roles']
  readonly tokenIds: readonly string[]
  /** One of those whom calls are about. */
  readonly isOther: boolean
}

/** A subject of the rules, with what it calls with: a token, or the cookie of a page. */
export interface Caller {
  readonly subject: Subject
  readonly token: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly tokenId: string | null
  readonly userId: string | null
  readonly sessionId: string | null
  /** Who it is in the audit log. */
  readonly actor: { readonly kind: string; readonly id: string }
}

export const OWN_PAGE = { host: 'localhost', origin: 'http://localhost' }

function narrow(role: Role, at: Place, prefix: string): Subject[] {
  return SCOPES.map((scope) => ({
    name: `${prefix}, ${scope} alone`,
    roles: [{ role, at }],
    scopes: [scope],
  }))
}

const SIGNED_IN = 'signed-in@example.test'

const WHERE: readonly Place[] = ['deployment', 'A', 'A1']

const signedIn = (name: string, roles: Subject['roles']): Subject => ({
  name: `${name}, signed in`,
  roles,
  scopes: null,
  signedIn: true,
})

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
  signedIn('owner', [{ role: 'owner', at: 'deployment' }]),
  signedIn('admin of A', [{ role: 'admin', at: 'A' }]),
  signedIn('operator of A1', [{ role: 'operator', at: 'A1' }]),
  signedIn('somebody without a role', []),
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

/** People whom others may manage or not. They never ask. */
export const OTHERS: readonly Pick<Subject, 'name' | 'roles'>[] = [
  { name: 'another owner', roles: [{ role: 'owner', at: 'deployment' }] },
  { name: 'another admin', roles: [{ role: 'admin', at: 'deployment' }] },
  { name: 'a viewer of A', roles: [{ role: 'viewer', at: 'A' }] },
  { name: 'a viewer of A1', roles: [{ role: 'viewer', at: 'A1' }] },
  { name: 'a viewer of B1', roles: [{ role: 'viewer', at: 'B1' }] },
  {
    name: 'a viewer of A1 and B1',
    roles: [
      { role: 'viewer', at: 'A1' },
      { role: 'viewer', at: 'B1' },
    ],
  },
  { name: 'nobody yet', roles: [] },
]

export async function makeWorld(): Promise<World> {
  let db: RewindingDatabase | undefined
  const refused = () => Promise.reject(new BeaconError('invalid_token'))
  const claims = { claim: refused, check: refused }
  const signInDesk = createSignInDesk({
    clock: systemClock,
    random: systemRandom,
    seal: createSeal(Buffer.alloc(32, 7), systemRandom),
    oidc: undefined,
    passwords: quickPasswords(),
  })
  const api = await startApi({ claims, signIn: signInDesk }, (plain) => {
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
    isMark = true,
  ): Promise<Record<At, string>> => {
    const ids = {} as Record<At, string>
    for (const at of places) {
      ids[at] = await make(at)
      if (isMark) marks.push({ at, text: ids[at] })
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
  const robots = await each(FLEETS, async (at) => {
    const { id } = await insertRobot(database, place(at), { name: `robot in-${at}.` })
    // Said when all is asked, however long that takes.
    await db!.query(
      `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
         VALUES ($1, now() + interval '1 hour', now() + interval '1 hour', 1, 1, $2)`,
      [id, { pose: { frame: `hall in-${at}.`, x: 1, y: 2, theta: 0 } }],
    )
    return id
  })
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
    // Whoever sees a robot sees the id of what it came with, wherever that is.
    false,
  )
  const provisioningTokens = await each(
    FLEETS,
    async (at) =>
      (await made('/api/provisioning-tokens', { fleet_id: fleets[at], name: `token in-${at}.` })).id,
  )
  const fleetTokens = await each(
    FLEETS,
    async (at) =>
      (
        await made(`/api/fleets/${fleets[at]}/tokens`, {
          name: `token in-${at}.`,
          scopes: ['robots:read'],
          expires_in_days: null,
        })
      ).id,
  )
  for (const [at, from] of ADMITTED)
    await database
      .updateTable('robots')
      .set({ credential_id: keys[from], token_credential_id: keys[from] })
      .where('id', '=', robots[at])
      .execute()
  for (const from of FLEETS) {
    const uses = ADMITTED.filter(([, key]) => key === from).length
    await database.updateTable('claim_credentials').set({ uses }).where('id', '=', keys[from]).execute()
  }

  const roleAt = ({ role, at }: { role: Role; at: Place }) => ({
    role,
    ...(at === 'deployment'
      ? {}
      : at.length === 1
        ? { siteId: sites[at as 'A'] }
        : { fleetId: fleets[at as Fleet] }),
  })
  const persons: Person[] = []
  const person = async (
    { name, roles }: Pick<Subject, 'name' | 'roles'>,
    { scopes = null, email = null, isOther = false }: Partial<Person & Subject & { email: string | null }>,
  ) => {
    const id = await insertPerson(database, roles.map(roleAt), { name, email })
    const tokens = [
      await insertPersonalToken(database, id, { name, scopes }),
      await insertPersonalToken(database, id, { name: 'spare', scopes }),
    ] as const
    persons.push({ id, name, roles, tokenIds: tokens.map((token) => token.id), isOther })
    return { id, asking: tokens[0] }
  }
  const callers: Caller[] = []
  for (const subject of SUBJECTS) {
    const { name, scopes } = subject
    const nobody = { headers: {}, token: null, tokenId: null, userId: null, sessionId: null }
    if (subject.fleet !== undefined) {
      const settings = { name, scopes: scopes! }
      const { id, token } = await insertFleetToken(database, fleets[subject.fleet as Fleet], settings)
      callers.push({ ...nobody, subject, token, tokenId: id, actor: { kind: 'fleet_token', id } })
      continue
    }
    const isFirst = !callers.some((caller) => caller.sessionId !== null)
    const email = subject.signedIn ? (isFirst ? SIGNED_IN : `caller-${callers.length}@example.test`) : null
    const { id: userId, asking } = await person(subject, { scopes, email })
    if (subject.signedIn) {
      const { cookie, sessionId } = await signIn(api, db!, userId, email!)
      const headers = { ...OWN_PAGE, cookie }
      callers.push({ ...nobody, subject, headers, userId, sessionId, actor: { kind: 'user', id: userId } })
      continue
    }
    const actor = { kind: 'personal_token', id: asking.id }
    callers.push({ ...nobody, subject, token: asking.token, tokenId: asking.id, userId, actor })
  }
  for (const other of OTHERS)
    await person(other, {
      isOther: true,
      email: `${other.name.replaceAll(' ', '-').toLowerCase()}@example.test`,
    })
  const [first] = await db!.query<{ user_id: string }>('SELECT user_id FROM access_tokens WHERE id = $1', [
    api.tokenId,
  ])
  const roles = [{ role: 'owner', at: 'deployment' }] as const
  persons.push({ id: first!.user_id, name: 'owner', roles, tokenIds: [api.tokenId], isOther: false })
  return {
    api,
    db: db!,
    sites,
    fleets,
    robots,
    keys,
    provisioningTokens,
    fleetTokens,
    persons,
    marks,
    callers,
    email: SIGNED_IN,
  }
}
