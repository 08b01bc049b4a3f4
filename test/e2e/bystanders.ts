import { expect } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { Robot } from './independent/robot.ts'
import type { Scene } from './scene.ts'

/** Robots that do their work while others misbehave, and what has to stay as it is for them. */
export interface Bystanders {
  readonly robots: readonly Robot[]
  /** The server still answers, nobody's session was touched, heartbeats are stored, and no row is damaged. */
  areWell(): Promise<void>
  stop(): Promise<void>
}

const COUNT = 3

export async function startBystanders(scene: Scene): Promise<Bystanders> {
  const [server] = scene.servers
  const { key_value } = await scene.operator.key(scene.site, scene.fleet, { name: 'bystanders' })
  const robots: Robot[] = []
  while (robots.length < COUNT) robots.push(await Robot.enrol([server!.url], key_value))
  for (const robot of robots) robot.start()
  await eventually(() => robots.every((robot) => robot.welcomed))
  const rows = async () => {
    const { rows } = await scene.database.pool.query(
      `SELECT (SELECT string_agg(robots::text, ' ' ORDER BY id) FROM robots WHERE id = ANY ($1)) AS robots,
              (SELECT string_agg(sites::text, ' ' ORDER BY id) FROM sites WHERE id = $2) AS sites,
              (SELECT string_agg(fleets::text, ' ' ORDER BY id) FROM fleets WHERE id = $3) AS fleets,
              (SELECT count(*)::int FROM claim_credentials AS key
                WHERE uses <> (SELECT count(*) FROM robots WHERE credential_id = key.id)) AS inexact_keys`,
      [robots.map((robot) => robot.id), scene.site.id, scene.fleet.id],
    )
    return rows[0] as unknown
  }
  const before = await rows()
  const { pid } = server!
  return {
    robots,
    async areWell() {
      expect(server!.hasExited).toBe(false)
      expect(server!.pid).toBe(pid)
      for (const path of ['/healthz', '/readyz', '/api/info'])
        expect((await fetch(`${server!.url}${path}`)).status).toBe(200)
      for (const robot of robots) robot.beat()
      await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))
      for (const robot of robots) {
        expect(robot.closes).toEqual([])
        expect(robot.sessions).toEqual([1])
      }
      expect(await rows()).toEqual(before)
    },
    async stop() {
      await Promise.all(robots.map((robot) => robot.stop()))
    },
  }
}
