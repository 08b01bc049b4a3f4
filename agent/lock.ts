import { closeSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { AgentExit, EXIT } from './exit.ts'
import { describeFileError, makeFolder } from './files.ts'
import { objectIn } from './http.ts'
import type { Places } from './places.ts'
import type { Clock, Random } from './runtime.ts'

/** Held while this process is the one agent of an identity. */
export interface Lock {
  /** What a caller on the local socket is told, as JSON. */
  answerWith(answer: () => unknown): void
  release(): void
}

const TRIES = 10
const LOOKS = 40
const LOOK_PAUSE_MS = 25
const ANSWER_LIMIT_BYTES = 64 * 1024
const ANSWER_TIMEOUT_MS = 2_000

/** What a process answers that has made itself known and does not hold the identity yet. */
const TRYING = JSON.stringify({ trying: true })

/**
 * Takes the identity for this process, or returns undefined when another process has it.
 *
 * Each process first makes itself known by a listening socket with a name of its own, and only then looks for others:
 * of two that try, the later one must see the earlier, so two can never both find nobody. A killed process leaves a
 * socket that nobody answers; removing it can hurt nobody, for names are never used twice.
 */
export async function takeLock(places: Places, clock: Clock, random: Random): Promise<Lock | undefined> {
  for (let attempt = 1; ; attempt++) {
    const own = await announce(places, random)
    const outcome = await contend(places, own.name, clock)
    if (outcome === 'won') {
      own.answerWith(() => ({}))
      await removeUnnamed(places, clock)
      return own
    }
    own.release()
    if (outcome === 'held' || attempt === TRIES) return undefined
    await clock.sleep(50 + random.fraction() * 150)
  }
}

/** Among those that try at the same time, the first by name waits for the others to step back. */
async function contend(places: Places, ownName: string, clock: Clock): Promise<'won' | 'held' | 'step back'> {
  for (let look = 1; look <= LOOKS; look++) {
    const others = (await liveSockets(places, clock)).filter(({ name }) => name !== ownName)
    if (others.length === 0) return 'won'
    if (others.some(({ answer }) => answer !== TRYING)) return 'held'
    if (others.some(({ name }) => name < ownName)) return 'step back'
    await clock.sleep(LOOK_PAUSE_MS)
  }
  return 'step back'
}

/** The status that the agent running on this identity gives; undefined when none runs. */
export async function askRunningAgent(places: Places, clock: Clock): Promise<unknown> {
  const folder = openFolder(places.stateDir)
  if (!folder) return undefined
  try {
    for (const name of socketNames(places)) {
      const answer = await call(folder.pathOf(name), clock)
      if (answer === undefined || answer === TRYING) continue
      const status = objectIn(answer)
      if (!status) throw new AgentExit(EXIT.error, 'an agent is running, but it does not answer')
      return status
    }
    return undefined
  } finally {
    folder.close()
  }
}

/** Files of this identity's sockets, also those left behind. */
function socketNames(places: Places, ending = ''): string[] {
  return namesIn(places.stateDir).filter((name) => {
    if (!name.startsWith(`${places.stem}.`) || !name.endsWith(ending)) return false
    return /^[0-9a-f]{16}\.sock$/.test(name.slice(places.stem.length + 1, name.length - ending.length))
  })
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new AgentExit(EXIT.error, `cannot read the folder ${folder}: ${describeFileError(folder, error)}`)
  }
}

async function announce(
  places: Places,
  random: Random,
  triesLeft = TRIES,
): Promise<Lock & { readonly name: string }> {
  makeStateFolder(places)
  const folder = openFolder(places.stateDir)
  if (!folder) throw new AgentExit(EXIT.error, `the folder ${places.stateDir} went away`)
  const name = `${places.stem}.${random.bytes(8).toString('hex')}.sock`
  const fresh = `${name}.tmp`
  let answer: () => unknown = () => JSON.parse(TRYING)
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.end(JSON.stringify(answer()))
  })
  try {
    await listen(server, folder.pathOf(fresh))
    // The socket gets its name only once it listens: before that it would look like one left behind.
    renameSync(join(places.stateDir, fresh), join(places.stateDir, name))
  } catch (error) {
    server.close()
    folder.close()
    // Who got the lock a moment ago may have taken it for one left behind.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && triesLeft > 0)
      return announce(places, random, triesLeft - 1)
    const why = describeFileError(places.stateDir, error)
    throw new AgentExit(EXIT.error, `cannot make a local socket in ${places.stateDir}: ${why}`)
  }
  return {
    name,
    answerWith: (next) => {
      answer = next
    },
    release() {
      rmSync(join(places.stateDir, name), { force: true })
      server.close()
      folder.close()
    },
  }
}

function makeStateFolder(places: Places): void {
  try {
    makeFolder(places.stateDir)
  } catch (error) {
    const why = describeFileError(places.stateDir, error)
    throw new AgentExit(EXIT.error, `cannot make the folder ${places.stateDir}: ${why}`)
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
}

async function liveSockets(places: Places, clock: Clock): Promise<{ name: string; answer: string }[]> {
  const folder = openFolder(places.stateDir)
  if (!folder) return []
  const live: { name: string; answer: string }[] = []
  try {
    for (const name of socketNames(places)) {
      const answer = await call(folder.pathOf(name), clock)
      if (answer === undefined) rmSync(join(places.stateDir, name), { force: true })
      else live.push({ name, answer })
    }
  } finally {
    folder.close()
  }
  return live
}

/** Removes sockets of processes that were killed before they had given them a name. */
async function removeUnnamed(places: Places, clock: Clock): Promise<void> {
  const folder = openFolder(places.stateDir)
  if (!folder) return
  try {
    for (const name of socketNames(places, '.tmp'))
      if ((await call(folder.pathOf(name), clock)) === undefined)
        rmSync(join(places.stateDir, name), { force: true })
  } finally {
    folder.close()
  }
}

/** What the process behind a socket answers; undefined when there is none. Whatever else goes wrong, somebody may be there. */
function call(path: string, clock: Clock): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connect(path)
    const timer = clock.after(ANSWER_TIMEOUT_MS, () => finish(''))
    const finish = (result: string | undefined) => {
      timer.cancel()
      socket.destroy()
      resolve(result)
    }
    socket.setEncoding('utf8')
    socket.on('data', (part) => {
      text += part
      if (text.length > ANSWER_LIMIT_BYTES) finish('')
    })
    socket.once('end', () => finish(text))
    socket.once('error', (error: NodeJS.ErrnoException) =>
      finish(error.code === 'ECONNREFUSED' || error.code === 'ENOENT' ? undefined : ''),
    )
  })
}

interface Folder {
  pathOf(name: string): string
  close(): void
}

/** The address of a socket holds about 100 bytes, and folders may lie deeper: Linux has a short name for an open one. */
const MAX_SOCKET_PATH = 100

function openFolder(path: string): Folder | undefined {
  if (process.platform !== 'linux' || Buffer.byteLength(path) + 40 < MAX_SOCKET_PATH)
    return { pathOf: (name) => join(path, name), close: () => {} }
  try {
    const descriptor = openSync(path, 'r')
    return { pathOf: (name) => `/proc/self/fd/${descriptor}/${name}`, close: () => closeSync(descriptor) }
  } catch {
    return undefined
  }
}
