import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import type { Answer, Json } from './api.ts'
import { CELLS } from './matrix/all-cells.ts'
import type { Cell } from './matrix/cells.ts'
import { RULES } from './matrix/routes.ts'
import { may, type Place, type Rule, SCOPES, type Subject, type Verdict, verdict } from './matrix/rules.ts'
import { type Caller, makeWorld, SUBJECTS, type World } from './matrix/world.ts'

/**
 * Every route, called by everybody, about everything. What each call has to come to is worked out by matrix/rules.ts,
 * which knows nothing of how the server works it out. Each call is taken back, so that all find the same world.
 */

/** Two of the same, so that one calls while the database works for the other. */
const LANES = 2
let worlds: readonly World[] = []
beforeAll(async () => {
  worlds = await Promise.all(Array.from({ length: LANES }, makeWorld))
  for (const world of worlds) await world.db.begin()
}, 60_000)
afterAll(() => Promise.all(worlds.map((world) => world.api.close())))

const isChange = (route: string) => !route.startsWith('GET ')

/** What the answer says, in the words of the rules. */
function said({ status, body }: Answer, { refusal }: Cell): Verdict {
  if (refusal !== undefined && body?.code === refusal) return 'allowed'
  if (status === 401 || status === 403) return 'forbidden'
  if (status === 404) return 'hidden'
  return body?.code === 'unknown_reference' ? 'unknown' : 'allowed'
}

/** Whether somebody has any reason to know what is at the place. */
function mayRead(subject: Subject, place: Place): boolean {
  // Their own role there, whatever their token is good for.
  if (subject.roles.some(({ at }) => at === place)) return true
  const inside: readonly Place[] = place === 'A' ? ['A', 'A1', 'A2'] : place === 'B' ? ['B', 'B1'] : [place]
  return inside.some((at) => SCOPES.some((scope) => may(subject, scope, at)))
}

function leaks(world: World, { subject }: Caller, cell: Cell, answer: Answer): string[] {
  const asked = cell.url + JSON.stringify(cell.body ?? null)
  return world.marks
    .filter(({ at, text }) => !mayRead(subject, at) && answer.text.includes(text) && !asked.includes(text))
    .map(({ text }) => `tells of ${text}`)
}

function wrongItems(rule: Rule, { subject }: Caller, cell: Cell, { body }: Answer): string[] {
  if (cell.items === undefined || rule.who !== 'list') return []
  const shown = (body.items ?? body.robots).map((item: Json) => item.id).sort()
  const due = cell.items.filter(({ at }) => may(subject, rule.scope, at)).map(({ id }) => id)
  return JSON.stringify(shown) === JSON.stringify(due.sort())
    ? []
    : [`lists ${shown.length} things instead of ${due.length}`]
}

interface Line {
  readonly action: string
  readonly actor_kind: string
  readonly actor_id: string
  readonly target_id: string | null
  readonly address: string | null
}

/** Lines that the call wrote into the audit log. */
function lines(world: World, answer: Answer): Promise<Line[]> {
  return world.db.query<Line>(
    `SELECT action, actor_kind, actor_id, target_id, host(address) AS address
     FROM audit_log WHERE request_id = $1 AND outcome = 'ok' ORDER BY seq`,
    [answer.headers['x-request-id']],
  )
}

const written = new Map<string, Set<string>>()

function wrongLines(route: string, caller: Caller, cell: Cell, found: readonly Line[]): string[] {
  const declared = auditOf(route)
  const seen = written.get(route) ?? new Set()
  written.set(route, seen)
  for (const { action } of found) seen.add(action)
  const { kind, id } = caller.actor
  // Whoever comes in from outside is somebody else afterwards.
  const comesIn = RULES[route]!.who === 'everybody'
  return found.flatMap((line) => [
    ...(declared.includes(line.action) ? [] : [`writes ${line.action} without saying so`]),
    ...(comesIn || (line.actor_kind === kind && line.actor_id === id) ? [] : ['names another actor']),
    ...(line.address === '127.0.0.1' ? [] : ['names another address']),
    ...(cell.target === undefined || line.target_id === cell.target ? [] : ['names another target']),
  ])
}

/** Rows written in this transaction and lately, apart from the log itself. */
async function writes(world: World): Promise<number> {
  const [row] = await world.db.query<{ count: number }>(
    `SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint AS count
     FROM pg_stat_xact_user_tables WHERE relname NOT LIKE 'audit%'`,
  )
  return row!.count
}

/** Does the work in the world as it is at first, and takes it back. */
async function takenBack<Result>(world: World, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } finally {
    await world.db.rewind()
  }
}

function call(world: World, route: string, { token, headers }: Caller, cell: Cell): Promise<Answer> {
  const [method] = route.split(' ') as ['GET']
  return world.api.call(method, cell.url, cell.body, { token, headers: { ...headers, ...cell.headers } })
}

/** Makes the call and takes it back; returns what was wrong with it. */
async function faults(world: World, route: string, caller: Caller, cell: Cell): Promise<string[]> {
  const rule = RULES[route]!
  const { subject } = caller
  const due = verdict(rule, subject, cell)
  const prepare = async () => void (due === 'allowed' && (await cell.prepare?.(world)))
  const wrong: string[] = []
  try {
    const isUntold = await takenBack(world, async () => {
      await prepare()
      const answer = await call(world, route, caller, cell)
      if (said(answer, cell) !== due)
        wrong.push(`is ${said(answer, cell)} (${answer.status} ${answer.body?.code}), not ${due}`)
      else if (due === 'allowed') wrong.push(...wrongAnswer(rule, caller, cell, answer))
      wrong.push(...leaks(world, caller, cell, answer))
      if (!isChange(route) || answer.status === 403 || answer.status === 404) return false
      const found = await lines(world, answer)
      wrong.push(...wrongLines(route, caller, cell, found))
      if (answer.status >= 300 && found.length > 0) wrong.push('tells of something that was refused')
      return answer.status < 300 && found.length === 0
    })
    // What the audit log is told nothing of must not have changed anything.
    if (isUntold) {
      const rows = await takenBack(world, async () => {
        await prepare()
        const before = await writes(world)
        await call(world, route, caller, cell)
        return (await writes(world)) - before
      })
      if (rows > 0) wrong.push(`writes ${rows} rows and tells nobody`)
    }
  } catch (error) {
    wrong.push((error as Error).message)
  }
  return wrong.map((fault) => `${subject.name}, ${cell.what}: ${fault}`)
}

/** What is wrong with what somebody got who may have it. */
function wrongAnswer(rule: Rule, caller: Caller, cell: Cell, answer: Answer): string[] {
  const { status, body } = answer
  if (cell.refusal !== undefined && body?.code === cell.refusal) return []
  const isDue = cell.status === undefined ? status < 300 : status === cell.status
  if (!isDue) return [`answers ${status}: ${body?.detail}`]
  cell.check?.(answer, caller.subject)
  return wrongItems(rule, caller, cell, answer)
}

interface Operation {
  readonly route: string
  readonly audit: readonly string[] | undefined
}

let described: readonly Operation[] | undefined

/** What the server says of its routes: that they are there, and what they write into the audit log. */
function operations(): readonly Operation[] {
  described ??= Object.entries<Json>((worlds[0]!.api.app.swagger() as Json).paths).flatMap(
    ([path, methods]) =>
      Object.entries<Json>(methods).map(([method, operation]) => ({
        route: `${method.toUpperCase()} ${path}`,
        audit: operation['x-audit'],
      })),
  )
  return described
}

function auditOf(route: string): readonly string[] {
  return operations().find((operation) => operation.route === route)?.audit ?? []
}

/** The calls of a route, and, where it names a thing by its id, one that names nothing. */
function cellsOf(world: World, route: string, caller: Caller): readonly Cell[] {
  const cells = CELLS[route]!(world, caller)
  const [first] = cells
  if (RULES[route]!.who !== 'there' || first?.target === undefined) return cells
  const { url, body, target } = first
  return [...cells, { what: 'of nothing', url: url.replace(target, newId()), body }]
}

test('the rules are said without a word of the server', () => {
  const imported = ['rules.ts', 'routes.ts'].flatMap((file) => {
    const text = readFileSync(join(import.meta.dirname, 'matrix', file), 'utf8')
    return [...text.matchAll(/\bfrom '([^']+)'/g)].map((found) => found[1])
  })
  expect(imported).toEqual(['./rules.ts'])
})

test('every route has its rule and its calls, and there are none of routes that are gone', () => {
  const routes = operations().map(({ route }) => route)
  expect(Object.keys(RULES).sort()).toEqual([...routes].sort())
  expect(Object.keys(CELLS).sort()).toEqual([...routes].sort())
})

/** What the audit log is told apart from changes, and what no call here brings about; with where it is tried. */
const TOLD_ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  'POST /api/session/second-factor/confirm': ['second_factor.enabled', 'people/sign-in.test.ts'],
  'POST /api/session/second-factor/backup-codes': [
    'second_factor.backup_codes_renewed',
    'people/sign-in.test.ts',
  ],
  'POST /api/sign-in': ['sign_in.second_factor_asked', 'people/sign-in.test.ts'],
  'POST /api/sign-in/second-factor': ['sign_in.succeeded', 'people/sign-in.test.ts'],
  'POST /api/secrets/rotate': ['secret_key.added', 'secret_key.rotated', 'secrets.test.ts'],
}
const REFUSALS = ['sign_in.failed', 'user.invitation_refused']

/** The claim desk writes down its claims itself. */
const UNTOLD = ['POST /agent/enroll']

test('every route that changes something says what it writes into the audit log', () => {
  const silent = operations().filter(({ route, audit }) => isChange(route) && !audit?.length)
  expect(silent.map(({ route }) => route)).toEqual(UNTOLD)
})

/** Who calls in one of the worlds. Where nobody is asked who they are, it makes no difference. */
function callersOf({ callers }: World, lane: number, route: string): readonly Caller[] {
  if (RULES[route]!.who === 'everybody') return [lane === 0 ? callers[0]! : callers.at(-1)!]
  return callers.filter((_, index) => index % LANES === lane)
}

async function allFaults(world: World, lane: number, route: string): Promise<string[]> {
  const wrong: string[] = []
  for (const caller of callersOf(world, lane, route))
    for (const cell of cellsOf(world, route, caller))
      wrong.push(...(await faults(world, route, caller, cell)))
  return wrong
}

describe(`each as ${SUBJECTS.length} callers`, () => {
  test.each(Object.keys(CELLS))('%s', { timeout: 120_000 }, async (route) => {
    const wrong = await Promise.all(worlds.map((world, lane) => allFaults(world, lane, route)))
    expect(wrong.flat()).toEqual([])
    const elsewhere = [...REFUSALS, ...(TOLD_ELSEWHERE[route] ?? [])]
    const due = auditOf(route).filter((action) => !elsewhere.includes(action))
    if (isChange(route)) expect([...(written.get(route) ?? [])].sort()).toEqual([...due].sort())
  })
})
