import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import { frugalFlags } from '../../agent/frugality.ts'

const root = join(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'beacon-frugal-'))
const look = join(folder, 'look.cjs')
writeFileSync(
  look,
  "process.on('exit', () => console.log(process.moduleLoadList.filter((name) => /undici/.test(name)).length))",
)
afterAll(() => rmSync(folder, { recursive: true }))

/** What the program says in the end of how many parts of fetch were loaded, and what V8 complains of. */
async function said(...program: string[]) {
  const args = ['--require', look, ...program, 'status', '--config', join(folder, 'agent.toml')]
  const answer = await promisify(execFile)(process.execPath, args).catch((error) => error)
  return { parts: Number(answer.stdout.trim().split('\n').at(-1)), complaints: answer.stderr }
}

describe('the agent and memory', () => {
  test.each([
    ['as one file', join(root, 'dist/install/beacon-agent.mjs')],
    ['of a checkout', join(root, 'bin/beacon.js'), 'agent'],
  ])('%s, it does not load fetch, and V8 knows all of its flags', async (_name, ...program) => {
    expect(await said(...program)).toEqual({ parts: 0, complaints: '' })
  })

  test('the look sees fetch where it is loaded', async () => {
    const program = join(folder, 'fetch.mjs')
    writeFileSync(program, 'fetch; new Headers()')
    expect((await said(program)).parts).toBeGreaterThan(0)
  })

  test('flags that a person has set stay as they are', () => {
    const all = frugalFlags([], '')
    expect(all).toContain('--no-opt')
    expect(frugalFlags(['--opt'], '')).toEqual(all.filter((flag) => flag !== '--no-opt'))
    expect(frugalFlags([], '--no-maglev  --no_optimize_for_size --max-semi-space-size=2')).toEqual(
      all.filter((flag) => !['--no-maglev', '--optimize-for-size'].includes(flag)),
    )
  })
})
