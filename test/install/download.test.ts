import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer as createPlainServer, type RequestListener } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { packAgent } from '../../deploy/agent/archive.mjs'
import { startProxy } from '../agent/support/network.ts'
import { newCertificate } from '../support/certificate.ts'
import { AGENT, KEY, SCRIPT, sum, toolboxOf, without } from './robot.ts'
import { type Ran, Stranger } from './stranger.ts'

/** install.sh on networks and disks as robots have them. */

let stranger: Stranger
beforeEach(() => {
  stranger = new Stranger()
})
afterEach(() => stranger.leave())

const FILES: Readonly<Record<string, string>> = {
  '/install/beacon-agent.mjs': AGENT,
  '/install/SHA256SUMS': `${sum(AGENT)}  beacon-agent.mjs\n`,
}
const handOut: RequestListener = (request, response) => {
  const contents = FILES[request.url ?? '']
  response.writeHead(contents === undefined ? 404 : 200).end(contents ?? '<html>not here</html>')
}

async function serve(
  answer: RequestListener = handOut,
  tls?: { cert: string; key: string },
): Promise<string> {
  const server = tls ? createServer(tls, answer) : createPlainServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A control plane whose certificate nobody knows, and the file that says it is to be believed. */
async function unknownAuthority() {
  const certificate = await newCertificate()
  const file = join(stranger.home, 'tools/authority.pem')
  return { url: await serve(handOut, certificate), file, cert: certificate.cert }
}

function install(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  script = SCRIPT,
): Promise<Ran> {
  return stranger.run('/bin/sh', ['-s', '--', '--user', ...args], { env, input: script })
}

const kept = () => join(stranger.home, '.config/roboflare/agent-ca.pem')
const library = () => join(stranger.home, '.local/lib/beacon')
const changed = () => readdirSync(stranger.home).filter((name) => !['tools', 'mirror'].includes(name))

describe('a control plane with a certificate of its own authority', () => {
  test.each([
    ['curl', 'wget'],
    ['wget', 'curl'],
  ])('is believed by what --ca-file names, for %s and for the agent', async (_, other) => {
    const PATH = toolboxOf(stranger, without(other))
    const { url, file, cert } = await unknownAuthority()
    writeFileSync(file, cert)
    const args = ['--server', url, '--enrollment-key', KEY]
    const refused = await install(args, { PATH })
    expect(refused.code).toBe(4)
    expect(refused.stderr).toContain('--ca-file')
    expect(changed()).toEqual([])

    const ran = await install([...args, '--ca-file', 'tools/authority.pem'], { PATH })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(readFileSync(kept(), 'utf8')).toBe(cert)
    // The service's user reads it, too.
    expect(statSync(kept()).mode & 0o777).toBe(0o644)
    expect(ran.stdout).toContain(` --ca-file ${kept()}`)

    // The same line again brings the agent up to date, wherever that file is by now.
    rmSync(file)
    expect(await install(['--server', url], { PATH })).toMatchObject({ code: 0, stderr: '' })
  })

  test('is told to the service as one of its settings', async () => {
    const PATH = toolboxOf(stranger, undefined, { systemctl: 'exit 0', id: 'echo 1000' })
    const { url, file, cert } = await unknownAuthority()
    writeFileSync(file, cert)
    const script = SCRIPT.replace('/run/systemd/system', join(stranger.home, 'tools'))
    const env = { PATH, BEACON_CA_FILE: file }
    expect(await install(['--server', url, '--enrollment-key', KEY], env, script)).toMatchObject({ code: 0 })
    const { args } = JSON.parse(readFileSync(join(stranger.home, 'told.json'), 'utf8'))
    expect(args.slice(-2)).toEqual(['--set', `BEACON_CA_FILE=${kept()}`])
  })

  test('is not asked by a wget that can be told of no authority', async () => {
    const PATH = toolboxOf(stranger, without('curl', 'wget'), { wget: 'echo "Usage: wget URL" >&2; exit 1' })
    const { url, file, cert } = await unknownAuthority()
    writeFileSync(file, cert)
    const ran = await install(['--server', url, '--enrollment-key', KEY, '--ca-file', file], { PATH })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('cannot be told whom to believe')
    expect(changed()).toEqual([])
  })

  test.each([
    ['is not there', undefined, 'cannot be read'],
    ['holds no certificate', '-----BEGIN EC PRIVATE KEY-----\n', 'no certificate in PEM form'],
  ])('a file that %s is a mistake', async (_, contents, said) => {
    const PATH = toolboxOf(stranger)
    const file = join(stranger.home, 'tools/authority.pem')
    if (contents !== undefined) writeFileSync(file, contents)
    const args = ['--server', 'https://127.0.0.1:9', '--enrollment-key', KEY, '--ca-file', file]
    const ran = await install(args, { PATH })
    expect(ran.code).toBe(2)
    expect(ran.stderr).toContain(said)
    expect(changed()).toEqual([])
  })

  test('is reached through the proxy that the shell names', async () => {
    const PATH = toolboxOf(stranger)
    const { url, file, cert } = await unknownAuthority()
    writeFileSync(file, cert)
    const { host, port } = new URL(url)
    const proxy = await startProxy({ [host]: Number(port) })
    const env = { PATH, https_proxy: `http://${proxy.address}`, no_proxy: '' }
    const args = ['--server', url, '--enrollment-key', KEY, '--ca-file', file]
    expect(await install(args, env)).toMatchObject({ code: 0, stderr: '' })
    expect(proxy.asked).toEqual([host, host])
  })
})

describe('what servers answer instead of the agent', () => {
  const page = '<html><h1>Sign in to the network of this hotel</h1></html>'
  const answers: [string, RequestListener, number][] = [
    ['404 and a page', (_, response) => response.writeHead(404).end(page), 4],
    ['500 and a page', (_, response) => response.writeHead(500).end(page), 4],
    ['200 and a page', (_, response) => response.writeHead(200).end(page), 1],
    ['nothing at all', (request) => request.socket.destroy(), 4],
    [
      'half of it',
      (request, response) => {
        if (!request.url?.endsWith('.mjs')) return handOut(request, response)
        response.writeHead(200, { 'content-length': AGENT.length }).write(AGENT.slice(0, 200))
        setImmediate(() => request.socket.end())
      },
      4,
    ],
    [
      'half of it without saying so',
      (request, response) => {
        if (!request.url?.endsWith('.mjs')) return handOut(request, response)
        response.writeHead(200).end(AGENT.slice(0, 200))
      },
      1,
    ],
  ]
  test.each(
    answers.flatMap(([what, answer, code]) =>
      ['curl', 'wget'].map((tool) => [what, tool, answer, code] as const),
    ),
  )('%s, to %s, changes nothing', async (_, tool, answer, code) => {
    const PATH = toolboxOf(stranger, without(tool === 'curl' ? 'wget' : 'curl'))
    // A test does not wait for what may be better a moment later.
    const script = SCRIPT.replace('--retry 3', '--retry 0').replace('--tries=3', '--tries=1')
    const ran = await install(['--server', await serve(answer), '--enrollment-key', KEY], { PATH }, script)
    expect(ran).toMatchObject({ code })
    expect(changed()).toEqual([])
  })
})

describe('disks', () => {
  const file = `beacon-agent-linux-${process.arch}.tar.gz`
  /** A mirror with an agent that has a program of its own in place of Node. */
  function mirrorOf(node: string, agent = AGENT): string {
    const archive = packAgent({
      node: Buffer.from(node),
      licence: Buffer.from(''),
      bundle: Buffer.from(agent),
    })
    const folder = join(stranger.home, 'mirror')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, file), archive)
    writeFileSync(join(folder, 'beacon-agent.mjs'), agent)
    writeFileSync(join(folder, 'SHA256SUMS'), `${sum(agent)}  beacon-agent.mjs\n${sum(archive)}  ${file}\n`)
    return folder
  }
  const args = (folder: string) => [
    ...['--enrollment-key', KEY, '--server', 'https://beacon.example', '--mirror', folder],
  ]

  test('without room for what is unpacked are told apart from agents that do not run', async () => {
    const PATH = toolboxOf(stranger, without('node'), { tar: 'cat >/dev/null; exit 2' })
    const ran = await install(args(mirrorOf('')), { PATH })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(/cannot be unpacked in .*\n.* nothing was changed; it takes .* TMPDIR/)
    expect(changed()).toEqual([])
  })

  test('with a small /tmp have what is unpacked in /var/tmp, unless TMPDIR says otherwise', async () => {
    // Node is started by its path, and says where it lies.
    const folder = mirrorOf(`#!/bin/sh\necho "$0" >>'${stranger.home}/tools/started'\necho 9.9.9\n`)
    const df =
      'echo Filesystem; case $2 in /tmp) echo tmpfs 9 9 99999 9% /tmp ;; *) echo disk 9 9 999999 9% / ;; esac'
    const PATH = toolboxOf(stranger, without('node'), { df })
    expect(await install(args(folder), { PATH })).toMatchObject({ code: 0, stderr: '' })
    const started = () => readFileSync(join(stranger.home, 'tools/started'), 'utf8').split('\n')[0]
    expect(started()).toMatch(/^\/var\/tmp\/beacon-install\..*\/beacon-agent\/node$/)
    rmSync(join(stranger.home, 'tools/started'))
    expect(await install(args(folder), { PATH, TMPDIR: join(stranger.home, 'tools') })).toMatchObject({
      code: 0,
    })
    expect(started()).toMatch(/\/tools\/beacon-install\..*\/beacon-agent\/node$/)
    expect(readdirSync('/var/tmp').filter((name) => name.startsWith('beacon-install.'))).toEqual([])
  })

  test('from which nothing may be run are, too', async () => {
    // As on a folder that is mounted noexec: nothing there becomes a program.
    const PATH = toolboxOf(stranger, without('node'), { chmod: 'exit 0' })
    const ran = await install(args(mirrorOf('not a program')), { PATH })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(
      /nothing may be run in .*\n.* nothing was changed; name another folder in TMPDIR/,
    )
    expect(changed()).toEqual([])
  })

  test('that are full keep the agent that was there, and no half of another', async () => {
    const folder = mirrorOf('')
    expect(await install(args(folder), { PATH: toolboxOf(stranger) })).toMatchObject({ code: 0 })
    mirrorOf('', `${AGENT}\n// another`)
    writeFileSync(
      join(stranger.home, 'tools/full'),
      `#!/bin/sh\ncase $2 in *.new) echo half >"$2"; echo "No space left on device" >&2; exit 1 ;; esac\nexec /bin/cp "$@"\n`,
    )
    chmodSync(join(stranger.home, 'tools/full'), 0o755)
    rmSync(join(stranger.home, 'tools/cp'))
    writeFileSync(join(stranger.home, 'tools/cp'), readFileSync(join(stranger.home, 'tools/full')), {
      mode: 0o755,
    })
    const ran = await install(args(folder), { PATH: join(stranger.home, 'tools') })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(
      /No space left on device\nerror: .*beacon-agent\.mjs cannot be written\n.*--prefix/,
    )
    expect(readdirSync(library())).toEqual(['beacon-agent.mjs'])
    expect(readFileSync(join(library(), 'beacon-agent.mjs'), 'utf8')).toBe(AGENT)
  })

  test('an agent that does not run replaces none', async () => {
    const PATH = toolboxOf(stranger)
    const folder = mirrorOf('')
    expect(await install(args(folder), { PATH })).toMatchObject({ code: 0 })
    mirrorOf('', 'process.exit(1)')
    const ran = await install(args(folder), { PATH })
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('the agent does not run here')
    expect(readFileSync(join(library(), 'beacon-agent.mjs'), 'utf8')).toBe(AGENT)
  })
})

describe('--purge', () => {
  test('has the agent give up what it is before it goes, and leaves no certificate', async () => {
    const PATH = toolboxOf(stranger, undefined, { id: 'echo 1000' })
    const { url, file, cert } = await unknownAuthority()
    writeFileSync(file, cert)
    const ran = await install(['--server', url, '--enrollment-key', KEY, '--ca-file', file], { PATH })
    expect(ran).toMatchObject({ code: 0 })
    expect(await install(['--uninstall', '--purge'], { PATH })).toMatchObject({ code: 0, stderr: '' })
    const { args } = JSON.parse(readFileSync(join(stranger.home, 'told.json'), 'utf8'))
    expect(args).toEqual(['uninstall', '--user', '--purge'])
    expect(existsSync(kept())).toBe(false)
    expect(existsSync(library())).toBe(false)
  })

  test('is for --uninstall alone', async () => {
    const ran = await install(['--enrollment-key', KEY, '--purge'], { PATH: toolboxOf(stranger) })
    expect(ran.code).toBe(2)
    expect(ran.stderr).toContain('--purge goes with --uninstall')
  })
})
