import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type BackgroundCommand, beacon, startBeacon } from './beacon-command.ts'
import { type Scene, startScene } from './scene.ts'

let scene: Scene
let home: string
let agent: BackgroundCommand

beforeAll(async () => {
  scene = await startScene()
  home = await mkdtemp(join(tmpdir(), 'beacon-software-'))
})
afterAll(async () => {
  await agent?.kill()
  await rm(home, { recursive: true, force: true })
  await scene?.end()
})

interface Told {
  readonly health: string
  readonly heartbeat: Heartbeat
}
interface Heartbeat {
  readonly metrics?: Record<string, number>
  readonly network?: { readonly rtt_ms?: number }
  readonly faults?: { readonly code: string }[]
}

test('what a robot’s software tells its agent is what operators see, and its events stand on the timeline once', {
  timeout: 120_000,
}, async () => {
  const key = await scene.operator.key(scene.site, scene.fleet)
  const env = { BEACON_CONFIG: join(home, 'agent.toml'), HOME: home }
  const local = async (...args: string[]) => {
    const ran = await beacon(['agent', ...args], { env })
    expect(ran).toMatchObject({ code: 0 })
  }
  const url = scene.servers[0]!.url
  agent = startBeacon(['agent', 'run', '--enrollment-key', key.key_value, '--server', url], env)
  const robots = () => scene.operator.list<{ id: string; health: string; connection: unknown }>('/api/robots')
  await eventually(async () => (await robots()).length === 1 && /connected as/.test(agent.output), 'a robot')
  const { id } = (await robots())[0]!

  await local('metric', 'set', 'arm_load=0.75')
  await local('fault', 'raise', 'no air', '--code', 'gripper')
  await local('event', 'door 3 is open', '--code', 'door', '--data', '{"door":3}')
  const told = () => scene.operator.must<Told>('GET', `/api/robots/${id}`)
  await eventually(async () => (await told()).health === 'error', 'the fault')
  // The way there and back is measured by a ping of the session, and told with the next heartbeat.
  const { heartbeat } = await eventually(async () => {
    const now = await told()
    return now.heartbeat.network?.rtt_ms === undefined ? undefined : now
  }, 'a heartbeat with the round trip')
  expect(heartbeat.metrics).toMatchObject({ arm_load: 0.75 })
  expect(heartbeat.network!.rtt_ms).toBeGreaterThanOrEqual(0)
  expect(heartbeat.faults!.map(({ code }) => code)).toContain('gripper')

  const events = () => scene.operator.list(`/api/robots/${id}/events`)
  const isDoor = (event: unknown) => JSON.stringify(event).includes('door 3 is open')
  await eventually(async () => (await events()).some(isDoor), 'the event')
  await eventually(async () => {
    const { stdout } = await beacon(['agent', 'status', '--json'], { env })
    return JSON.parse(stdout).local.events_waiting === 0
  }, 'the acknowledgement')
  await local('fault', 'clear', 'gripper')
  await eventually(async () => (await told()).health !== 'error', 'the end of the fault')
  expect((await events()).filter(isDoor)).toHaveLength(1)
})
