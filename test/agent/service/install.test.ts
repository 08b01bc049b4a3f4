import {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { AgentExit } from '../../../agent/exit.ts'
import { takeLock } from '../../../agent/lock.ts'
import { systemClock, systemRandom } from '../../../agent/runtime.ts'
import {
  type InstallFlags,
  installService,
  type UninstallFlags,
  uninstallService,
} from '../../../agent/service/command.ts'
import { runIn, type ServiceHost } from '../../../agent/service/host.ts'
import { EMPTY_STATE, renderState } from '../../../agent/state.ts'
import { mintCheckedToken } from '../../../src/protocol/tokens.ts'
import { KEY, placesAt, temporaryFolder } from '../support/agent-process.ts'
import { Recorder } from '../support/recorder.ts'

const UNIT = '/etc/systemd/system/beacon-agent.service'
const CONFIG = '/var/lib/beacon/agent.toml'
const HANDED_OVER = `${CONFIG}.enrollment-key`
const SETUP_TOKEN = `rf_setup_${'a2'.repeat(27)}b`

interface MachineOptions {
  readonly uid?: number
  readonly isRunning?: boolean
  readonly version?: number | null
  readonly env?: Record<string, string>
}

/** A machine in a folder: its systemd is a program that writes down what it is asked. */
class TestMachine {
  readonly root = temporaryFolder()
  readonly programs = new Recorder()
  readonly #options: MachineOptions
  answers = ''

  constructor(options: MachineOptions = {}) {
    this.#options = options
    const { version = 254 } = options
    this.programs.add('loginctl')
    if (version !== null)
      this.programs.add('systemctl', `[ "$1" != --version ] || echo "systemd ${version} (${version}-1)"`)
    this.write('/usr/bin/systemd-notify', '', 0o755)
    this.write('/etc/group', 'root:x:0:\nbeacon-robot:x:990:\n')
    this.write('/opt/beacon/node', '', 0o755)
    this.write('/opt/beacon/agent.mjs', '')
  }

  get host(): ServiceHost {
    const { uid = 0, isRunning = true, env = {} } = this.#options
    const all = { PATH: `${this.programs.path}:/usr/bin:/bin`, HOME: '/home/ada', ...env }
    return {
      root: this.root,
      uid,
      home: '/home/ada',
      env: all,
      isRunningSystemd: () => isRunning,
      run: (command) =>
        runIn({ ...all, PATH: this.programs.path + (command[0] === 'systemctl' ? '' : ':/bin') }, command),
    }
  }

  /** What systemd was told, without the questions. */
  get told(): string[] {
    return this.programs.calls.filter((call) => !call.includes('--version') && !call.includes('--help'))
  }

  install(flags: InstallFlags, input = ''): Promise<void> {
    return installService(flags, { ...this.#parts, program: this.program, readInput: () => input })
  }

  uninstall(flags: UninstallFlags): Promise<void> {
    return uninstallService(flags, this.#parts)
  }

  program: string[] = ['/opt/beacon/node', '/opt/beacon/agent.mjs']

  at(path: string): string {
    return join(this.root, path)
  }

  has(path: string): boolean {
    return existsSync(this.at(path))
  }

  read(path: string): string {
    return readFileSync(this.at(path), 'utf8')
  }

  mode(path: string): number {
    return statSync(this.at(path)).mode & 0o777
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(this.at(path)), { recursive: true })
    writeFileSync(this.at(path), text, { mode })
  }

  get #parts() {
    const answers = {
      isTerminal: false,
      write: (text: string) => {
        this.answers += text
      },
    }
    return { host: this.host, clock: systemClock, answers }
  }
}

const enrolledState = renderState({
  ...EMPTY_STATE,
  identity: {
    server: 'https://beacon.example',
    robotId: 'r1',
    name: 'ada',
    siteId: 's1',
    fleetId: 'f1',
    gatewayUrl: 'wss://beacon.example/agent/ws',
    heartbeatIntervalMs: 10_000,
    robotToken: mintCheckedToken('robot', systemRandom.bytes),
    machineId: undefined,
  },
})

describe('install, as the service of the machine', () => {
  test('writes the unit, its settings and the key, and starts it', async () => {
    const machine = new TestMachine()
    await machine.install(
      { server: 'https://beacon.example/', name: 'Ada 1', enrollmentKeyFile: '-' },
      `${KEY}\n`,
    )
    expect(machine.read(UNIT)).toContain('ExecStart=/opt/beacon/node /opt/beacon/agent.mjs run\n')
    expect(machine.read(UNIT)).toContain('RestartMaxDelaySec=5min')
    expect(machine.mode(UNIT)).toBe(0o644)
    expect(machine.read('/etc/beacon/agent.env')).toContain(
      'BEACON_SERVER=https://beacon.example\nBEACON_NAME="Ada 1"',
    )
    expect(machine.read(HANDED_OVER)).toBe(`${KEY}\n`)
    expect(machine.mode(HANDED_OVER)).toBe(0o600)
    expect(machine.mode(dirname(CONFIG))).toBe(0o700)
    expect(machine.told).toEqual([
      'systemctl daemon-reload',
      'systemctl enable beacon-agent.service',
      'systemctl --no-block restart beacon-agent.service',
    ])
  })

  test('shows the key to nobody: not in the unit, not in what it says, not to a program', async () => {
    for (const json of [true, false])
      for (const dryRun of [true, false]) {
        const machine = new TestMachine()
        await machine.install({ enrollmentKeyFile: '-', json, dryRun }, KEY)
        const seen = [machine.answers, ...machine.programs.calls, dryRun ? '' : machine.read(UNIT)].join('\n')
        expect(seen).toContain(HANDED_OVER)
        expect(seen).not.toContain(KEY.slice(12))
      }
  })

  test('done again, it updates: what a person set stays, what is the same is left alone', async () => {
    const machine = new TestMachine()
    await machine.install({ server: 'https://one.example', enrollmentKeyFile: '-' }, KEY)
    machine.write(
      '/etc/beacon/agent.env',
      `${machine.read('/etc/beacon/agent.env')}HTTPS_PROXY=http://proxy:3128\n`,
      0o600,
    )
    machine.program = ['/opt/beacon/node', '/opt/beacon/agent.mjs', 'agent']
    machine.answers = ''
    await machine.install({ json: true })
    const told = JSON.parse(machine.answers)
    const outcome = Object.fromEntries(
      told.steps.map((step: { what: string; changed: boolean }) => [step.what, step.changed]),
    )
    expect(outcome).toMatchObject({ [UNIT]: true, '/etc/beacon/agent.env': false })
    expect(machine.read('/etc/beacon/agent.env')).toMatch(/one\.example[\s\S]*proxy:3128/)
    expect(machine.read(UNIT)).toContain('agent.mjs agent run')
    expect(machine.read(HANDED_OVER)).toBe(`${KEY}\n`)
    expect(machine.told.at(-1)).toBe('systemctl --no-block restart beacon-agent.service')
  })

  test('the credential that was given last is the one that counts', async () => {
    const machine = new TestMachine()
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    machine.write('/root/token', `${SETUP_TOKEN}\n`)
    await machine.install({ setupTokenFile: machine.at('/root/token') })
    expect(machine.read(`${CONFIG}.setup-token`)).toBe(`${SETUP_TOKEN}\n`)
    expect(machine.has(HANDED_OVER)).toBe(false)
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.has(`${CONFIG}.setup-token`)).toBe(false)
  })

  test('without a key it is not started, and says what is missing', async () => {
    const machine = new TestMachine()
    await machine.install({ server: 'https://beacon.example' })
    expect(machine.told).not.toContain('systemctl --no-block restart beacon-agent.service')
    expect(machine.answers).toMatch(/next: give it a key/)
    await machine.install({ server: 'https://beacon.example', set: ['BEACON_ENROLLMENT_KEY_FILE=/etc/key'] })
    expect(machine.told).toContain('systemctl --no-block restart beacon-agent.service')
  })

  test('takes over the identity of an agent that root ran by hand', async () => {
    const machine = new TestMachine()
    machine.write('/etc/beacon/agent.toml', enrolledState, 0o600)
    machine.write('/etc/beacon/agent.toml.bak', 'state = "enrolled"', 0o600)
    await machine.install({})
    expect(machine.read(CONFIG)).toBe(enrolledState)
    expect(machine.mode(CONFIG)).toBe(0o600)
    expect(machine.has(`${CONFIG}.bak`)).toBe(true)
    expect(machine.told.at(-1), 'needs no key').toMatch(/restart/)
    expect(machine.has('/etc/beacon/agent.toml')).toBe(false)
    expect(machine.has('/etc/beacon/agent.toml.bak')).toBe(false)
  })

  test('but not while that agent runs', async () => {
    const machine = new TestMachine()
    machine.write('/etc/beacon/agent.toml', enrolledState, 0o600)
    const places = {
      ...placesAt(machine.at('/etc/beacon/agent.toml')),
      stateDir: machine.at('/var/lib/beacon'),
    }
    const lock = (await takeLock(places, systemClock, systemRandom))!
    await expect(machine.install({})).rejects.toMatchObject({ exitCode: 5 })
    lock.release()
    expect(machine.has(UNIT)).toBe(false)
    await machine.install({})
    expect(machine.has(UNIT)).toBe(true)
  })

  test('a link that lies in the place of the key is replaced, not followed', async () => {
    const machine = new TestMachine()
    machine.write('/etc/shadow', 'root:*')
    mkdirSync(machine.at('/var/lib/beacon'), { recursive: true })
    symlinkSync(machine.at('/etc/shadow'), machine.at(HANDED_OVER))
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.read('/etc/shadow')).toBe('root:*')
    expect(machine.read(HANDED_OVER)).toBe(`${KEY}\n`)
  })

  test('a systemd that refuses is told of, with its own words', async () => {
    const machine = new TestMachine()
    machine.programs.add('systemctl', '[ "$1" != enable ] || { echo "Unit is masked." >&2; exit 1; }')
    await expect(machine.install({ enrollmentKeyFile: '-' }, KEY)).rejects.toThrow(
      '"systemctl enable beacon-agent.service" failed: Unit is masked.',
    )
  })

  test('makes the group of those who may use the local socket, where groups can be made', async () => {
    const machine = new TestMachine()
    machine.write('/etc/group', 'root:x:0:\n')
    machine.programs.add('groupadd')
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.told[0]).toBe(`groupadd --system --prefix ${machine.root} beacon-robot`)
    expect(machine.read(UNIT)).toContain('Group=beacon-robot')
  })
})

describe('install where things are not as usual', () => {
  test('no systemd runs: all is written, linked for the next boot, and said', async () => {
    const machine = new TestMachine({ isRunning: false })
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.told).toEqual([])
    const link = '/etc/systemd/system/multi-user.target.wants/beacon-agent.service'
    expect(readlinkSync(machine.at(link))).toBe('../beacon-agent.service')
    expect(machine.read(link)).toBe(machine.read(UNIT))
    expect(machine.answers).toMatch(/starts when this system is booted/)
    machine.answers = ''
    await machine.install({})
    expect(machine.answers).toMatch(/nothing is to be done/)
  })

  test('there is no systemctl at all', async () => {
    const machine = new TestMachine({ isRunning: false, version: null })
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.read(UNIT)).toContain('Type=notify')
    expect(machine.answers).toMatch(/systemctl is not there/)
  })

  test('an old systemd: no watchdog that would kill a healthy agent, and that is said', async () => {
    const machine = new TestMachine({ version: 245 })
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.read(UNIT)).toContain('Type=simple')
    expect(machine.answers).toMatch(/systemd 245 may lose what the agent tells it/)
    expect(machine.answers).toMatch(/starts it again every 10 s/)
  })

  test('a program that the service could not start is refused, and why', async () => {
    const machine = new TestMachine()
    mkdirSync(machine.at('/srv/closed'), { recursive: true, mode: 0o700 })
    machine.write('/srv/closed/agent.mjs', '')
    machine.write('/opt/unreadable', '', 0o600)
    for (const [path, why] of [
      ['/srv/closed/agent.mjs', '/srv/closed is closed to others'],
      ['/opt/unreadable', '/opt/unreadable is closed to others'],
      ['/opt/nothing', 'is not there'],
      ['/tmp/agent.mjs', 'a folder for temporary files'],
    ]) {
      machine.write('/tmp/agent.mjs', '')
      machine.program = ['/opt/beacon/node', path!]
      await expect(machine.install({ enrollmentKeyFile: '-' }, KEY)).rejects.toThrow(why)
    }
    expect(machine.has(UNIT)).toBe(false)
  })

  test('--dry-run touches nothing and shows the unit', async () => {
    const machine = new TestMachine()
    await machine.install({ enrollmentKeyFile: '-', dryRun: true }, KEY)
    expect(machine.has('/etc/systemd')).toBe(false)
    expect(machine.has('/var')).toBe(false)
    expect(machine.told).toEqual([])
    expect(machine.answers).toMatch(
      /would write \/etc\/systemd\/system\/beacon-agent\.service:\n {4}# Written by/,
    )
    expect(machine.answers).toMatch(/would run systemctl --no-block restart/)
  })
})

describe('install refuses', () => {
  const refused = async (flags: InstallFlags, says: RegExp, options: MachineOptions = {}, input = KEY) => {
    const machine = new TestMachine(options)
    const error = await machine.install(flags, input).catch((caught) => caught)
    expect(error).toBeInstanceOf(AgentExit)
    expect(error.exitCode).toBe(2)
    expect(error.message).toMatch(says)
    expect(error.message).not.toContain(KEY.slice(12))
    expect(machine.has('/etc/systemd')).toBe(false)
  }

  test('whoever is not the right user', async () => {
    await refused({}, /use sudo, or --user/, { uid: 1000 })
    await refused({ user: true }, /other users than root/, { uid: 0 })
  })

  test('credentials and settings that cannot be right, before anything is written', async () => {
    await refused({ enrollmentKeyFile: '-' }, /nothing came on standard input/, {}, '')
    await refused({ enrollmentKeyFile: '-' }, /is not whole/, {}, KEY.slice(0, -1))
    await refused({ enrollmentKeyFile: '/nowhere/key' }, /cannot be read/)
    await refused({ enrollmentKeyFile: '-', setupTokenFile: '-' }, /cannot both be given/)
    await refused({ server: 'ftp://x' }, /--server must be an http or https address/)
    await refused({ name: ' ' }, /--name/)
    await refused({ set: ['BEACON_LOG_LEVEL=loud'] }, /BEACON_LOG_LEVEL must be one of/)
    await refused({ set: ['BEACON_HEARTBEAT_SECONDS'] }, /NAME=value/)
    await refused({ set: ['A=b\nBEACON_SERVER=http://evil'] }, /in one line/)
    await refused({ set: [`BEACON_ENROLLMENT_KEY=${KEY}`] }, /is a secret/)
    await refused({ set: ['BEACON_SERVER=http://x'] }, /instead .* --server/)
  })
})

describe('install, where a proxy is used', () => {
  const env = { https_proxy: 'http://someone:secret@proxy:3128' }

  test('says that the service knows nothing of it, and not with what password', async () => {
    const machine = new TestMachine({ env })
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    expect(machine.answers).toMatch(/note: https_proxy is set here, and not for the service/)
    expect(machine.answers).not.toContain('secret')
  })

  test('says nothing where the service knows', async () => {
    const machine = new TestMachine({ env })
    await machine.install({ enrollmentKeyFile: '-', set: ['HTTPS_PROXY=http://proxy:3128'] }, KEY)
    expect(machine.answers).not.toContain('is set here')
  })
})

describe('install, as the service of a user', () => {
  const HOME_UNIT = '/home/ada/.config/systemd/user/beacon-agent.service'

  test('keeps all of it in the home folder, and lets it run without a login', async () => {
    const machine = new TestMachine({ uid: 1000 })
    await machine.install({ user: true, server: 'https://beacon.example', enrollmentKeyFile: '-' }, KEY)
    expect(machine.read(HOME_UNIT)).toContain('BEACON_CONFIG=/home/ada/.config/roboflare/agent.toml')
    expect(machine.read(HOME_UNIT)).toContain('WantedBy=default.target')
    expect(machine.mode('/home/ada/.config/roboflare')).toBe(0o700)
    expect(machine.mode('/home/ada/.config/roboflare/agent.toml.enrollment-key')).toBe(0o600)
    expect(machine.has('/etc/beacon')).toBe(false)
    expect(machine.told).toEqual([
      'systemctl --user daemon-reload',
      'systemctl --user enable beacon-agent.service',
      'loginctl enable-linger',
      'systemctl --user --no-block restart beacon-agent.service',
    ])
  })

  test('where it may not linger, that is said and is no failure', async () => {
    const machine = new TestMachine({ uid: 1000 })
    machine.programs.add('loginctl', 'echo "Access denied" >&2; exit 1')
    await machine.install({ user: true, enrollmentKeyFile: '-' }, KEY)
    expect(machine.answers).toMatch(/stops when this user logs out.*\(Access denied\)/)
    expect(machine.told.at(-1)).toMatch(/restart/)
  })
})

describe('uninstall', () => {
  test('stops the service and takes it away; the identity stays', async () => {
    const machine = new TestMachine()
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    machine.write(CONFIG, enrolledState, 0o600)
    await machine.uninstall({})
    expect(machine.has(UNIT)).toBe(false)
    expect(machine.read(CONFIG)).toBe(enrolledState)
    expect(machine.answers).toMatch(/the identity stays in \/var\/lib\/beacon\/agent\.toml/)
    expect(machine.told.slice(3)).toEqual([
      'systemctl disable --now beacon-agent.service',
      'systemctl daemon-reload',
      'systemctl reset-failed beacon-agent.service',
    ])
    machine.answers = ''
    await machine.uninstall({})
    expect(machine.answers).toMatch(/^nothing is to be done/)
    expect(machine.told).toHaveLength(6)
  })

  test('says nothing of a failure that it does not matter to have forgotten', async () => {
    const machine = new TestMachine()
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    machine.answers = ''
    machine.programs.add('systemctl', '[ "$1" != reset-failed ] || { echo "not loaded" >&2; exit 1; }')
    await machine.uninstall({})
    expect(machine.answers).not.toMatch(/note|tried|not loaded/)
  })

  test('--purge leaves nothing, also behind the link that systemd makes of the folder', async () => {
    const machine = new TestMachine({ isRunning: false })
    await machine.install({ enrollmentKeyFile: '-', server: 'https://beacon.example' }, KEY)
    machine.write('/var/lib/private/beacon/agent.toml', enrolledState, 0o600)
    await machine.uninstall({ purge: true })
    for (const path of ['/etc/beacon', '/var/lib/beacon', '/var/lib/private/beacon', UNIT])
      expect(machine.has(path), path).toBe(false)
  })

  test('--purge keeps what is not of the agent', async () => {
    const machine = new TestMachine({ uid: 1000, isRunning: false })
    await machine.install({ user: true, enrollmentKeyFile: '-' }, KEY)
    machine.write('/home/ada/.config/roboflare/other.toml', 'mine')
    await machine.uninstall({ user: true, purge: true })
    expect(machine.read('/home/ada/.config/roboflare/other.toml')).toBe('mine')
    expect(machine.has('/home/ada/.config/roboflare/agent.toml.enrollment-key')).toBe(false)
  })

  test('--purge refuses under an agent that it cannot stop', async () => {
    const machine = new TestMachine({ isRunning: false })
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    const lock = (await takeLock(placesAt(machine.at(CONFIG)), systemClock, systemRandom))!
    await expect(machine.uninstall({ purge: true })).rejects.toMatchObject({ exitCode: 5 })
    lock.release()
    expect(machine.has(UNIT)).toBe(true)
  })

  test('--dry-run only says so', async () => {
    const machine = new TestMachine()
    await machine.install({ enrollmentKeyFile: '-' }, KEY)
    await machine.uninstall({ purge: true, dryRun: true, json: true })
    expect(machine.has(UNIT)).toBe(true)
    expect(machine.has(HANDED_OVER)).toBe(true)
    expect(machine.told).toHaveLength(3)
  })
})
