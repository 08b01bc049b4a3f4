import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FLEET_TOKEN_SCOPES, ROLE_SCOPES, ROLES, SCOPES } from '../../src/access/scopes.ts'
import { ERRORS } from '../../src/errors.ts'
import { RATE_LIMITS } from '../../src/http/rate-limits.ts'
import { beacon } from '../cli/fake-terminal.ts'

const docs = join(import.meta.dirname, '..', '..', 'docs')
const text = readFileSync(join(docs, 'security.md'), 'utf8')

/** The rows of the table below a heading, without its head, as trimmed cells. */
function table(heading: string): string[][] {
  const section = text.split(/^##+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? ''
  return section
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
}

test('the table of roles and scopes is the one that the server goes by', () => {
  const [head, , ...rows] = table('Roles and scopes')
  expect(head).toEqual(['scope', ...ROLES, 'fleet token'])
  const mark = (held: boolean, word: string) => (held ? word : '')
  const expected = SCOPES.map((scope) => [
    `\`${scope}\``,
    ...ROLES.map((role) => mark(ROLE_SCOPES[role].includes(scope), 'yes')),
    mark(FLEET_TOKEN_SCOPES.includes(scope), 'may'),
  ])
  expect(rows).toEqual(expected)
})

test('the table of limits says what the REST edge does', () => {
  const rows = table('Limits')
  const row = (label: string) => rows.find((cells) => cells[4] === `\`${label}\``)?.slice(2, 4)
  const { refusedCredentials, requests, issued } = RATE_LIMITS
  expect(row('refused_credentials')).toEqual([
    String(refusedCredentials.burst),
    `${refusedCredentials.perMinute} a minute`,
  ])
  expect(row('requests')).toEqual([String(requests.burst), `${requests.perMinute / 60} a second`])
  expect(row('issued')).toEqual([String(issued.burst), `${issued.perMinute} a minute`])
})

describe('every command in it', () => {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap((found) =>
    found[1]!.trim().split('\n'),
  )
  const inline = [...text.matchAll(/`(beacon [^`]+)`/g)].map((found) => found[1]!)
  const commands = [...new Set([...blocks, ...inline])]

  test('is there', () => {
    expect(commands.length).toBeGreaterThan(15)
    expect(commands.every((command) => command.startsWith('beacon '))).toBe(true)
  })

  test.each(commands)('%s', async (command) => {
    const words = command.split(' ').slice(1)
    const end = words.findIndex((word) => word.startsWith('-') || word.startsWith('<'))
    const path = end < 0 ? words : words.slice(0, end)
    const { exitCode, stdout } = await beacon([...path, '--help'])
    expect(exitCode).toBe(0)
    expect(stdout).toContain(`Usage: beacon ${path.join(' ')}`)
    for (const option of words.filter((word) => word.startsWith('--'))) expect(stdout).toContain(option)
    const takes = words
      .slice(path.length)
      .filter((word, index, rest) => word.startsWith('<') && !rest[index - 1]?.startsWith('--'))
    if (takes.length > 0) expect(stdout.split('\n')[0]!.replace('[options]', '')).toMatch(/[<[]\w+/)
  })
})

test('refusals that it names are there', () => {
  const words = [...text.matchAll(/`([a-z]+(?:_[a-z]+)+)`/g)].map((found) => found[1]!)
  for (const code of ['invalid_token', 'cross_site_request', 'robot_online']) {
    expect(words).toContain(code)
    expect(Object.keys(ERRORS)).toContain(code)
  }
})

test('settings that it names stand in the help of the server', async () => {
  const [server, all] = await Promise.all([beacon(['server', '--help']), beacon(['--help'])])
  const stdout = server.stdout + all.stdout
  const names = [...text.matchAll(/BEACON_[A-Z_]+/g)].map((found) => found[0].replace(/_FILE$/, ''))
  expect(names.length).toBeGreaterThan(5)
  for (const name of names) expect(stdout).toContain(name)
})

test('links lead to headings and files that are there', () => {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map((found) =>
    found[1]!
      .toLowerCase()
      .replaceAll(/[^\w ]/g, '')
      .replaceAll(' ', '-'),
  )
  for (const [, target = ''] of text.matchAll(/\]\(([^)]+)\)/g))
    if (target.startsWith('#')) expect(headings).toContain(target.slice(1))
    else expect(readFileSync(join(docs, target.split('#')[0]!), 'utf8')).not.toBe('')
})
