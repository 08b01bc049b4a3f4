import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../src/package.ts'
import { drawCharts } from './chart.ts'
import { inWords, type Spread } from './measure.ts'
import { optionsGiven } from './options.ts'
import { cpuSecondsOfMachine, cpuSecondsOfTree } from './proc.ts'
import { writeResultsIntoReadme } from './readme.ts'

export interface Figure {
  readonly what: string
  readonly spread: Spread
  readonly digits?: number
  /** It answers the question; the others explain it. */
  readonly headline?: boolean
}

export interface Report {
  /** Also the name of the bench and of its result file. */
  readonly name: string
  readonly question: string
  readonly figures: readonly Figure[]
  readonly settings: Readonly<Record<string, unknown>>
  /** What each round gave. */
  readonly rounds: unknown
  /** What can be seen at a glance. */
  readonly chart?: BarChart
}

/** Each group has its own unit; its bars stand beside each other, and the aim is a line across them. */
export interface BarChart {
  readonly title: string
  readonly groups: readonly {
    readonly label: string
    readonly unit: string
    readonly bars: readonly { readonly name: string; readonly spread: Spread }[]
    /** In the same unit, and whether to be above or below it is good. */
    readonly aim?: { readonly value: number; readonly good: 'above' | 'below' }
  }[]
}

const begun = { at: performance.now(), machine: cpuSecondsOfMachine(), own: cpuSecondsOfTree(process.pid) }

/** How much of the machine programs that are not of this bench have had since it began: 0 to 1. */
function othersShare(): number {
  const own = cpuSecondsOfTree(process.pid) - begun.own
  const others = cpuSecondsOfMachine() - begun.machine - own
  const seconds = (performance.now() - begun.at) / 1000
  return Math.max(0, Math.round((others / seconds / cpus().length) * 100) / 100)
}

function keep(report: Report) {
  const processors = cpus()
  return {
    ...report,
    date: new Date().toISOString(),
    command: ['npm run bench', optionsGiven ? '--' : '', report.name, optionsGiven].filter(Boolean).join(' '),
    machine: {
      processor: processors[0]?.model ?? 'unknown',
      cores: processors.length,
      memory_gib: Math.round(totalmem() / 2 ** 30),
      system: `${type()} ${release()}`,
      node: process.version,
    },
    others_share: othersShare(),
  }
}

export type KeptReport = ReturnType<typeof keep>

/** Keeps a bench's answer, with where and how it came about, in bench/results and bench/README.md. */
export async function keepReport(report: Report): Promise<void> {
  const folder = join(packageRoot, 'bench', 'results')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${report.name}.json`), `${JSON.stringify(keep(report), null, 2)}\n`)
  await drawCharts()
  await writeResultsIntoReadme()
}

/** Prints a bench's answer and keeps it. */
export async function saveReport(report: Report): Promise<void> {
  await keepReport(report)
  const width = Math.max(...report.figures.map(({ what }) => what.length))
  const lines = report.figures.map(
    ({ what, spread, digits }) => `${what.padEnd(width)}  ${inWords(spread, digits)}`,
  )
  process.stdout.write(`${report.question}\n${lines.join('\n')}\n`)
}
