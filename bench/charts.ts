import { drawCharts } from './support/chart.ts'
import { writeResultsIntoReadme } from './support/readme.ts'

// Draws the charts of all results that are kept, and writes the README anew.

const names = await drawCharts()
await writeResultsIntoReadme()
process.stdout.write(`drawn into bench/charts: ${names.join(', ') || 'nothing'}\n`)
