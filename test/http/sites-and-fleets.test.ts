import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { expectProblem, makeFleet, unique, useApi } from './api.ts'

const api = useApi()

describe('sites', () => {
  test('are created, read, renamed and deleted', async () => {
    const name = unique('Halle Süd 3')
    const created = await api().post('/api/sites', { name })
    expect(created.status).toBe(201)
    expect(created.body).toMatchObject({ name })
    const url = `/api/sites/${created.body.id}`
    expect((await api().get(url)).body).toEqual(created.body)
    const renamed = await api().patch(url, { name: `${name} b` })
    expect(renamed.body).toMatchObject({ id: created.body.id, name: `${name} b` })
    expect((await api().patch(url, {})).body).toMatchObject({ name: `${name} b` })
    const deleted = await api().delete(url)
    expect([deleted.status, deleted.text]).toEqual([204, ''])
    expectProblem(await api().get(url), 404, 'not_found')
    expectProblem(await api().delete(url), 404, 'not_found')
    expectProblem(await api().patch(url, { name }), 404, 'not_found')
  })

  test('have names of their own', async () => {
    const name = unique('site')
    const other = await api().post('/api/sites', { name: unique('site') })
    await api().post('/api/sites', { name })
    expectProblem(await api().post('/api/sites', { name }), 409, 'name_taken')
    expectProblem(await api().patch(`/api/sites/${other.body.id}`, { name }), 409, 'name_taken')
  })

  test('stay while fleets are in them', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    expectProblem(await api().delete(`/api/sites/${site_id}`), 409, 'not_empty')
    expect((await api().delete(`/api/fleets/${fleet_id}`)).status).toBe(204)
    expect((await api().delete(`/api/sites/${site_id}`)).status).toBe(204)
  })

  test('are listed by name, page by page, each once', async () => {
    const prefix = unique('page')
    const names = ['ä', 'b', 'c', 'd', 'e'].map((letter) => `${prefix} ${letter}`)
    for (const name of [...names].reverse()) await api().post('/api/sites', { name })
    const seen: string[] = []
    let cursor = ''
    for (let pages = 0; pages < 50; pages++) {
      const page = await api().get(`/api/sites?limit=2${cursor}`)
      expect(page.body.items.length).toBeLessThanOrEqual(2)
      for (const site of page.body.items) if (site.name.startsWith(prefix)) seen.push(site.name)
      if (page.body.next_cursor === null) break
      cursor = `&cursor=${page.body.next_cursor}`
    }
    expect([...seen].sort()).toEqual([...names].sort())
  })
})

describe('fleets', () => {
  test('belong to a site that exists', async () => {
    const problem = expectProblem(
      await api().post('/api/fleets', { site_id: newId(), name: 'a' }),
      422,
      'unknown_reference',
    )
    expect(problem.errors).toEqual([{ pointer: '/site_id', detail: 'there is no such site' }])
  })

  test('are created, changed and deleted', async () => {
    const { site_id } = await makeFleet(api())
    const created = await api().post('/api/fleets', { site_id, name: 'movers', heartbeat_interval_ms: 2500 })
    expect(created.body).toMatchObject({ site_id, name: 'movers', heartbeat_interval_ms: 2500 })
    const url = `/api/fleets/${created.body.id}`
    expect((await api().patch(url, { name: 'lifters' })).body).toMatchObject({
      name: 'lifters',
      heartbeat_interval_ms: 2500,
    })
    expect((await api().get(url)).body.name).toBe('lifters')
    expect((await api().delete(url)).status).toBe(204)
    expectProblem(await api().get(url), 404, 'not_found')
    expectProblem(await api().patch(url, { name: 'x' }), 404, 'not_found')
  })

  test('tell every server when their interval changes, and only then', async () => {
    const { fleet_id } = await makeFleet(api())
    const url = `/api/fleets/${fleet_id}`
    const before = api().published.length
    await api().patch(url, { name: unique('renamed') })
    expect(api().published.slice(before)).toEqual([])
    await api().patch(url, { heartbeat_interval_ms: 500 })
    await api().patch(url, { heartbeat_interval_ms: null })
    expect(api().published.slice(before)).toEqual([
      { type: 'fleet_changed', fleet_id },
      { type: 'fleet_changed', fleet_id },
    ])
    expect((await api().get(url)).body.heartbeat_interval_ms).toBeNull()
  })

  test('have names of their own within a site', async () => {
    const { site_id } = await makeFleet(api())
    const name = unique('fleet')
    await api().post('/api/fleets', { site_id, name })
    expectProblem(await api().post('/api/fleets', { site_id, name }), 409, 'name_taken')
    const elsewhere = await makeFleet(api())
    expect((await api().post('/api/fleets', { site_id: elsewhere.site_id, name })).status).toBe(201)
  })

  test('stay while robots are in them', async () => {
    const { fleet_id } = await makeFleet(api())
    await api().post('/api/robots', { fleet_id, name: 'r1' })
    expectProblem(await api().delete(`/api/fleets/${fleet_id}`), 409, 'not_empty')
  })

  test('take their enrollment keys with them', async () => {
    const place = await makeFleet(api())
    const key = await api().post('/api/enrollment-keys', { ...place, name: 'k' })
    expect((await api().delete(`/api/fleets/${place.fleet_id}`)).status).toBe(204)
    expectProblem(await api().get(`/api/enrollment-keys/${key.body.id}`), 404, 'not_found')
  })

  test('are listed for one site', async () => {
    const one = await makeFleet(api())
    const two = await makeFleet(api())
    const ids = async (query: string) =>
      (await api().get(`/api/fleets?limit=200${query}`)).body.items.map((fleet: { id: string }) => fleet.id)
    expect(await ids(`&site=${one.site_id}`)).toEqual([one.fleet_id])
    expect(await ids('')).toEqual(expect.arrayContaining([one.fleet_id, two.fleet_id]))
  })

  test.each([499, 3_600_001, 1.5, '1000', true])('refuse the interval %j', async (heartbeat_interval_ms) => {
    const { fleet_id } = await makeFleet(api())
    const answer = await api().patch(`/api/fleets/${fleet_id}`, { heartbeat_interval_ms })
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe('/heartbeat_interval_ms')
  })
})
