import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FLEET_TOKEN_SCOPES } from '../../src/access/scopes.ts'
import { insertFleetToken } from '../support/access.ts'
import { type Api, type Json, makeFleet, startApi, useApi } from './api.ts'

const api = useApi()
const PATH = '/api/prometheus/sd'

async function addRobots(api: Api, count: number, lifecycle = 'active') {
  const fleet = await makeFleet(api)
  await api.db.pool.query(
    `INSERT INTO robots (id, site_id, fleet_id, name, lifecycle, retired_at)
     SELECT gen_random_uuid(), $1, $2, 'r' || n, $4, CASE WHEN $4 = 'retired' THEN now() END FROM generate_series(1, $3::int) n`,
    [fleet.site_id, fleet.fleet_id, count, lifecycle],
  )
  return fleet
}

const shardsOf = (body: Json) => body.filter(({ labels }: Json) => labels.__param_shard !== undefined).length

test('names the address that it was asked at, as Prometheus wants it', async () => {
  const { status, headers, body } = await api().get(PATH, { headers: { host: 'beacon.lan:8080' } })
  expect(status).toBe(200)
  expect(headers['content-type']).toMatch(/^application\/json(; charset=utf-8)?$/)
  expect(body).toEqual([
    {
      targets: ['beacon.lan:8080'],
      labels: {
        instance: 'beacon.lan:8080',
        __scheme__: 'http',
        __metrics_path__: '/metrics',
        __meta_beacon_target: 'server',
      },
    },
    {
      targets: ['beacon.lan:8080'],
      labels: {
        instance: 'beacon.lan:8080/robots/0-of-1',
        __scheme__: 'http',
        __metrics_path__: '/metrics/robots',
        __param_shard: '0',
        __param_shards: '1',
        __meta_beacon_target: 'robots',
      },
    },
  ])
})

describe('behind an address that people configured', () => {
  let other: Api
  beforeAll(async () => {
    const { config } = api().parts
    other = await startApi({ config: { ...config, publicUrl: 'https://beacon.example.com' } })
  })
  afterAll(() => other.close())

  test('names that one, whatever the request says', async () => {
    const { body } = await other.get(`${PATH}?shards=2`, { headers: { host: 'evil.example' } })
    expect(body.map(({ targets }: Json) => targets)).toEqual(Array(3).fill(['beacon.example.com']))
    expect(new Set(body.map(({ labels }: Json) => labels.__scheme__))).toEqual(new Set(['https']))
    expect(new Set(body.map(({ labels }: Json) => labels.instance)).size).toBe(3)
  })
})

test('tells one kind of target where that is asked for', async () => {
  const kinds = async (query: string) =>
    (await api().get(`${PATH}${query}`)).body.map(({ labels }: Json) => labels.__meta_beacon_target)
  expect(await kinds('?targets=server')).toEqual(['server'])
  expect(await kinds('?targets=robots&shards=3')).toEqual(['robots', 'robots', 'robots'])
  expect(await kinds('?targets=all&shards=1')).toEqual(['server', 'robots'])
})

test.each(['shards=0', 'shards=1025', 'shards=two', 'targets=nothing', 'unknown=1'])(
  'refuses %s',
  async (query) => {
    expect(await api().get(`${PATH}?${query}`)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    })
  },
)

test('splits robots in reach into powers of two of at most 2,500, without the retired', async () => {
  await addRobots(api(), 3_000, 'retired')
  const { fleet_id } = await addRobots(api(), 2_500)
  const { token } = await insertFleetToken(api().db.database, fleet_id, { scopes: [...FLEET_TOKEN_SCOPES] })
  const asked = async (more: { token?: string } = {}) => (await api().get(PATH, more)).body
  expect(shardsOf(await asked({ token }))).toBe(1)
  await addRobots(api(), 2_600)
  expect(shardsOf(await asked())).toBe(4)
  // Neither what others have nor the series of the whole deployment are told of.
  const own = await asked({ token })
  expect(shardsOf(own)).toBe(1)
  expect(own.map(({ labels }: Json) => labels.__metrics_path__)).toEqual(['/metrics/robots'])
  expect((await api().get(`${PATH}?targets=server`, { token })).body).toEqual([])
  const [{ labels }] = own
  const scrape = await api().get(
    `${labels.__metrics_path__}?shard=${labels.__param_shard}&shards=${labels.__param_shards}`,
    { token },
  )
  expect(scrape.text.match(/^beacon_robot_info/gm)).toHaveLength(2_500)
})
