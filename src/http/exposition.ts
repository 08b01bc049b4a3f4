/** How series are told to Prometheus: its own text format, or OpenMetrics, which came out of it. */
export type Exposition = 'text' | 'openmetrics'

export const EXPOSITION_TYPES: Readonly<Record<Exposition, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** OpenMetrics says with it that nothing was cut off. */
const END: Readonly<Record<Exposition, string>> = { text: '', openmetrics: '# EOF\n' }

export type Labels = Readonly<Record<string, string>>

function escapeLine(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function escapeQuoted(text: string): string {
  return escapeLine(text).replaceAll('"', '\\"')
}

function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf'
  return String(value)
}

/** The two lines that stand before a gauge's samples. */
export function gaugeHeader(format: Exposition, name: string, help: string): string {
  const shown = format === 'text' ? escapeLine(help) : escapeQuoted(help)
  return `# HELP ${name} ${shown}\n# TYPE ${name} gauge\n`
}

export function sampleLine(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeQuoted(text)}"`)
  return `${name}{${pairs.join(',')}} ${formatNumber(value)}\n`
}

/** What comes after the last series. */
export function expositionEnd(format: Exposition): string {
  return END[format]
}

/**
 * Series in the text format as OpenMetrics tells them, but for its end: a counter's family is named without `_total`, its
 * samples with it, quotation marks in help are escaped, and no line is empty.
 */
export function asOpenMetrics(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+) counter$/gm)].map((found) => found[1]!))
  const familyOf = (name: string) => (counters.has(name) ? name.replace(/_total$/, '') : name)
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line)
      if (comment) {
        const [, kind, name = '', rest = ''] = comment
        return `# ${kind} ${familyOf(name)} ${kind === 'HELP' ? rest.replaceAll('"', '\\"') : rest}\n`
      }
      const name = /^[\w:]+/.exec(line)?.[0] ?? ''
      const counted = counters.has(name) && !name.endsWith('_total') ? `${name}_total` : name
      return `${counted}${line.slice(name.length).replace(/ Nan$/, ' NaN')}\n`
    })
    .join('')
}
