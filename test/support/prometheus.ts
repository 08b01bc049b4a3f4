import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.ts'

interface Programs {
  readonly prometheus: string
  readonly promtool: string
}

const FOLDERS = [process.env.BEACON_TEST_PROMETHEUS, '/usr/bin', '/usr/local/bin', '/opt/homebrew/bin']

/**
 * The Prometheus that tests run, or undefined after one line that says that they are left out. In a pipeline (`CI`) they
 * are not: it throws.
 */
export function prometheusOrLeaveOut(what: string): Programs | undefined {
  for (const folder of FOLDERS) {
    if (!folder) continue
    const found = { prometheus: join(folder, 'prometheus'), promtool: join(folder, 'promtool') }
    if (existsSync(found.prometheus) && existsSync(found.promtool)) return found
  }
  const how = `${what}: no Prometheus; get it with: apt-get install prometheus, or name its folder in BEACON_TEST_PROMETHEUS`
  if (process.env.CI) throw new Error(how)
  process.stderr.write(`LEFT OUT: ${how}\n`)
  return undefined
}

/** Runs promtool, and answers with what it says and whether it found nothing wrong. */
export function runPromtool(
  { promtool }: Programs,
  args: readonly string[],
  input = '',
): Promise<{ readonly ok: boolean; readonly output: string }> {
  return new Promise((resolve) => {
    const child = execFile(promtool, args, { timeout: 60_000 }, (error, stdout, stderr) =>
      resolve({ ok: error === null, output: stdout + stderr }),
    )
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

const alive = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/** A real Prometheus with a folder of its own. */
export class Prometheus {
  readonly url: string
  readonly #child: ChildProcess
  readonly #folder: string
  #output = ''

  private constructor(child: ChildProcess, url: string, folder: string) {
    this.#child = child
    this.url = url
    this.#folder = folder
    alive.add(child)
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text
      })
  }

  /** What it has said. */
  get output(): string {
    return this.#output
  }

  /** Starts it with these settings, and waits until it takes queries. */
  static async start({ prometheus }: Programs, config: string): Promise<Prometheus> {
    const folder = await mkdtemp(join(tmpdir(), 'beacon-prometheus-'))
    const file = join(folder, 'prometheus.yml')
    await writeFile(file, config)
    const port = await freePort()
    const child = spawn(
      prometheus,
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { env: {}, stdio: ['ignore', 'pipe', 'pipe'] },
    )
    const running = new Prometheus(child, `http://127.0.0.1:${port}`, folder)
    try {
      await eventually(() => {
        if (child.exitCode !== null) throw new Error(`Prometheus ended: ${running.#output}`)
        return fetch(`${running.url}/-/ready`).then(
          ({ ok }) => ok,
          () => false,
        )
      }, 'Prometheus')
    } catch (error) {
      await running.stop()
      throw error
    }
    return running
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers of Prometheus's own interface
  async api(path: string, form: Record<string, string> = {}): Promise<any> {
    const isQuery = Object.keys(form).length > 0
    const response = await fetch(`${this.url}/api/v1/${path}`, {
      ...(isQuery && { method: 'POST', body: new URLSearchParams(form) }),
      signal: AbortSignal.timeout(10_000),
    })
    const answer = (await response.json()) as { status: string; error?: string; data: unknown }
    if (answer.status !== 'success') throw new Error(`${path} ${JSON.stringify(form)}: ${answer.error}`)
    return answer.data
  }

  /** What a PromQL expression gives now. */
  async query(expression: string): Promise<Sample[]> {
    const { resultType, result } = await this.api('query', { query: expression })
    if (resultType === 'scalar') return [{ labels: {}, value: Number(result[1]) }]
    return result.map(({ metric, value }: { metric: Record<string, string>; value: [number, string] }) => ({
      labels: metric,
      value: Number(value[1].replace('Inf', 'Infinity')),
    }))
  }

  /** The one number that an expression gives; undefined where it gives none. */
  async value(expression: string): Promise<number | undefined> {
    const samples = await this.query(expression)
    if (samples.length > 1) throw new Error(`${expression} gives ${samples.length} series`)
    return samples[0]?.value
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'close')
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL')
      await ended
    }
    alive.delete(this.#child)
    await rm(this.#folder, { recursive: true, force: true })
  }
}
