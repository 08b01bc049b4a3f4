import { mintCheckedToken } from '../../protocol/tokens.ts'
import { type Client, createClient } from '../client.ts'
import { CliError, EXIT } from '../failure.ts'
import { ensurePlaces } from '../places.ts'
import { fleetNamesOf } from '../robots.ts'
import type { Key, Robot } from '../shapes.ts'
import type { Terminal } from '../terminal.ts'
import { printable, secondsOf } from '../text.ts'
import { type DemoFolder, makeDemoFolder, writeSecret } from './folder.ts'
import { Part } from './part.ts'
import { createView, type DemoView, type Surroundings } from './view.ts'

const ROBOTS = ['warehouse-bot-01', 'warehouse-bot-02', 'warehouse-bot-03'] as const
const HEARTBEAT_SECONDS = 2
const SERVER_START_MS = 90_000
const POLL_MS = 1_000
const READY = /^beacon ready\b/
/** Robots say goodbye at once; the server drains and stops its database. */
const ROBOT_STOP_MS = 10_000
const SERVER_STOP_MS = 30_000

interface DemoOptions {
  readonly for?: string
}

interface Demo {
  readonly terminal: Terminal
  readonly folder: DemoFolder
  readonly parts: Part[]
  readonly view: DemoView
}

/** Ends the demo with what the part said last, once it has ended by itself. */
async function failWhenEnded(part: Part): Promise<never> {
  const { code, signal } = await part.ended
  const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`
  const said = part.lastLines().map((line) => `  ${printable(line)}`)
  throw new PartEnded(`${part.name} ${how}; its last words:`, said)
}

class PartEnded extends Error {
  readonly lines: readonly string[]
  constructor(message: string, lines: readonly string[]) {
    super(message)
    this.lines = lines
  }
}

function startPart(demo: Demo, name: string, args: string[], settings: Record<string, string> = {}): Part {
  const part = new Part({
    name,
    args,
    settings,
    logFile: demo.folder.logFile(name),
    clock: demo.terminal.clock,
  })
  demo.parts.push(part)
  return part
}

async function pause(terminal: Terminal, ms: number): Promise<void> {
  await terminal.clock.sleep(ms, terminal.interruption()).catch(() => {})
}

/** Starts the server and answers with its address once it takes requests; undefined when interrupted before. */
async function startServer(demo: Demo, ownerToken: string): Promise<string | undefined> {
  const { terminal, folder } = demo
  writeSecret(folder.ownerTokenFile, ownerToken)
  const server = startPart(demo, 'server', ['server'], {
    BEACON_HOST: '127.0.0.1',
    BEACON_PORT: '0',
    BEACON_DATA_DIR: folder.serverData,
    BEACON_ADMIN_TOKEN_FILE: folder.ownerTokenFile,
    BEACON_HEARTBEAT_SECONDS: String(HEARTBEAT_SECONDS),
  })
  const startedAt = terminal.clock.monotonic()
  while (!terminal.interruption().aborted) {
    const ready = server.logLine(READY)
    const url = ready && /https?:\/\/[^\s,;]+/.exec(ready)?.[0]
    if (url) return url.replace(/\/+$/, '')
    if (terminal.clock.monotonic() - startedAt > SERVER_START_MS)
      throw new PartEnded('the server did not become ready; it last said:', server.lastLines().map(printable))
    await Promise.race([pause(terminal, 50), failWhenEnded(server)])
  }
  return undefined
}

async function makeKey(client: Client): Promise<string> {
  const { site, fleet } = await ensurePlaces(client, { site: 'demo', fleet: 'warehouse' })
  const key = await client.post<Key>('/api/enrollment-keys', {
    site_id: site.id,
    fleet_id: fleet.id,
    name: 'demo robots',
    max_uses: ROBOTS.length,
    expires_in_hours: 1,
  })
  if (key.key_value === null) throw new CliError('the server does not show the key it made')
  return key.key_value
}

function startRobots(demo: Demo, url: string, enrollmentKey: string): Part[] {
  writeSecret(demo.folder.enrollmentKeyFile, enrollmentKey)
  return ROBOTS.map((name) => {
    const places = [
      '--config',
      demo.folder.agentConfig(name),
      '--enrollment-key-file',
      demo.folder.enrollmentKeyFile,
    ]
    return startPart(demo, name, ['agent', 'run', '--server', url, '--name', name, ...places])
  })
}

/** Shows the robots until interrupted or the time is over; answers with the names that were seen online. */
async function watch(demo: Demo, client: Client, watchMs: number): Promise<Set<string>> {
  const { terminal, view } = demo
  const online = new Set<string>()
  const fleetNames = await fleetNamesOf(client)
  const endsAt = terminal.clock.monotonic() + watchMs
  while (!terminal.interruption().aborted && terminal.clock.monotonic() < endsAt) {
    const { items } = await client.list<Robot>('/api/robots', { sort: 'name' })
    for (const robot of items) if (robot.connection === 'online') online.add(robot.name)
    if (!terminal.interruption().aborted) view.robots(items, fleetNames)
    await pause(terminal, Math.max(0, Math.min(POLL_MS, endsAt - terminal.clock.monotonic())))
  }
  return online
}

/** Robots first, so that the server sees them leave. */
async function stopAll({ parts }: Demo): Promise<void> {
  const [server, ...robots] = parts
  await Promise.all(robots.map((robot) => robot.stop(ROBOT_STOP_MS)))
  await server?.stop(SERVER_STOP_MS)
}

async function play(demo: Demo, watchMs: number, share: (around: Surroundings) => void): Promise<number> {
  const { terminal, view, folder } = demo
  const ownerToken = mintCheckedToken('personal')
  view.step('Starting a server with a PostgreSQL of its own …')
  const url = await startServer(demo, ownerToken)
  if (url === undefined) return EXIT.fine
  share({ url, ownerToken, folder })
  const client = createClient({ url, apiKey: ownerToken })
  view.step(`The server is ready at ${url}. Starting ${ROBOTS.length} robots …`)
  startRobots(demo, url, await makeKey(client))
  const online = await Promise.race([watch(demo, client, watchMs), ...demo.parts.map(failWhenEnded)])
  view.close()
  const missing = ROBOTS.filter((name) => !online.has(name))
  if (missing.length === 0) terminal.out.write('All three robots came online.\n')
  else terminal.out.write(`Never online: ${missing.join(', ')}\n`)
  // Whoever ends the demo by hand has seen what they wanted; a time limit is a question that wants an answer.
  return missing.length === 0 || terminal.interruption().aborted ? EXIT.fine : EXIT.error
}

/** Runs the demo from start to end and answers with the exit code. */
export async function runDemo(terminal: Terminal, options: DemoOptions): Promise<number> {
  const watchMs = options.for === undefined ? Number.POSITIVE_INFINITY : secondsOf(options.for) * 1_000
  const folder = makeDemoFolder('.')
  let around: Surroundings | undefined
  const view = createView(terminal, () => around)
  const demo: Demo = { terminal, folder, parts: [], view }
  try {
    return await play(demo, watchMs, (shared) => {
      around = shared
    })
  } catch (error) {
    if (!(error instanceof PartEnded)) throw error
    view.close()
    terminal.err.write(`${[error.message, ...error.lines].join('\n')}\n`)
    throw new CliError(`the demo failed; its logs are in ${folder.path}/logs`)
  } finally {
    view.close()
    terminal.out.write('Stopping everything …\n')
    await stopAll(demo)
    folder.tidy()
    terminal.out.write(`Stopped. The logs are in ${folder.path}/logs\n`)
  }
}
