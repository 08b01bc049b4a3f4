import { describe, expect, test } from 'vitest'
import { conditionOf } from '../../../agent/service/condition.ts'
import {
  type Condition,
  type Notifier,
  READY_AT_LATEST_MS,
  startNotifying,
} from '../../../agent/service/notify.ts'
import { type AgentStatus, type LinkStatus, NOT_LINKED } from '../../../agent/status.ts'
import { ManualClock } from '../../support/clock.ts'
import { eventually } from '../../support/eventually.ts'
import { Recorder } from '../support/recorder.ts'

/** A notifier before a service manager that writes down what it hears. */
class Managed {
  readonly clock = new ManualClock()
  readonly manager = new Recorder()
  readonly warnings: string[] = []
  condition: Condition = { sentence: 'Connecting', hasArrived: false, isWell: true }
  notifier: Notifier | undefined

  start(env: Record<string, string> = {}, script = 'printf "%s" "$NOTIFY_SOCKET" > /dev/null'): this {
    if (script !== 'absent') this.manager.add('systemd-notify', script)
    const log = (sentence: string) => void this.warnings.push(sentence)
    this.notifier = startNotifying({
      env: { PATH: this.manager.path, NOTIFY_SOCKET: '@/org/freedesktop/notify', ...env },
      clock: this.clock,
      log: { debug: log, info: log, warn: log, error: log },
      look: () => this.condition,
    })
    return this
  }

  /** What was heard so far. */
  get heard(): string[] {
    return this.manager.calls.map((call) => call.replace('systemd-notify -- ', ''))
  }

  count(message: string): number {
    return this.heard.filter((call) => call.includes(message)).length
  }

  /** Waits for this many calls; time stands still meanwhile. */
  async calls(count: number): Promise<string[]> {
    await eventually(() => this.heard.length >= count, `call ${count}`)
    return this.heard
  }

  /** Moves time by seconds, until `isSo`; a call takes as long as it takes. */
  async until(isSo: () => boolean, what: string): Promise<void> {
    await eventually(() => {
      if (isSo()) return true
      this.clock.advance(1_000)
      return false
    }, what)
  }
}

describe('what the service manager is told', () => {
  test('ready with the first acknowledgement', async () => {
    const managed = new Managed().start()
    expect(await managed.calls(1)).toEqual(['STATUS=Connecting'])
    await managed.until(() => managed.clock.monotonic() >= 20_000, '20 s')
    expect(managed.count('READY=1')).toBe(0)
    managed.condition = { sentence: 'Connected as ada', hasArrived: true, isWell: true }
    // However long the program before takes, it is not ready for being late.
    const monotonic = managed.clock.monotonic.bind(managed.clock)
    managed.clock.monotonic = () => Math.min(monotonic(), READY_AT_LATEST_MS - 1)
    await managed.until(() => managed.count('READY=1') > 0, 'ready')
    expect(managed.heard).toEqual(['STATUS=Connecting', 'READY=1 STATUS=Connected as ada'])
  })

  test('ready after a minute without network, and only once', async () => {
    const managed = new Managed().start()
    await managed.calls(1)
    await managed.until(() => managed.count('READY=1') > 0, 'ready')
    expect(managed.clock.monotonic()).toBeGreaterThanOrEqual(READY_AT_LATEST_MS)
    const until = managed.clock.monotonic() + 120_000
    await managed.until(() => managed.clock.monotonic() > until, 'two minutes more')
    expect(managed.count('READY=1')).toBe(1)
  })

  test('a sign of life three times in each watchdog, and no program without need', async () => {
    const managed = new Managed().start({ WATCHDOG_USEC: '180000000', WATCHDOG_PID: String(process.pid) })
    managed.condition = { ...managed.condition, hasArrived: true }
    for (let signs = 1; signs <= 5; signs++) {
      await managed.until(() => managed.count('WATCHDOG=1') >= signs, `sign of life ${signs}`)
      expect(managed.count('WATCHDOG=1')).toBe(signs)
      expect(managed.clock.monotonic()).toBeGreaterThanOrEqual(signs * 60_000)
    }
    expect(managed.heard.length).toBeLessThanOrEqual(7)
  })

  test('no sign of life from one that does not do its work; ready neither', async () => {
    const managed = new Managed().start({ WATCHDOG_USEC: '180000000' })
    managed.condition = { sentence: 'Stuck', hasArrived: true, isWell: false }
    await managed.until(() => managed.clock.monotonic() >= 600_000, 'ten minutes')
    expect(managed.count('WATCHDOG=1') + managed.count('READY=1')).toBe(0)
    expect(managed.warnings.join()).toMatch(/given no sign of life/)
    managed.condition = { ...managed.condition, isWell: true }
    await managed.until(() => managed.count('WATCHDOG=1') > 0, 'a sign of life')
  })

  test('a watchdog that is meant for another process is none of ours', async () => {
    const managed = new Managed().start({ WATCHDOG_USEC: '180000000', WATCHDOG_PID: '1' })
    await managed.until(() => managed.clock.monotonic() >= 600_000, 'ten minutes')
    expect(managed.count('WATCHDOG=1')).toBe(0)
  })

  test('sentences that change all the time cost a program every 15 s', async () => {
    const managed = new Managed().start()
    await managed.calls(1)
    for (let second = 0; second < 50; second++) {
      managed.condition = { ...managed.condition, sentence: `Sentence ${second}` }
      await managed.clock.pass(1_000)
    }
    expect(managed.heard.length).toBeLessThanOrEqual(4)
    await managed.until(() => managed.heard.at(-1)!.endsWith('STATUS=Sentence 49'), 'the last')
  })

  test('one line, whatever a sentence holds', async () => {
    const managed = new Managed()
    managed.condition = { sentence: 'No\nREADY=1\u0007', hasArrived: false, isWell: true }
    expect(await managed.start().calls(1)).toEqual(['STATUS=No READY=1 '])
  })

  test('that it ends, and why, and nothing after that', async () => {
    const managed = new Managed().start()
    await managed.notifier!.stopping('The token was revoked')
    expect(managed.heard).toEqual(['STATUS=Connecting', 'STOPPING=1 STATUS=The token was revoked'])
    managed.condition = { ...managed.condition, hasArrived: true }
    await managed.clock.pass(120_000, 1_000)
    expect(managed.clock.pending).toBe(0)
    expect(managed.heard).toHaveLength(2)
  })
})

describe('where it cannot be told', () => {
  test('nobody asks: no program, no timer', async () => {
    const managed = new Managed().start({ NOTIFY_SOCKET: '' })
    await managed.notifier!.stopping('Stopping')
    expect(managed.clock.pending).toBe(0)
    expect(managed.heard).toEqual([])
  })

  test('systemd-notify is not there: said once', async () => {
    const managed = new Managed().start({}, 'absent')
    await eventually(() => managed.warnings.length > 0, 'a warning')
    await managed.clock.pass(600_000, 1_000)
    expect(managed.warnings).toEqual([expect.stringMatching(/the program systemd-notify is not there/)])
    await managed.notifier!.stopping('Stopping')
  })

  test('it fails for a while: told again until it is heard, and complained of once', async () => {
    const managed = new Managed()
    const gate = `${managed.manager.folder}/open`
    managed.start({}, `[ -e ${gate} ] || { echo "Connection refused" >&2; exit 1; }`)
    managed.condition = { sentence: 'Connected', hasArrived: true, isWell: true }
    await managed.until(() => managed.heard.length >= 3, 'three attempts')
    expect(managed.warnings).toEqual([expect.stringMatching(/Connection refused/)])
    managed.manager.open('open')
    const before = managed.heard.length
    await managed.until(() => managed.heard.length > before, 'one that is heard')
    expect(managed.heard.at(-1)).toBe('READY=1 STATUS=Connected')
    const heard = managed.heard.length
    await managed.clock.pass(120_000, 1_000)
    expect(managed.heard.length - heard).toBeLessThanOrEqual(1)
  })
})

describe('how an agent does, in one sentence', () => {
  const status = (link: Partial<LinkStatus> | undefined, enrolled = true) =>
    ({ enrolled, name: 'ada', link: link && { ...NOT_LINKED, ...link } }) as AgentStatus
  const acknowledged = '2026-01-01T00:00:00.000Z'

  test.each([
    [status(NOT_LINKED, false), 'Enrolling this robot', false],
    [status({ connection: 'connecting' }), 'Connecting as ada', false],
    [status({ connection: 'waiting', last_error: 'no route' }), 'Not connected: no route', false],
    [
      status({ connection: 'connected', session_no: 4, lifecycle: 'active' }),
      'Connected as ada, session 4; nothing was acknowledged yet',
      false,
    ],
    [
      status({ connection: 'connected', session_no: 4, lifecycle: 'active', last_ack_at: acknowledged }),
      'Connected as ada, session 4',
      true,
    ],
    [
      status({ connection: 'connected', lifecycle: 'pending' }),
      'Connected; an operator has yet to approve ada',
      true,
    ],
  ])('%#', (of, sentence, hasArrived) => {
    expect(conditionOf(of, true)).toEqual({ sentence, hasArrived, isWell: true })
  })
})
