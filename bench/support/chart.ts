import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { packageRoot } from '../../src/package.ts'
import { barChart } from './bar-chart.ts'
import { flappingChart } from './flapping-chart.ts'
import { growthChart } from './growth-chart.ts'
import type { KeptReport } from './report.ts'
import { soakChart } from './soak-chart.ts'

const RESULTS = join(packageRoot, 'bench', 'results')
const CHARTS = join(packageRoot, 'bench', 'charts')

/** Those with a chart of their own kind; all others have bars, when their report says which. */
const DRAWN: Readonly<Record<string, (rounds: never) => string>> = {
  soak: soakChart,
  growth: growthChart,
  'agent-flapping': flappingChart,
}

function draw(report: KeptReport): string | undefined {
  const own = DRAWN[report.name]
  if (own) return own(report.rounds as never)
  return report.chart === undefined ? undefined : barChart(report.chart)
}

/** Draws what bench/results holds into bench/charts, as `<name>.svg`; answers the names. */
export async function drawCharts(): Promise<string[]> {
  await mkdir(CHARTS, { recursive: true })
  const names: string[] = []
  for (const file of (await readdir(RESULTS)).filter((name) => name.endsWith('.json')).toSorted()) {
    const report = JSON.parse(await readFile(join(RESULTS, file), 'utf8')) as KeptReport
    const svg = draw(report)
    if (svg === undefined) continue
    await writeFile(join(CHARTS, `${report.name}.svg`), `${svg}\n`)
    names.push(report.name)
  }
  return names
}
