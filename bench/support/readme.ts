import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { packageRoot } from '../../src/package.ts'
import { inWords } from './measure.ts'
import type { KeptReport } from './report.ts'

const RESULTS = join(packageRoot, 'bench', 'results')
const CHARTS = join(packageRoot, 'bench', 'charts')
const README = join(packageRoot, 'bench', 'README.md')
const BEGIN = '<!-- results: written by the benches, from results/*.json -->'
const END = '<!-- end of results -->'
/** More of the machine than this in other programs' hands, and a run is not to be relied on. */
const QUIET = 0.05

function sectionOf({ name, question, command, date, machine, figures, others_share }: KeptReport): string {
  const { processor, cores, memory_gib, system, node } = machine
  const disturbed =
    others_share > QUIET
      ? ` **Disturbed**: other programs used ${Math.round(others_share * 100)} % of the machine meanwhile.`
      : ''
  return [
    `### ${name}`,
    '',
    `${question}.`,
    '',
    `\`${command}\`, ${date.slice(0, 10)}, Node ${node}, ${processor} with ${cores} cores and ${memory_gib} GiB, ` +
      `${system}.${disturbed}`,
    '',
    ...(existsSync(join(CHARTS, `${name}.svg`)) ? [`![${name}](charts/${name}.svg)`, ''] : []),
    '| figure | median (lowest–highest round) |',
    '| --- | ---: |',
    ...figures.map(({ what, spread, digits, headline }) => {
      const words = inWords(spread, digits)
      return headline ? `| **${what}** | **${words}** |` : `| ${what} | ${words} |`
    }),
  ].join('\n')
}

/** Writes the results of all benches into the README, between its two marks. */
export async function writeResultsIntoReadme(): Promise<void> {
  const files = (await readdir(RESULTS)).filter((file) => file.endsWith('.json')).toSorted()
  const reports = await Promise.all(
    files.map(async (file) => JSON.parse(await readFile(join(RESULTS, file), 'utf8')) as KeptReport),
  )
  const text = await readFile(README, 'utf8')
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error('bench/README.md has lost the marks around its results')
  const results = [BEGIN, ...reports.map(sectionOf), END].join('\n\n')
  await writeFile(README, text.slice(0, begin) + results + text.slice(end + END.length))
}
