import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { expectProblem, type Json, makeRobot, useApi } from './api.ts'

const api = useApi()

/** Stores that a robot said this so many seconds ago, and that it came `lateSeconds` after it was said. */
async function said(robotId: string, secondsAgo: number, body: Json, lateSeconds = 0): Promise<void> {
  await api().db.pool.query(
    `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
     VALUES ($1, now() - make_interval(secs => $2::float8 - $4::float8), now() - make_interval(secs => $2::float8), 1, 1, $3)`,
    [robotId, secondsAgo, JSON.stringify(body), lateSeconds],
  )
}

const hall = (x: number) => ({ frame: 'hall', x, y: 0, theta: 0 })
const trailsOf = async (query: string) => (await api().get(`/api/trails?${query}`)).body.items

describe('trails', () => {
  test('are where robots were in the last minutes, oldest first, whatever order it came in', async () => {
    const [robot, other, silent] = await Promise.all([0, 1, 2].map(() => makeRobot(api())))
    await said(robot.id, 20, { pose: hall(3) })
    await said(robot.id, 280, { pose: hall(1), battery: { charge: 1 } })
    await said(robot.id, 100, { health: 'ok' })
    await said(robot.id, 150, { pose: { lat: 53.5, lon: 10 } }, 140)
    await said(robot.id, 310, { pose: hall(0) })
    await said(robot.id, 400, { pose: hall(-1) }, 390)
    await said(other.id, 10, { pose: hall(7) })
    await said(silent.id, 10, {})
    const items = await trailsOf([robot, other, silent].map(({ id }) => `id=${id}`).join('&'))
    const found = new Map<string, Json>(items.map((item: Json) => [item.robot_id, item.steps]))
    expect([...found.keys()].sort()).toEqual([robot.id, other.id].sort())
    expect(found.get(robot.id).map(({ pose }: Json) => pose)).toEqual([
      hall(1),
      { lat: 53.5, lon: 10 },
      hall(3),
    ])
    const [{ at }] = found.get(other.id)
    expect(Date.now() - Date.parse(at)).toBeGreaterThan(9_000)
    const newest = await trailsOf(`id=${robot.id}&minutes=1`)
    expect(newest[0].steps.map(({ pose }: Json) => pose)).toEqual([hall(3)])
  })

  test('have the newest steps of a robot that says much', async () => {
    const robot = await makeRobot(api())
    await api().db.pool.query(
      `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
       SELECT $1, now() - make_interval(secs => n), now() - make_interval(secs => n), 1, 1000 - n,
         jsonb_build_object('pose', jsonb_build_object('frame', 'hall', 'x', n, 'y', 0, 'theta', 0))
       FROM generate_series(1, 200) AS n`,
      [robot.id],
    )
    const [{ steps }] = await trailsOf(`id=${robot.id}`)
    expect(steps).toHaveLength(120)
    expect([steps[0].pose.x, steps[119].pose.x]).toEqual([120, 1])
  })

  test('of robots that are not there are none', async () => {
    expect(await trailsOf(`id=${newId()}`)).toEqual([])
  })

  test.each([
    '',
    'id=1',
    'id=',
    'minutes=1',
    `id=${newId()}&minutes=6`,
    `id=${newId()}&minutes=0`,
    `id=${newId()}&site=1`,
  ])('are refused for %j', async (query) => {
    expectProblem(await api().get(`/api/trails?${query}`), 400, 'invalid_request')
  })

  test('are of a hundred robots at the most', async () => {
    const ids = (count: number) => Array.from({ length: count }, () => `id=${newId()}`).join('&')
    expect(await trailsOf(ids(100))).toEqual([])
    expectProblem(await api().get(`/api/trails?${ids(101)}`), 400, 'invalid_request')
  })
})
