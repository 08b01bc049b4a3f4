import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { Robot } from './independent/robot.ts'
import { startScene } from './scene.ts'

const ROBOTS = 6

test('a server that comes after one that was killed tells robots how long their return may take, in each of its processes', async () => {
  const scene = await startScene()
  onTestFinished(() => scene.end())
  const [first] = scene.servers
  const key = await scene.operator.key(scene.site, scene.fleet, { max_uses: ROBOTS })
  const robots = await Promise.all(
    Array.from({ length: ROBOTS }, () => Robot.enrol([first!.url], key.key_value, 500)),
  )
  onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
  for (const robot of robots) robot.start()
  await eventually(() => robots.every((robot) => robot.acknowledged.length > 0))
  // Six robots at a thousand a second need no time.
  for (const robot of robots) expect(robot.welcomes[0]).not.toHaveProperty('reconnect_spread_ms')

  await first!.kill9()
  // As if it could take in no more than two of them a second.
  const second = await scene.addServer({
    BEACON_PORT: new URL(first!.url).port,
    BEACON_GATEWAY_PROCESSES: '2',
    BEACON_SESSIONS_PER_SECOND: '2',
  })
  // Half of them to its own port, half to that of the processes.
  for (const robot of robots.slice(ROBOTS / 2))
    robot.goTo([second.gatewayUrl.replace(/^ws(.*)\/agent\/ws$/, 'http$1')])
  for (const some of [robots.slice(0, ROBOTS / 2), robots.slice(ROBOTS / 2)]) {
    const back = await eventually(() => some.find((robot) => robot.welcomes.length > 1), 'one that is back')
    expect(back.welcomes[1]).toMatchObject({ reconnect_spread_ms: (ROBOTS / 2) * 1000 })
  }
}, 60_000)
