import { describe, expect, test } from 'vitest'
import { checked } from '../../agent/check.ts'
import { remembering } from '../../agent/last-errors.ts'
import { placesOf } from '../../agent/places.ts'
import { Pulse } from '../../agent/pulse.ts'
import {
  type AgentStatus,
  identityStatus,
  type LinkStatus,
  NOT_LINKED,
  statusLines,
  withHint,
} from '../../agent/status.ts'
import { ManualClock } from '../support/clock.ts'
import { silentLog } from './support/silent-log.ts'

const connected: LinkStatus = {
  ...NOT_LINKED,
  connection: 'connected',
  lifecycle: 'active',
  heartbeat_interval_ms: 10_000,
  last_ack_age_ms: 35_000,
}
const status = (link: LinkStatus, more: Partial<AgentStatus> = {}) =>
  ({ enrolled: true, running: true, pid: 7, link, ...more }) as AgentStatus

describe('an agent is', () => {
  test('ready up to the moment when the server would take it for offline', () => {
    expect(checked('ready', status(connected))).toMatchObject({ passed: true })
    expect(checked('ready', status({ ...connected, last_ack_age_ms: 35_001 }))).toMatchObject({
      passed: false,
      because: expect.stringMatching(/35 s ago, 35 s are allowed/),
    })
  })

  test.each([
    [status(connected, { running: false }), /no agent runs/],
    [status(connected, { enrolled: false }), /not enrolled/],
    [status({ ...connected, connection: 'waiting', last_error: 'no route' }), /not connected: no route/],
    [status({ ...connected, connection: 'connecting' }), /not connected, but connecting/],
    [status({ ...connected, lifecycle: 'pending' }), /yet to approve/],
    [status({ ...connected, last_ack_age_ms: null }), /nothing was acknowledged/],
  ])('not ready, and why: %#', (of, because) => {
    const result = checked('ready', of)
    expect(result.passed).toBe(false)
    expect(result.because).toMatch(because)
  })

  test('live whenever it answers', () => {
    expect(checked('live', status(NOT_LINKED, { enrolled: false })).passed).toBe(true)
    expect(checked('live', status(NOT_LINKED, { running: false })).passed).toBe(false)
  })
})

test('the last warnings are kept, the newest first, without secrets, and repeated ones once', () => {
  const clock = new ManualClock()
  const { log, lastErrors } = remembering(silentLog, clock)
  log.info('fine')
  for (let number = 0; number < 20; number++) log.warn(`problem ${number}`)
  clock.advance(1_000)
  log.error(`bad key rf_enroll_${'5a'.repeat(32)}`)
  log.error(`bad key rf_enroll_${'5a'.repeat(32)}`)
  expect(lastErrors()).toHaveLength(8)
  expect(lastErrors()[0]).toEqual({
    at: '2026-01-01T00:00:01.000Z',
    times: 2,
    sentence: 'bad key rf_enroll_…',
  })
  expect(lastErrors()[1]!.sentence).toBe('problem 19')
})

test('a pulse whose beat does not come to its end is stuck, until it does', async () => {
  const clock = new ManualClock()
  let finish = () => {}
  const pulse = new Pulse(clock, 10_000, () => new Promise((resolve) => (finish = resolve)))
  pulse.start()
  await clock.pass(90_000, 1_000)
  expect(pulse.isStuck).toBe(false)
  await clock.pass(1_000)
  expect(pulse.isStuck).toBe(true)
  finish()
  await clock.pass(1_000)
  expect(pulse.isStuck).toBe(false)
  pulse.stop()
  await clock.pass(200_000)
  expect(pulse.isStuck).toBe(false)
})

describe("the service's identity", () => {
  const root = { config: undefined, env: {}, isRoot: true, accountHome: '/root' }

  test("is root's usual one where the service is installed, and the machine's own", () => {
    const places = placesOf({ ...root, hasService: true })
    expect(places.config).toMatch(/beacon\/agent\.toml$/)
    expect(places).toMatchObject({ isCustom: false, stem: 'agent.toml' })
    expect(places.stateDir).toMatch(/^\/var\/lib\//)
    expect(placesOf(root).config).toBe('/etc/beacon/agent.toml')
  })

  test('is no other robot to the service itself, which has a user of its own', () => {
    for (const config of ['/var/lib/beacon/agent.toml', '/var/lib/private/beacon/agent.toml'])
      expect(placesOf({ ...root, isRoot: false, accountHome: '/', config }).isCustom).toBe(false)
    expect(placesOf({ ...root, config: '/srv/agent.toml', hasService: true }).isCustom).toBe(true)
  })
})

test('whoever is not root and has no agent is told of the service, and only then', () => {
  const none: AgentStatus = { ...identityStatus(undefined), running: false, config: '/home/u/agent.toml' }
  const other = { isRoot: false, isNamed: false, hasService: true }
  const hinted = withHint(none, other)
  expect(statusLines(hinted).join('\n')).toMatch(
    /note: +this machine's agent is a service.*sudo beacon agent status/,
  )
  expect(checked('live', hinted)).toMatchObject({ passed: false, because: expect.stringContaining('sudo') })
  expect(checked('ready', hinted)).toMatchObject({ passed: false, because: expect.stringContaining('sudo') })
  for (const [status, asker] of [
    [none, { ...other, isRoot: true }],
    [none, { ...other, isNamed: true }],
    [none, { ...other, hasService: false }],
    [{ ...none, running: true }, other],
    [{ ...none, enrolled: true }, other],
  ] as const)
    expect(withHint(status, asker)).toBe(status)
})
