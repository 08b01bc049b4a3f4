import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')

interface Import {
  /** Path from the root of the repository for our own files, the specifier as written for packages. */
  readonly target: string
  readonly own: boolean
  readonly line: number
}

interface Source {
  readonly path: string
  /** The text without comments, line breaks kept. */
  readonly code: string
  readonly imports: readonly Import[]
}

function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(/(^|\s)\/\/.*$/gm, '$1')
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}

const IMPORT = /(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s+)(['"])([^'"\n]+)\1/gm

function importsOf(path: string, code: string): Import[] {
  return [...code.matchAll(IMPORT)].map((found) => {
    const specifier = found[2]!
    const own = specifier.startsWith('.')
    const target = own ? relative(root, normalize(join(root, dirname(path), specifier))) : specifier
    return { target, own, line: lineAt(code, found.index + found[0].indexOf(found[1]!)) }
  })
}

const sources: readonly Source[] = ['src', 'agent']
  .flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((path) => join(folder, path)),
  )
  .filter((path) => path.endsWith('.ts'))
  .sort()
  .map((path) => {
    const code = withoutComments(readFileSync(join(root, path), 'utf8'))
    return { path, code, imports: importsOf(path, code) }
  })

/** `src/gateway/…` → `gateway`, `agent/…` → `agent`, `src/errors.ts` → `errors.ts`. */
function roomOf(path: string): string {
  const parts = path.split('/')
  return parts[0] === 'src' ? parts[1]! : parts[0]!
}

const HELPERS = [
  'addresses.ts',
  'config.ts',
  'descriptor-limit.ts',
  'errors.ts',
  'grouping.ts',
  'ids.ts',
  'machine-hash.ts',
  'package.ts',
  'rate-limit.ts',
  'releases.ts',
  'request-id.ts',
  'runtime.ts',
  'tls.ts',
]

interface Rule {
  /** Rooms, root helpers or single files of a room that this room may import besides itself. */
  readonly may: readonly string[]
  /** Packages it may import; undefined: any. */
  readonly packages?: RegExp
}

const RULES: Readonly<Record<string, Rule>> = {
  protocol: { may: [], packages: /^(zod$|node:)/ },
  session: { may: ['protocol'], packages: /^$/ },
  fleet: { may: ['session', 'protocol'], packages: /^$/ },
  observe: { may: HELPERS },
  // The forms in which heartbeats are kept; knows nothing of where.
  history: { may: [], packages: /^node:(util|zlib)$/ },
  db: { may: ['history', 'protocol', 'observe', ...HELPERS] },
  bus: { may: ['protocol', 'db', 'observe', ...HELPERS] },
  transport: { may: ['protocol', 'observe', ...HELPERS] },
  audit: { may: ['protocol', 'db', 'observe', ...HELPERS] },
  // What robots fetch to install themselves; knows nothing of who asks.
  install: { may: [], packages: /^node:/ },
  claims: { may: ['audit', 'protocol', 'db', 'observe', ...HELPERS] },
  access: { may: ['audit', 'protocol', 'db', 'bus/bus.ts', 'observe', ...HELPERS] },
  // Readers of robots as they change; knows nothing of HTTP.
  live: { may: ['protocol', 'db', 'observe', ...HELPERS] },
  gateway: {
    may: ['fleet', 'session', 'protocol', 'transport', 'bus', 'db', 'observe', ...HELPERS],
  },
  http: {
    may: [
      'fleet',
      'claims',
      'access',
      'audit',
      'install',
      'live',
      'db',
      'protocol',
      'bus/bus.ts',
      'observe',
      ...HELPERS,
    ],
  },
  // Gateway processes, and whoever keeps them running.
  processes: {
    may: [
      'gateway',
      'transport',
      'bus',
      'db',
      'audit/session-refusals.ts',
      'http/headers.ts',
      'protocol',
      'observe',
      ...HELPERS,
    ],
  },
  agent: { may: ['protocol'] },
  // Looks at the log without the server, for when that is not to be trusted.
  cli: { may: ['main.ts', 'audit/direct.ts', 'access/recover-owner.ts', 'agent', 'protocol', ...HELPERS] },
  // The database's errors, to tell the person who starts the server what to mend.
  'main.ts': {
    may: [
      'app.ts',
      'db',
      'processes/robot-port.ts',
      'transport/engines.ts',
      'observe',
      'protocol',
      ...HELPERS,
    ],
  },
}

function allows(rule: Rule, room: string, target: string): boolean {
  const targetRoom = roomOf(target)
  if (targetRoom === room || rule.may.includes(targetRoom)) return true
  return rule.may.some((entry) => target === `src/${entry}`)
}

function wrongImports(room: string, rule: Rule): string[] {
  return sources
    .filter((source) => roomOf(source.path) === room)
    .flatMap((source) =>
      source.imports
        .filter((entry) =>
          entry.own ? !allows(rule, room, entry.target) : rule.packages && !rule.packages.test(entry.target),
        )
        .map((entry) => `${source.path}:${entry.line} imports ${entry.target}`),
    )
}

/** Places where `pattern` stands in the code of files that `exempt` does not name. */
function uses(pattern: RegExp, exempt: (path: string) => boolean): string[] {
  return sources
    .filter((source) => !exempt(source.path))
    .flatMap((source) =>
      [...source.code.matchAll(pattern)].map(
        (found) => `${source.path}:${lineAt(source.code, found.index)} ${found[0]}`,
      ),
    )
}

const isCli = (path: string) => path.startsWith('src/cli/')

describe('imports point one way', () => {
  for (const [room, rule] of Object.entries(RULES)) {
    const allowed = [...rule.may.filter((entry) => !HELPERS.includes(entry))].join(', ') || 'nothing of ours'
    test(`${room} imports ${allowed}`, () => {
      expect(wrongImports(room, rule)).toEqual([])
    })
  }

  test('the bridge to ROS 2 is beside the agent: it knows its socket, and the agent does not know it', () => {
    const may = [
      'agent/local/',
      'agent/ros2/',
      'agent/end-signal.ts',
      'agent/exit.ts',
      'agent/log.ts',
      'agent/runtime.ts',
      'agent/settings.ts',
      'agent/text.ts',
      'src/protocol/',
    ]
    const isOfBridge = ({ path }: Source) => path.startsWith('agent/ros2/')
    const wrong = sources.flatMap((source) =>
      source.imports
        .filter(({ own, target }) =>
          isOfBridge(source)
            ? !(own ? may.some((entry) => target.startsWith(entry)) : target.startsWith('node:'))
            : own &&
              target.startsWith('agent/ros2/') &&
              source.path !== 'agent/main.ts' &&
              !isCli(source.path),
        )
        .map((entry) => `${source.path}:${entry.line} imports ${entry.target}`),
    )
    expect(wrong).toEqual([])
  })

  test('what messages of ROS 2 mean is told by pure functions', () => {
    const may =
      /^(agent\/ros2\/(reading|mapping-[a-z]+)\.ts|agent\/(text|local\/limits)\.ts|src\/protocol\/.*|node:crypto)$/
    const mappings = sources.filter(({ path }) => /^agent\/ros2\/(reading|mapping-[a-z]+)\.ts$/.test(path))
    expect(mappings.length).toBeGreaterThan(4)
    const wrong = mappings.flatMap((source) =>
      source.imports
        .filter(({ target }) => !may.test(target))
        .map((entry) => `${source.path}:${entry.line} imports ${entry.target}`),
    )
    expect(wrong).toEqual([])
  })

  test('helpers at the root import the protocol and each other', () => {
    const rule = { may: ['protocol', ...HELPERS] }
    expect(HELPERS.flatMap((helper) => wrongImports(helper, rule))).toEqual([])
  })

  test('every room has a rule', () => {
    const known = new Set([...Object.keys(RULES), ...HELPERS, 'app.ts'])
    expect(
      [...new Set(sources.map((source) => roomOf(source.path)))].filter((room) => !known.has(room)),
    ).toEqual([])
  })

  test('every import names a file that exists', () => {
    const files = new Set(sources.map((source) => source.path))
    const missing = sources.flatMap((source) =>
      source.imports
        .filter((entry) => entry.own && entry.target.endsWith('.ts') && !files.has(entry.target))
        .map((entry) => `${source.path}:${entry.line} imports ${entry.target}`),
    )
    expect(missing).toEqual([])
  })
})

describe('the page', () => {
  const files = readdirSync(join(root, 'dashboard/src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.tsx?$/.test(path))
    .map((path) => join('dashboard/src', path))

  test('shares with the server its rules of who may do what, and otherwise only types', () => {
    const shared = files.flatMap((path) =>
      [...readFileSync(join(root, path), 'utf8').matchAll(/^import (?!type\b)[^'"]*['"](\.[^'"]+)['"]/gms)]
        .map(([, specifier]) => normalize(join(dirname(path), specifier!)))
        .filter((target) => !target.startsWith('dashboard/')),
    )
    expect([...new Set(shared)].sort()).toEqual([
      'src/access/authority.ts',
      'src/access/people.ts',
      'src/access/scopes.ts',
    ])
  })

  test('writes no text that it was given as HTML', () => {
    const html = /dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|document\.write/
    expect(files.filter((path) => html.test(readFileSync(join(root, path), 'utf8')))).toEqual([])
  })
})

describe('what the world gives comes in through one door', () => {
  const OWN_CLOCK = ['src/runtime.ts', 'agent/runtime.ts', 'src/main.ts']

  test('time and chance are handed in, not taken', () => {
    // A method of one's own may have these names, too: `set.setInterval(…)` and `setInterval(ms: number)` are not taken.
    const taken =
      /\bDate\.now\b|\bnew Date\(\s*\)|\bMath\.random\b|\bperformance\.now\b|(?<![.\w])set(Timeout|Interval)\b(?!\(\w+: )/g
    expect(uses(taken, (path) => isCli(path) || OWN_CLOCK.includes(path))).toEqual([])
  })

  test('the environment is read where settings are made', () => {
    const readers = ['src/config.ts', 'agent/config.ts']
    expect(uses(/\bprocess\.env\b/g, (path) => isCli(path) || readers.includes(path))).toEqual([])
  })

  test('only commands write to the console', () => {
    expect(uses(/\bconsole\.\w+/g, isCli)).toEqual([])
  })

  test('only the database folder writes SQL', () => {
    const users = sources.flatMap((source) =>
      source.imports
        .filter((entry) => /^(pg|kysely)$/.test(entry.target) && !/^src\/(db|bus)\//.test(source.path))
        .map((entry) => `${source.path}:${entry.line} imports ${entry.target}`),
    )
    expect(users).toEqual([])
  })
})
