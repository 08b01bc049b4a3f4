import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { packAgent } from '../../deploy/agent/archive.mjs'
import { version } from '../../src/package.ts'
import { type Scene, startScene, storedHeartbeats } from '../e2e/scene.ts'
import { eventually } from '../support/eventually.ts'
import { AGENT, KEY, pathOf, SCRIPT, sum, TOOLS, toolboxOf, without } from './robot.ts'
import { HANDED_OUT, type Ran, Stranger } from './stranger.ts'

/** install.sh as robots run it, in a home of their own. */

/** Every shell of this machine that robots have, too. */
const SHELLS = [
  ['sh'],
  ...[['dash'], ['bash', '--posix'], ['busybox', 'sh']].filter(([program]) => pathOf(program!)),
] as [string, ...string[]][]

let stranger: Stranger
beforeEach(() => {
  stranger = new Stranger()
})
afterEach(() => stranger.leave())

const library = () => join(stranger.home, '.local/lib/beacon')
const command = () => join(stranger.home, '.local/bin/beacon-agent')
/** Where the agent finds it by itself. */
const keyFile = () => join(stranger.home, '.config/roboflare/agent.toml.enrollment-key')

const toolbox = (tools?: readonly string[], own?: Readonly<Record<string, string>>) =>
  toolboxOf(stranger, tools, own)

/** A folder as of a mirror, with an agent that only tells what it is run with. */
function mirror(agent = AGENT, sums = `${sum(agent)}  beacon-agent.mjs\n`): string {
  const folder = join(stranger.home, 'mirror')
  mkdirSync(folder)
  writeFileSync(join(folder, 'beacon-agent.mjs'), agent)
  writeFileSync(join(folder, 'SHA256SUMS'), sums)
  return folder
}

/** Runs install.sh for a user, from its standard input as a pipe from curl has it. */
function install(
  args: readonly string[],
  { env = {}, script = SCRIPT, shell = ['/bin/sh'] as readonly string[] } = {},
): Promise<Ran> {
  const [program, ...options] = shell
  return stranger.run(program!, [...options, '-s', '--', '--user', ...args], { env, input: script })
}

function changed(): string[] {
  return readdirSync(stranger.home)
    .filter((name) => !['tools', 'mirror', 'own.key'].includes(name))
    .sort()
}

describe('with a control plane', () => {
  let scene: Scene
  beforeAll(async () => {
    scene = await startScene()
  })
  afterAll(() => scene?.end())

  const robots = async () =>
    (await scene.operator.must<{ items: { id: string; name: string }[] }>('GET', '/api/robots')).items

  test.each(SHELLS)(
    'the one line of a key installs the agent, which enrols and beats (%s)',
    async (...shell) => {
      const { setup_command, key_value } = await scene.operator.must<{
        setup_command: string
        key_value: string
      }>('POST', '/api/enrollment-keys', {
        site_id: scene.site.id,
        fleet_id: scene.fleet.id,
        name: 'one line',
      })
      const url = scene.servers[0]!.url
      expect(setup_command).toBe(`curl -fsSL ${url}/install.sh | sh -s -- --enrollment-key ${key_value}`)
      const name = `installed by ${shell.join(' ')}`
      const line = `${setup_command.replace('| sh', `| ${shell.join(' ')}`)} --user --name '${name}'`
      const ran = await stranger.run('/bin/sh', ['-c', line])
      expect(ran).toMatchObject({ code: 0, stderr: '' })
      expect(readdirSync(library())).toEqual(['beacon-agent.mjs'])
      expect(statSync(keyFile()).mode & 0o777).toBe(0o600)
      expect(readFileSync(keyFile(), 'utf8')).toBe(`${key_value}\n`)
      expect(ran.stdout).toContain(`Beacon's agent ${version} is in ${library()}\n`)
      expect(ran.stdout).not.toContain(key_value)
      const said = ran.stdout.split('\n').find((text) => text.includes('beacon-agent run'))!
      expect(said).toContain(`run --server ${url} --name`)

      const agent = stranger.start('/bin/sh', ['-c', `exec ${said.trim()}`])
      const robot = await eventually(async () => (await robots()).find((found) => found.name === name))
      await eventually(async () => (await storedHeartbeats(scene.database.pool, robot.id)).length > 1)
      expect(await agent.stop()).toBe(0)
      // What it enrolled with is used up.
      expect(existsSync(keyFile())).toBe(false)

      // The same again brings it up to date: a robot that knows who it is needs no key.
      const again = await stranger.run('/bin/sh', ['-c', `curl -fsSL ${url}/install.sh | sh -s -- --user`])
      expect(again).toMatchObject({ code: 0, stderr: '' })
    },
  )

  test("root's agent for one user keeps away from the machine's own", async () => {
    const PATH = toolbox(without('id'), { id: 'echo 0' })
    const script = await (await fetch(`${scene.servers[0]!.url}/install.sh`)).text()
    const ran = await install(['--enrollment-key', KEY], { script, env: { PATH } })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toContain(` --config ${stranger.home}/.config/roboflare/agent.toml\n`)
  })

  test('what a mirror gives out has to be what the control plane has', async () => {
    const url = scene.servers[0]!.url
    const script = await (await fetch(`${url}/install.sh`)).text()
    const bad = await install(['--enrollment-key', KEY, '--mirror', mirror()], { script })
    expect(bad.code).toBe(1)
    expect(bad.stderr).toContain('is not what it should be')
    expect(changed()).toEqual([])
    const good = await install(['--enrollment-key', KEY, '--mirror', HANDED_OUT], { script })
    expect(good).toMatchObject({ code: 0 })
    expect(good.stdout).toContain(`--server ${url} `)
  })

  test('wget will do where there is no curl', async () => {
    const script = await (await fetch(`${scene.servers[0]!.url}/install.sh`)).text()
    const PATH = toolbox(without('curl'))
    const ran = await install(['--enrollment-key', KEY], { script, env: { PATH } })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect((await stranger.run(command(), ['--version'])).stdout).toBe(`${version}\n`)
  })

  test('says what is wrong when the control plane does not answer', async () => {
    const ran = await install(['--enrollment-key', KEY, '--server', 'http://127.0.0.1:9'])
    expect(ran.code).toBe(4)
    expect(ran.stderr).toContain('http://127.0.0.1:9/install/SHA256SUMS could not be fetched')
    expect(changed()).toEqual([])
  })
})

describe('a download that was cut short', () => {
  const filled = SCRIPT.replace('@BEACON_SERVER@', 'http://127.0.0.1:9').replace('@BEACON_SUMS@', 'none')
  const lengths = new Set<number>()
  for (let length = 0; length < filled.length; length += 331) lengths.add(length)
  // The last line is the one that starts it all.
  for (let length = filled.length - 60; length < filled.trimEnd().length; length += 1) lengths.add(length)

  test.each(SHELLS)('runs nothing, wherever it was cut (%s)', async (...shell) => {
    const [program, ...options] = shell
    const log = join(stranger.home, 'ran.log')
    // Every program that it could call writes down that it was.
    const PATH = toolbox([], Object.fromEntries(TOOLS.map((tool) => [tool, `echo ${tool} >>'${log}'`])))
    const run = (script: string) =>
      stranger.run(pathOf(program)!, [...options, '-s', '--', '--enrollment-key', KEY], {
        input: script,
        env: { PATH },
      })
    for (const length of lengths) {
      const { stdout } = await run(filled.slice(0, length))
      expect([length, stdout, existsSync(log)]).toEqual([length, '', false])
    }
    // Whole, it does run them.
    await run(filled)
    expect(existsSync(log)).toBe(true)
  })
})

describe('what is downloaded', () => {
  const args = () => ['--enrollment-key', KEY, '--server', 'https://beacon.example']

  test('is not used when its checksum is another', async () => {
    const ran = await install([...args(), '--mirror', mirror(AGENT, `${'0'.repeat(64)}  beacon-agent.mjs\n`)])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('beacon-agent.mjs from')
    expect(ran.stderr).toContain('is not what it should be')
    expect(changed()).toEqual([])
  })

  test.each([
    ['nothing about it', `${sum(AGENT)}  beacon-agent-mjs\n`],
    ['half of it', `${sum(AGENT).slice(0, 32)}  beacon-agent.mjs\n`],
    ['a name that only ends so', `${sum(AGENT)}  my-beacon-agent.mjs\n`],
    ['a page of a proxy', '<html>sign in first</html>\n'],
  ])('is not used when the checksums say %s', async (_, sums) => {
    const ran = await install([...args(), '--mirror', mirror(AGENT, sums)])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('there is no checksum for beacon-agent.mjs')
    expect(changed()).toEqual([])
  })

  test('is not used when it cannot be checked', async () => {
    const PATH = toolbox(without('sha256sum'))
    const ran = await install([...args(), '--mirror', mirror()], { env: { PATH } })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('no sha256sum, shasum or openssl')
    expect(changed()).toEqual([])
  })

  test('does not take the place of one that works when it does not', async () => {
    const folder = mirror()
    expect(await install([...args(), '--mirror', folder])).toMatchObject({ code: 0 })
    writeFileSync(join(folder, 'beacon-agent.mjs'), 'damaged')
    expect(await install([...args(), '--mirror', folder])).toMatchObject({ code: 1 })
    expect((await stranger.run(command(), ['--version'])).stdout).toBe('9.9.9\n')
  })

  test('needs curl or wget, or a folder', async () => {
    const PATH = toolbox(without('curl', 'wget'))
    const none = await install(args(), { env: { PATH } })
    expect(none.code).toBe(1)
    expect(none.stderr).toContain('neither curl nor wget is on this machine')
    expect(changed()).toEqual([])
    expect(await install([...args(), '--mirror', mirror()], { env: { PATH } })).toMatchObject({ code: 0 })
  })
})

describe('a machine without a Node that would do', () => {
  const args = () => ['--enrollment-key', KEY, '--server', 'https://beacon.example', '--mirror', mirror()]

  test.each([
    ['none', undefined],
    ['an old one', 'exec true'],
    ['a broken one', 'exit 1'],
  ])('is told what to do (%s)', async (_, node) => {
    const PATH = toolbox(without('node'), node === undefined ? {} : { node })
    const ran = await install(args(), { env: { PATH } })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('the agent needs Node 20.19 or newer')
    expect(ran.stderr).toContain('install Node from https://nodejs.org/')
    expect(changed()).toEqual([])
  })

  test.each([
    ['Linux', 'armv7l', 64],
    ['Linux', 'aarch64', 32],
    ['FreeBSD', 'amd64', 64],
  ])('is told that there is no agent of its own for %s on %s with %i bits', async (system, machine, bits) => {
    const PATH = toolbox(without('node', 'uname', 'getconf'), {
      uname: `[ "$1" = -s ] && echo ${system} || echo ${machine}`,
      getconf: `echo ${bits}`,
    })
    const ran = await install(args(), { env: { PATH } })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain(`no self-contained agent for ${system} on ${machine} with ${bits} bits`)
  })
})

test('a machine without glibc is told so before anything is fetched', async () => {
  const PATH = toolbox(without('node', 'uname'), { uname: '[ "$1" = -s ] && echo Linux || echo x86_64' })
  const script = SCRIPT.replace('/lib64/ld-linux-x86-64.so.2', '/lib64/of-another-libc.so')
  const args = ['--enrollment-key', KEY, '--server', 'https://beacon.example', '--mirror', mirror()]
  for (const more of [[], ['--dry-run']]) {
    const ran = await install([...args, ...more], { script, env: { PATH } })
    expect(ran).toMatchObject({ code: 1, stdout: '' })
    expect(ran.stderr).toContain('needs glibc, which Alpine and others with musl do not have')
  }
})

describe('an agent with a Node of its own', () => {
  const archive = packAgent({
    node: readFileSync(process.execPath),
    licence: Buffer.from('a licence'),
    bundle: Buffer.from(AGENT),
  })
  const file = `beacon-agent-linux-${process.arch}.tar.gz`
  const args = (folder: string) => [
    ...['--enrollment-key', KEY, '--server', 'https://beacon.example', '--mirror', folder],
  ]
  const withArchive = () => {
    const sums = `${sum(AGENT)}  beacon-agent.mjs\n${sum(archive)}  ${file}\n`
    const folder = mirror(AGENT, sums)
    writeFileSync(join(folder, file), archive)
    return folder
  }

  test('is taken where there is no Node, and works without one', async () => {
    const PATH = toolbox(without('node'))
    const ran = await install(args(withArchive()), { env: { PATH } })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(readdirSync(library()).sort()).toEqual(['LICENSE.node', 'beacon-agent.mjs', 'node'])
    expect((await stranger.run(command(), ['--version'], { env: { PATH } })).stdout).toBe('9.9.9\n')
    // Once there is a Node, the other goes.
    expect(await install(args(join(stranger.home, 'mirror')))).toMatchObject({ code: 0 })
    expect(readdirSync(library())).toEqual(['beacon-agent.mjs'])
    expect(await install(['--uninstall'])).toMatchObject({ code: 0 })
    expect(existsSync(library())).toBe(false)
  })

  test('is not put there when its Node does not run on this machine', async () => {
    const broken = packAgent({
      node: Buffer.from('\x7fELF of another machine'),
      licence: Buffer.from(''),
      bundle: Buffer.from(AGENT),
    })
    const folder = mirror(AGENT, `${sum(broken)}  ${file}\n`)
    writeFileSync(join(folder, file), broken)
    const PATH = toolbox(without('node'))
    const ran = await install(args(folder), { env: { PATH } })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('the Node that comes with the agent does not run here')
    expect(changed()).toEqual([])
  })
})

describe('secrets', () => {
  const args = () => ['--server', 'https://beacon.example', '--mirror', mirror()]

  test('are in no argument of any program that it calls, and in no environment', async () => {
    const log = join(stranger.home, 'tools/calls.log')
    const PATH = toolbox(
      [],
      Object.fromEntries(
        TOOLS.flatMap((tool) => {
          const path = pathOf(tool)
          const write = `{ echo "${tool} $*"; while read -r line; do echo "$line"; done </proc/$$/environ; } >>'${log}'`
          return path ? [[tool, `${write}\nexec ${path} "$@"`]] : []
        }),
      ),
    )
    const given = await install(args(), { env: { PATH, BEACON_ENROLLMENT_KEY: KEY } })
    expect(given).toMatchObject({ code: 0, stderr: '' })
    const calls = readFileSync(log, 'utf8')
    expect(calls).toContain('sha256sum')
    expect(calls).not.toContain(KEY)
    expect(given.stdout).not.toContain(KEY)
    expect(readFileSync(keyFile(), 'utf8')).toBe(`${KEY}\n`)
    expect(statSync(keyFile()).mode & 0o777).toBe(0o600)
    expect(statSync(join(keyFile(), '..')).mode & 0o777).toBe(0o700)
  })

  test('are not repeated when the arguments are mixed up', async () => {
    for (const wrong of [[KEY], ['--enrolment-key', KEY], [`--key=${KEY}`]]) {
      const ran = await install(wrong)
      expect(ran.code).toBe(2)
      expect(ran.stdout + ran.stderr).not.toContain(KEY)
    }
  })

  test('in a file stay there', async () => {
    writeFileSync(join(stranger.home, 'own.key'), KEY)
    const ran = await install([...args(), '--enrollment-key-file', 'own.key'])
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toContain(`--enrollment-key-file ${stranger.home}/own.key`)
    expect(existsSync(keyFile())).toBe(false)
  })
})

describe('a machine with systemd', () => {
  /** The one place that says so is root's alone. */
  const withSystemd = () => {
    mkdirSync(join(stranger.home, 'tools/systemd'))
    return SCRIPT.replace('/run/systemd/system', join(stranger.home, 'tools/systemd'))
  }

  test('has the agent install its service, which is handed the key in a file', async () => {
    // Root has no service of its own.
    const PATH = toolbox(TOOLS, { systemctl: 'exit 0', id: 'echo 1000' })
    const ran = await install(
      [
        '--server',
        'https://beacon.example/',
        '--mirror',
        mirror(),
        '--name',
        "o'hara's cart",
        '--enrollment-key',
        KEY,
      ],
      { script: withSystemd(), env: { PATH } },
    )
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    const told = JSON.parse(readFileSync(join(stranger.home, 'told.json'), 'utf8'))
    expect(told.args).toEqual([
      'install',
      '--user',
      ...['--server', 'https://beacon.example'],
      ...['--enrollment-key-file', expect.any(String)],
      ...['--name', "o'hara's cart"],
    ])
    expect(told.key).toEqual({ mode: 0o600, text: `${KEY}\n` })
    // What was handed over is gone afterwards.
    expect(existsSync(told.args[5])).toBe(false)
    expect(existsSync(keyFile())).toBe(false)
  })

  test('has the agent remove its service before the agent goes', async () => {
    const PATH = toolbox(TOOLS, { systemctl: 'exit 0', id: 'echo 1000' })
    const script = withSystemd()
    const server = ['--server', 'https://beacon.example']
    await install([...server, '--mirror', mirror(), '--enrollment-key', KEY], { script, env: { PATH } })
    const gone = await install(['--uninstall'], { script, env: { PATH } })
    expect(gone).toMatchObject({ code: 0, stderr: '' })
    const told = JSON.parse(readFileSync(join(stranger.home, 'told.json'), 'utf8'))
    expect(told.args).toEqual(['uninstall', '--user'])
    expect(existsSync(library())).toBe(false)
  })
})

describe('trying and undoing', () => {
  const args = () => ['--enrollment-key', KEY, '--server', 'https://beacon.example', '--mirror', mirror()]

  test('--dry-run says what would be done, and does nothing', async () => {
    const ran = await install([...args(), '--dry-run'])
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    for (const part of ['nothing is done', 'beacon-agent.mjs', library(), command(), keyFile()])
      expect(ran.stdout).toContain(part)
    expect(ran.stdout).not.toContain(KEY)
    expect(changed()).toEqual([])
  })

  test('--uninstall removes what was installed and keeps the identity, and what is not ours', async () => {
    expect(await install(args())).toMatchObject({ code: 0 })
    writeFileSync(join(stranger.home, '.config/roboflare/agent.toml'), 'state = "enrolled"\n')
    const tried = await install(['--uninstall', '--dry-run'])
    expect(tried.stdout).toContain('nothing is done')
    expect(existsSync(command())).toBe(true)
    writeFileSync(join(library(), 'notes.txt'), 'of somebody else')
    const gone = await install(['--uninstall'])
    expect(gone).toMatchObject({ code: 0, stderr: '' })
    expect(gone.stdout).toContain('who this robot is stays in')
    expect(existsSync(command())).toBe(false)
    expect(readdirSync(library())).toEqual(['notes.txt'])
    expect(existsSync(join(stranger.home, '.config/roboflare/agent.toml'))).toBe(true)
    expect((await install(['--uninstall'])).stdout).toContain('nothing to remove')
  })

  test('a home with a name that shells trip over works as any other', async () => {
    const HOME = join(stranger.home, "o'hara's $(robot) `1` é")
    mkdirSync(HOME)
    const env = { HOME, XDG_CONFIG_HOME: join(HOME, '.config') }
    const ran = await install(args(), { env })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect((await stranger.run(join(HOME, '.local/bin/beacon-agent'), ['--version'])).stdout).toBe('9.9.9\n')
    const said = ran.stdout.split('\n').find((text) => text.includes('beacon-agent'))!
    await stranger.run('/bin/sh', ['-c', said], { env })
    expect(JSON.parse(readFileSync(join(HOME, 'told.json'), 'utf8')).args.slice(0, 3)).toEqual([
      'run',
      ...['--server', 'https://beacon.example'],
    ])
  })
})

describe('mistakes are told before anything is done', () => {
  test.each<[string, string[]]>([
    ['not enrolled yet', ['--server', 'https://beacon.example']],
    ['address of the control plane is missing', ['--enrollment-key', KEY]],
    ['has to begin with https://', ['--enrollment-key', KEY, '--server', 'beacon.example']],
    [
      'more than one key',
      ['--enrollment-key', KEY, '--setup-token', KEY, '--server', 'https://beacon.example'],
    ],
    [
      'characters that none has',
      ['--enrollment-key', 'rf_enroll_$(id)', '--server', 'https://beacon.example'],
    ],
    ['cannot be read', ['--enrollment-key-file', '/nowhere/key', '--server', 'https://beacon.example']],
    ['--server needs a value', ['--enrollment-key', KEY, '--server']],
    ['--prefix has to begin with /', ['--enrollment-key', KEY, '--prefix', 'here']],
  ])('%s', async (said, args) => {
    const ran = await install(args)
    expect(ran.code).toBe(2)
    expect(ran.stderr).toContain(said)
    expect(changed()).toEqual([])
  })
})
