import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Api, makeFleet, unique, useApi } from '../http/api.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import {
  can,
  FLEETS,
  firstWorld,
  isBarred,
  isLive,
  type Place,
  SITES,
  type Step,
  steps,
  take,
  type World,
} from './rights-model.ts'

const api = useApi()

/** The world of the model, made in a real database: its places and people, and the value of each token. */
interface Stage {
  readonly ids: Record<string, string>
  readonly people: readonly string[]
  readonly tokens: { id: string; value: string; fleet: string | null }[]
}

async function setTheStage(world: World, { db }: Api): Promise<Stage> {
  const ids: Record<string, string> = {}
  for (const site of SITES) ids[site] = (await api().post('/api/sites', { name: unique(site) })).body.id
  for (const fleet of FLEETS) ids[fleet] = (await makeFleet(api(), ids[world.siteOf[fleet]!])).fleet_id
  const people: string[] = []
  const tokens: Stage['tokens'] = []
  for (const person of world.people) {
    const roles = [...person.roles].map(([place, role]) => ({ role, ...columnsOf(ids, place) }))
    const userId = await insertPerson(db.database, roles, { secondFactor: person.factor })
    const { id, token } = await insertPersonalToken(db.database, userId)
    people.push(userId)
    tokens.push({ id, value: token, fleet: null })
  }
  return { ids, people, tokens }
}

function columnsOf(ids: Record<string, string>, place: Place): { siteId?: string; fleetId?: string } {
  if (place === 'everywhere') return {}
  return place.startsWith('s') ? { siteId: ids[place]! } : { fleetId: ids[place]! }
}

/** Does it; answers with the status where somebody asked for it over REST. */
async function carryOut(step: Step, stage: Stage): Promise<number | undefined> {
  const { pool } = api().db
  const at = (index: number) => stage.tokens[index % stage.tokens.length]!
  const path = (token: Stage['tokens'][number]) =>
    token.fleet === null ? `/api/tokens/${token.id}` : `/api/fleets/${token.fleet}/tokens/${token.id}`
  switch (step.do) {
    case 'mint':
    case 'mint for fleet': {
      const fleet = step.do === 'mint' ? null : stage.ids[step.fleet]!
      const body = { name: 'made', ...(step.scopes ? { scopes: step.scopes } : {}) }
      const url = fleet === null ? '/api/tokens' : `/api/fleets/${fleet}/tokens`
      const answer = await api().post(url, body, { token: at(step.by).value })
      if (answer.status === 201) stage.tokens.push({ id: answer.body.id, value: answer.body.token, fleet })
      return answer.status
    }
    case 'rotate': {
      const [by, target] = [at(step.by), at(step.target)]
      const url = by === target ? '/api/tokens/self/rotate' : `${path(target)}/rotate`
      const answer = await api().post(url, step.atOnce ? { overlap_seconds: 0 } : null, { token: by.value })
      if (answer.status === 201)
        stage.tokens.push({ id: answer.body.id, value: answer.body.token, fleet: target.fleet })
      return answer.status
    }
    case 'revoke': {
      const [by, target] = [at(step.by), at(step.target)]
      const url = by === target ? '/api/tokens/self/revoke' : `${path(target)}/revoke`
      return (await api().post(url, undefined, { token: by.value })).status
    }
    case 'give role':
    case 'take role': {
      const { siteId = null, fleetId = null } = columnsOf(stage.ids, step.place)
      const userId = stage.people[step.person]
      await pool.query(
        `DELETE FROM memberships WHERE user_id = $1 AND site_id IS NOT DISTINCT FROM $2
         AND fleet_id IS NOT DISTINCT FROM $3`,
        [userId, siteId, fleetId],
      )
      if (step.do === 'give role')
        await pool.query(
          `INSERT INTO memberships (id, user_id, role, site_id, fleet_id)
           VALUES (gen_random_uuid(), $1, $2, $3, $4)`,
          [userId, step.role, siteId, fleetId],
        )
      return undefined
    }
    case 'remove person':
      await pool.query('UPDATE users SET removed_at = now() WHERE id = $1', [stage.people[step.person]])
      return undefined
    case 'second factor':
      await pool.query('UPDATE users SET two_factor_enabled = $2 WHERE id = $1', [
        stage.people[step.person],
        step.on,
      ])
      return undefined
    case 'demand second factor':
      await pool.query('UPDATE security_settings SET require_second_factor = $1', [step.on])
      return undefined
    case 'move fleet':
      await pool.query('UPDATE fleets SET site_id = $2 WHERE id = $1', [
        stage.ids[step.fleet],
        stage.ids[step.site],
      ])
      return undefined
    case 'expire':
      await pool.query('UPDATE access_tokens SET expires_at = now() WHERE id = $1', [at(step.target).id])
      return undefined
  }
}

/** Tries what a token can do at every fleet, and what it should not. */
async function compare(world: World, stage: Stage, index: number): Promise<string[]> {
  const token = world.tokens[index]!
  const { value } = stage.tokens[index]!
  const wrong: string[] = []
  const see = (what: string, status: number, may: boolean) => {
    if (status < 300 !== may) wrong.push(`token ${index}: ${what} answered ${status}`)
  }
  const self = await api().get('/api/tokens/self', { token: value })
  see('itself', self.status, isLive(world, token) && !isBarred(world, token))
  const metrics = await api().get('/metrics', { token: value })
  see('metrics', metrics.status, can(world, token, 'metrics:read', 'everywhere'))
  for (const fleet of FLEETS) {
    const url = `/api/fleets/${stage.ids[fleet]}`
    const read = await api().get(url, { token: value })
    see(`reading ${fleet}`, read.status, can(world, token, 'robots:read', fleet))
    const write = await api().patch(url, {}, { token: value })
    see(`writing ${fleet}`, write.status, can(world, token, 'robots:write', fleet))
    const tokens = await api().get(`${url}/tokens`, { token: value })
    see(`tokens of ${fleet}`, tokens.status, can(world, token, 'tokens:manage', fleet))
  }
  return wrong
}

test('no sequence of requests lets a token do anything but what the rules say', async () => {
  let done = 0
  let refused = 0
  await fc.assert(
    fc
      .asyncProperty(steps(25, 15), async (sequence) => {
        const world = firstWorld()
        const stage = await setTheStage(world, api())
        for (const [number, step] of sequence.entries()) {
          const status = await carryOut(step, stage)
          const outcome = take(world, step)
          if (status !== undefined) {
            expect(status < 300, `${JSON.stringify(step)} answered ${status}`).toBe(outcome.done)
            expect(status).toBeLessThan(500)
            if (outcome.done) done += 1
            else refused += 1
          }
          expect(stage.tokens).toHaveLength(world.tokens.length)
          expect(await compare(world, stage, number % world.tokens.length)).toEqual([])
        }
        for (const index of world.tokens.keys()) expect(await compare(world, stage, index)).toEqual([])
      })
      .beforeEach(async () => {
        await api().db.pool.query('UPDATE security_settings SET require_second_factor = false')
      }),
    { numRuns: 12, endOnFailure: true },
  )
  // Of 180 steps or more, some of each kind: else nothing was tried.
  expect(done).toBeGreaterThan(5)
  expect(refused).toBeGreaterThan(5)
}, 120_000)
