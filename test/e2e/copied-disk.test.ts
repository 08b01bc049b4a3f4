import { randomBytes } from 'node:crypto'
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { parseState } from '../../agent/state.ts'
import { AgentProcess, temporaryFolder } from '../agent/support/agent-process.ts'
import { eventually } from '../support/eventually.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const OTHER_MACHINE = join(import.meta.dirname, '../support/other-machine.mjs')
const newMachineId = () => randomBytes(16).toString('hex')

/** A disk with a robot's identity on it, in the usual place, and a machine that it is in. */
class Disk {
  readonly home: string
  readonly machineId: string

  constructor(machineId: string, home = temporaryFolder()) {
    this.machineId = machineId
    this.home = home
  }

  /** All that is on it, in this machine or another; sockets stay behind, as with every way to copy a disk. */
  copy(machineId = this.machineId): Disk {
    const home = temporaryFolder()
    cpSync(this.home, home, { recursive: true, filter: (path) => !path.endsWith('.sock') })
    return new Disk(machineId, home)
  }

  start(...args: readonly string[]): AgentProcess {
    const agent = new AgentProcess(['run', ...args], {
      HOME: this.home,
      TEST_MACHINE_ID: this.machineId,
      NODE_OPTIONS: `--import=${OTHER_MACHINE}`,
    })
    onTestFinished(async () => {
      agent.kill('SIGKILL')
      await agent.exited
    })
    return agent
  }

  get robotId(): string {
    return parseState(readFileSync(join(this.home, '.config/roboflare/agent.toml'), 'utf8')).identity!.robotId
  }
}

type CloneEvent = { readonly level: string; readonly message: string; readonly data: Record<string, unknown> }

describe.each(['alert', 'quarantine_newcomer'] as const)(
  'a copied disk, where the policy is %s',
  (policy) => {
    let scene: Scene
    let server: string
    beforeAll(async () => {
      scene = await startScene({ env: { BEACON_CLONE_POLICY: policy } })
      server = scene.servers[0]!.url
    })
    afterAll(() => scene?.end())

    const robotAt = (id: string) => scene.operator.robot(id)
    const stored = (id: string) => storedHeartbeats(scene.database.pool, id)
    const sessionOf = async (id: string) => {
      const { rows } = await scene.database.pool.query(
        'SELECT session_no::int FROM robot_status WHERE robot_id = $1',
        [id],
      )
      return rows[0]?.session_no as number
    }
    const clonesOf = async (id: string) => {
      const { items } = await scene.operator.must<{ items: CloneEvent[] }>(
        'GET',
        `/api/robots/${id}/events?code=clone_suspected`,
      )
      return items
    }
    const suspicions = async () => {
      const response = await fetch(`${server}/metrics`, {
        headers: { authorization: `Bearer ${scene.adminToken}` },
      })
      const lines = (await response.text())
        .split('\n')
        .filter((line) => line.startsWith('beacon_clones_suspected_total'))
      return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    }

    /** Waits until heartbeats of the session that is open now are stored. */
    async function beats(id: string, agent: AgentProcess): Promise<void> {
      await agent.says(/connected as/)
      const before = (await stored(id)).length
      await eventually(async () => (await stored(id)).length >= before + 2)
    }

    /** A robot that has held a session, and is off. */
    async function enrolled(): Promise<{ disk: Disk; id: string }> {
      const { key_value } = await scene.operator.key(scene.site, scene.fleet)
      const disk = new Disk(newMachineId())
      const agent = disk.start('--enrollment-key', key_value, '--server', server)
      await agent.says(/connected as/)
      const id = disk.robotId
      await beats(id, agent)
      expect(await agent.stop()).toBe(0)
      return { disk, id }
    }

    test('in another machine stops with 5, before the control plane hears of it', async () => {
      const { disk, id } = await enrolled()
      const original = disk.start()
      await beats(id, original)
      const session = await sessionOf(id)
      const copy = disk.copy(newMachineId()).start()
      expect(await copy.exited).toBe(5)
      expect(copy.logText).toMatch(/bound to another machine.*"beacon agent forget".*--adopt/)
      await beats(id, original)
      expect(await sessionOf(id)).toBe(session)
      expect(await robotAt(id)).toMatchObject({ connection: 'online' })
      expect(await clonesOf(id)).toEqual([])
      expect(await original.stop()).toBe(0)
    })

    test('taken over by another machine all the same is told to the operator', async () => {
      const { disk, id } = await enrolled()
      const original = disk.start()
      await beats(id, original)
      const session = await sessionOf(id)
      const before = await suspicions()
      const copy = disk.copy(newMachineId()).start('--adopt')
      await copy.says(/is bound to this one from now on \(--adopt\)/)
      await expectVerdict({ id, session, original, copy })
      const [event] = await clonesOf(id)
      expect(event!.data).toMatchObject({
        reason: 'other_machine',
        quarantined: policy === 'quarantine_newcomer',
      })
      expect(await suspicions()).toBe(before + 1)
    })

    test('in a machine with the same id is found by the sessions that it missed', async () => {
      const { disk, id } = await enrolled()
      const copied = disk.copy()
      const again = disk.start()
      await beats(id, again)
      expect(await again.stop()).toBe(0)
      const original = disk.start()
      await beats(id, original)
      expect(await clonesOf(id)).toEqual([])
      const session = await sessionOf(id)
      const copy = copied.start()
      await expectVerdict({ id, session, original, copy })
      const [event] = await clonesOf(id)
      expect(event!.data).toMatchObject({
        reason: 'old_session_count',
        quarantined: policy === 'quarantine_newcomer',
        last_session_no: 1,
        expected_session_no: 3,
      })
    })

    test('is believed once where a power cut may have cost it one session', async () => {
      const { disk, id } = await enrolled()
      const before = disk.copy()
      const lost = disk.start()
      await beats(id, lost)
      lost.kill('SIGKILL')
      await lost.exited
      // The power went before the count of that session was on the disk.
      const agent = before.start()
      await beats(id, agent)
      expect(await clonesOf(id)).toEqual([])
      expect(await agent.stop()).toBe(0)
    })

    interface Two {
      readonly id: string
      /** In which the original was when the copy came. */
      readonly session: number
      readonly original: AgentProcess
      readonly copy: AgentProcess
    }

    /** What the policy says of the two, and what an operator sees of it. */
    async function expectVerdict({ id, session, original, copy }: Two): Promise<void> {
      if (policy === 'alert') {
        // The newer one takes the place, as ever.
        expect(await original.exited).toBe(5)
        expect(original.logText).toMatch(/closed for good \(4510 .*another agent connected as this robot/)
        await beats(id, copy)
        expect(await sessionOf(id)).toBe(session + 1)
      } else {
        expect(await copy.exited).toBe(3)
        expect(copy.logText).toMatch(/closed for good \(4511 .*quarantined\. Ask an operator/)
        await beats(id, original)
        expect(await sessionOf(id)).toBe(session)
      }
      expect(await robotAt(id)).toMatchObject({ connection: 'online' })
      const events = await eventually(async () => {
        const found = await clonesOf(id)
        return found.length > 0 ? found : undefined
      })
      expect(events).toHaveLength(1)
      expect(events[0]!.data).toMatchObject({
        hostname: expect.any(String),
        address: expect.stringMatching(/127\.0\.0\.1|::1/),
      })
      expect(events[0]!.level).toMatch(/warn|error/)
      expect(await (policy === 'alert' ? copy : original).stop()).toBe(0)
    }
  },
)
