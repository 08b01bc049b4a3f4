import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { beacon } from './fake-terminal.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'beacon.js')
const ONLINE = [1, 2, 3].map((number) => new RegExp(`warehouse-bot-0${number}: .*online`))

class RunningDemo {
  readonly folder: string
  readonly process: ChildProcess
  readonly ended: Promise<number | null>
  output = ''
  #waiting: (() => void)[] = []

  constructor(args: readonly string[], folderMode: number) {
    this.folder = mkdtempSync(join(tmpdir(), 'beacon-demo-test-'))
    chmodSync(this.folder, folderMode)
    this.process = spawn(process.execPath, [program, 'demo', ...args], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk
        for (const look of this.#waiting) look()
      })
    this.ended = once(this.process, 'close').then(([code]) => code as number | null)
  }

  /** Resolves once all patterns stand in the output; rejects when the demo ends before. */
  said(...patterns: readonly RegExp[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => patterns.every((pattern) => pattern.test(this.output)) && resolve()
      this.#waiting.push(look)
      look()
      void this.ended.then(() => reject(new Error(`the demo ended, having said:\n${this.output}`)))
    })
  }
}

/** In a folder that everybody may pass through, unless `folderMode` says otherwise. */
function startDemo(args: readonly string[] = [], folderMode = 0o711): RunningDemo {
  const demo = new RunningDemo(args, folderMode)
  onTestFinished(async () => {
    demo.process.kill('SIGINT')
    await demo.ended
    rmSync(demo.folder, { recursive: true, force: true })
  })
  return demo
}

interface RunningProcess {
  readonly id: number
  readonly parent: number
  readonly command: string
}

/** Every process there is, apart from those that have ended and only wait to be noticed. */
function processes(): RunningProcess[] {
  if (!existsSync('/proc/self/stat')) {
    const lines = execFileSync('ps', ['-axo', 'pid=,ppid=,command='], { encoding: 'utf8' }).split('\n')
    return lines.flatMap((line) => {
      const [, id, parent, command = ''] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? []
      return id === undefined || command.includes('<defunct>')
        ? []
        : [{ id: Number(id), parent: Number(parent), command }]
    })
  }
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, 'utf8')
        const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
        const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return state === 'Z' || state === 'X' ? [] : [{ id: Number(entry), parent: Number(parent), command }]
      } catch {
        return [] // Gone since.
      }
    })
}

/** Processes that descend from the one with this id, however far. */
function descendantsOf(root: number | undefined): RunningProcess[] {
  const all = processes()
  const childrenOf = (id: number): RunningProcess[] =>
    all.filter(({ parent }) => parent === id).flatMap((child) => [child, ...childrenOf(child.id)])
  return childrenOf(root ?? -1)
}

function stillRunning(parts: readonly RunningProcess[]): RunningProcess[] {
  const ids = new Set(processes().map(({ id }) => id))
  return parts.filter(({ id }) => ids.has(id))
}

describe('the demo', () => {
  test('brings three robots online, can be talked to, and leaves nothing running', async () => {
    // Also where PostgreSQL's own user, if we are root, could not reach its data.
    const demo = startDemo([], 0o700)
    await demo.said(...ONLINE, /owner token +rf_pat_/)
    const url = /export BEACON_URL=(\S+)/.exec(demo.output)?.[1] ?? ''
    const env = {
      BEACON_URL: url,
      BEACON_API_KEY: readFileSync(join(demo.folder, '.beacon-demo', 'owner-token'), 'utf8').trim(),
    }
    const list = await beacon(['robots', 'list', '--connection', 'online', '--json'], { env })
    const { items } = JSON.parse(list.stdout) as { items: { name: string }[] }
    expect(items.map(({ name }) => name)).toEqual([
      'warehouse-bot-01',
      'warehouse-bot-02',
      'warehouse-bot-03',
    ])
    const inspected = await beacon(['robots', 'inspect', 'warehouse-bot-02'], { env })
    expect(inspected.stdout).toMatch(/warehouse-bot-02 +online/)

    const parts = descendantsOf(demo.process.pid)
    expect(parts.filter(({ command }) => command.includes('postgres'))).not.toEqual([])
    expect(parts.filter(({ command }) => command.includes('agent run'))).toHaveLength(3)
    demo.process.kill('SIGINT')
    expect(await demo.ended).toBe(0)
    expect(stillRunning(parts)).toEqual([])
    expect((await beacon(['robots', 'list'], { env })).exitCode).toBe(4)
  })

  test('says which part died, with its last words', async () => {
    const demo = startDemo()
    await demo.said(...ONLINE)
    const robot = descendantsOf(demo.process.pid).find(({ command }) => command.includes('agent run'))
    if (!robot) throw new Error('no robot is running')
    process.kill(robot.id, 'SIGKILL')
    expect(await demo.ended).toBe(1)
    expect(demo.output).toMatch(/warehouse-bot-0\d was ended by SIGKILL; its last words:/)
    expect(demo.output).toMatch(/error: the demo failed; its logs are in /)
  })

  test('takes its parts along even when it is killed', async () => {
    const demo = startDemo()
    await demo.said(...ONLINE)
    const parts = descendantsOf(demo.process.pid)
    demo.process.kill('SIGKILL')
    await eventually(() => stillRunning(parts).length === 0, 'the end of all parts')
  })

  test('with a time limit tells by its exit code whether all robots came', async () => {
    const demo = startDemo(['--for', '0.001'])
    expect(await demo.ended).toBe(1)
    expect(demo.output).toContain('Never online: warehouse-bot-01')
  })
})
