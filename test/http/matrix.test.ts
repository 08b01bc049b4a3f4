import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import type { Answer, Json } from './api.ts'
import { CELLS, type Cell } from './matrix/cells.ts'
import {
  isPerson,
  may,
  type Place,
  RULES,
  type Rule,
  SCOPES,
  type Subject,
  type Verdict,
  verdict,
} from './matrix/rules.ts'
import { type Caller, makeWorld, SUBJECTS, type World } from './matrix/world.ts'

/**
 * Every route, called by everybody, about everything. What each call has to come to is worked out by matrix/rules.ts,
 * which knows nothing of how the server works it out. Each call is taken back, so that all find the same world.
 */

let world: World
beforeAll(async () => {
  world = await makeWorld()
})
afterAll(() => world?.api.close())

const isChange = (route: string) => !route.startsWith('GET ')

/** What the answer says, in the words of the rules. */
function said({ status, body }: Answer): Verdict {
  if (status === 401 || status === 403) return 'forbidden'
  if (status === 404) return 'hidden'
  return body?.code === 'unknown_reference' ? 'unknown' : 'allowed'
}

/** What somebody reads who has any reason to know what is at the place. */
function mayRead(subject: Subject, place: Place): boolean {
  const inside: readonly Place[] = place === 'A' ? ['A', 'A1', 'A2'] : place === 'B' ? ['B', 'B1'] : [place]
  return inside.some((at) => SCOPES.some((scope) => may(subject, scope, at)))
}

function leaks({ subject }: Caller, cell: Cell, answer: Answer): string[] {
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
  readonly outcome: string
  readonly actor_kind: string
  readonly actor_id: string
  readonly target_id: string | null
  readonly address: string | null
}

/** Lines that the call wrote into the audit log. */
function lines(answer: Answer): Promise<Line[]> {
  return world.db.query<Line>(
    `SELECT action, outcome, actor_kind, actor_id, target_id, host(address) AS address
     FROM audit_log WHERE request_id = $1 ORDER BY seq`,
    [answer.headers['x-request-id']],
  )
}

const written = new Map<string, Set<string>>()

function wrongLines(route: string, caller: Caller, cell: Cell, found: readonly Line[]): string[] {
  const declared = auditOf(route)
  const ok = found.filter(({ outcome }) => outcome === 'ok')
  const seen = written.get(route) ?? new Set()
  written.set(route, seen)
  for (const { action } of ok) seen.add(action)
  const kind = isPerson(caller.subject) ? 'personal_token' : 'fleet_token'
  return ok.flatMap((line) => [
    ...(declared.includes(line.action) ? [] : [`writes ${line.action} without saying so`]),
    ...(line.actor_kind === kind && line.actor_id === caller.tokenId ? [] : ['names another actor']),
    ...(line.address === '127.0.0.1' ? [] : ['names another address']),
    ...(cell.target === undefined || line.target_id === cell.target ? [] : ['names another target']),
  ])
}

/** Rows written since the world began to be as it is, apart from the log itself. */
async function writes(): Promise<number> {
  const [row] = await world.db.query<{ count: number }>(
    `SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint AS count
     FROM pg_stat_xact_user_tables WHERE relname NOT LIKE 'audit%'`,
  )
  return row!.count
}

/** Makes the call and takes it back; returns what was wrong with it. */
async function faults(route: string, caller: Caller, cell: Cell): Promise<string[]> {
  const method = route.split(' ')[0] as 'GET'
  const rule = RULES[route]!
  const { token, subject } = caller
  await world.db.begin()
  try {
    const due = verdict(rule, subject, cell)
    if (due === 'allowed') await cell.prepare?.(world)
    const before = await writes()
    const answer = await world.api.call(method, cell.url, cell.body, { token })
    const wrong: string[] = []
    if (said(answer) !== due) wrong.push(`is ${said(answer)} (${answer.status}), not ${due}`)
    else if (due === 'allowed') {
      const isDue = cell.status === undefined ? answer.status < 300 : answer.status === cell.status
      if (!isDue) wrong.push(`answers ${answer.status}: ${answer.body?.detail}`)
      else {
        wrong.push(...wrongItems(rule, caller, cell, answer))
        cell.check?.(answer, subject)
      }
    }
    wrong.push(...leaks(caller, cell, answer))
    const found = await lines(answer)
    const told = found.some(({ outcome }) => outcome === 'ok')
    const changed = answer.status < 300 && (await writes()) > before
    if (changed && !told && !Object.hasOwn(UNTOLD, route)) wrong.push('changes something and tells nobody')
    if (told && !changed) wrong.push('tells of something that did not happen')
    wrong.push(...wrongLines(route, caller, cell, found))
    return wrong.map((fault) => `${subject.name}, ${cell.what}: ${fault}`)
  } catch (error) {
    return [`${subject.name}, ${cell.what}: ${(error as Error).message}`]
  } finally {
    await world.db.rewind()
  }
}

interface Operation {
  readonly route: string
  readonly audit: readonly string[] | undefined
}

let described: readonly Operation[] | undefined

/** What the server says of its routes: that they are there, and what they write into the audit log. */
function operations(): readonly Operation[] {
  described ??= Object.entries<Json>((world.api.app.swagger() as Json).paths).flatMap(([path, methods]) =>
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
function cellsOf(route: string): readonly Cell[] {
  const cells = CELLS[route]!(world)
  const [first] = cells
  if (RULES[route]!.who !== 'there' || first?.target === undefined) return cells
  const { url, body, target } = first
  return [...cells, { what: 'of nothing', url: url.replace(target, newId()), body }]
}

test('every route has its rule and its calls, and there are none of routes that are gone', () => {
  const routes = operations().map(({ route }) => route)
  expect(Object.keys(RULES).sort()).toEqual([...routes].sort())
  expect(Object.keys(CELLS).sort()).toEqual([...routes].sort())
})

/** Changes that the audit log says nothing of, and why. */
const UNTOLD: Readonly<Record<string, string>> = {
  'POST /agent/enroll': 'the claim itself is written by the claims desk',
}

test('every route that changes something says what it writes into the audit log', () => {
  const silent = operations().filter(({ route, audit }) => isChange(route) && !audit?.length)
  expect(silent.map(({ route }) => route).sort()).toEqual(Object.keys(UNTOLD).sort())
})

describe(`each as ${SUBJECTS.length} callers`, () => {
  test.each(Object.keys(CELLS))('%s', { timeout: 60_000 }, async (route) => {
    const wrong: string[] = []
    for (const caller of world.people)
      for (const cell of cellsOf(route)) wrong.push(...(await faults(route, caller, cell)))
    expect(wrong).toEqual([])
    if (isChange(route)) expect([...(written.get(route) ?? [])].sort()).toEqual([...auditOf(route)].sort())
  })
})
