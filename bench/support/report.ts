import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, loadavg, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../src/package.ts'
import type { Spread } from './measure.ts'

export interface Report {
  /** Also the name of the bench and of its result file. */
  readonly name: string
  readonly question: string
  readonly answer: string
  readonly settings: Readonly<Record<string, unknown>>
  readonly results: Readonly<Record<string, unknown>>
}

/** `1,234 (1,100–1,300)` */
export function inWords({ median, min, max }: Spread, digits = 0): string {
  const [middle, low, high] = [median, min, max].map((value) =>
    value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }),
  )
  return `${middle} (${low}–${high})`
}

/** Prints a bench's answer and keeps it in bench/results with where and how it came about. */
export async function saveReport(report: Report): Promise<void> {
  const processors = cpus()
  const kept = {
    ...report,
    date: new Date().toISOString(),
    command: `npm run bench ${report.name}`,
    machine: {
      processor: processors[0]?.model ?? 'unknown',
      cores: processors.length,
      memory_gib: Math.round(totalmem() / 2 ** 30),
      // Above the number of cores, others were at work too.
      load_average: Math.round(loadavg()[0]! * 10) / 10,
      system: `${type()} ${release()}`,
      node: process.version,
    },
  }
  const folder = join(packageRoot, 'bench', 'results')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${report.name}.json`), `${JSON.stringify(kept, null, 2)}\n`)
  process.stdout.write(`${report.question}\n${report.answer}\n`)
}
