import { describe, expect, test } from 'vitest'
import { expectProblem, unique, useApi } from './api.ts'

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
})
