import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { describe, expect, test } from 'vitest'
import { asOpenMetrics, gaugeHeader } from '../../src/http/exposition.ts'
import { chooseExposition } from '../../src/http/exposition-choice.ts'

const OM = 'application/openmetrics-text'

describe('the format of a scrape', () => {
  test.each([
    // What Prometheus sends, of several versions.
    `${OM};version=1.0.0,${OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1`,
    `${OM};version=1.0.0;q=0.8,${OM};version=0.0.1;q=0.7,text/plain;version=0.0.4;q=0.6,*/*;q=0.2`,
    `${OM}; version=1.0.0; charset=utf-8`,
    `${OM};version="1.0.0"`,
    `Application/OpenMetrics-Text;Version=1.0.0`,
    OM,
    `${OM};q=0.3`,
    `text/plain;q=0.5,${OM};q=0.5`,
    `${OM};version=1.0.0;q=0.001`,
    `${OM};version=0.0.1;q=0,${OM};version=1.0.0`,
  ])('OpenMetrics for %s', (accept) => expect(chooseExposition(accept)).toBe('openmetrics'))

  test.each([
    undefined,
    '',
    '*/*',
    'application/*',
    'text/plain',
    'text/html,application/xhtml+xml,*/*;q=0.8',
    `${OM};version=1.0.0;q=0`,
    `${OM};version=1.0.0;q=0.4,text/plain;q=0.5`,
    `${OM};version=1.0.0;q=0.4,*/*;q=0.5`,
    `${OM};version=0.0.1`,
    `${OM};version=2.0.0,text/plain;version=0.0.4`,
    `${OM};q=0,${OM};version=0.0.1`,
    `${OM};q=nonsense`,
    `${OM};q=2`,
    `${OM}${';q=1'.repeat(1_000)}`,
    ';;;,,,/,=;q=',
  ])('the text format for %s', (accept) => expect(chooseExposition(accept)).toBe('text'))
})

test('series in the text format are told as OpenMetrics', async () => {
  const registry = new Registry()
  const registers = [registry]
  new Counter({ name: 'a_total', help: 'A "quoted" \\ back\nslash', labelNames: ['l'], registers }).inc({
    l: 'x_total "y" # TYPE',
  })
  new Counter({ name: 'bare', help: 'Without a suffix', registers }).inc(2)
  new Gauge({ name: 'empty', help: 'Nothing yet', labelNames: ['l'], registers })
  new Gauge({ name: 'none', help: 'Not a number', registers }).set(Number.NaN)
  new Histogram({ name: 'h', help: 'Times', buckets: [1], registers }).observe(0.5)
  expect(asOpenMetrics(await registry.metrics())).toBe(
    String.raw`# HELP a A \"quoted\" \\ back\nslash
# TYPE a counter
a_total{l="x_total \"y\" # TYPE"} 1
# HELP bare Without a suffix
# TYPE bare counter
bare_total 2
# HELP empty Nothing yet
# TYPE empty gauge
# HELP none Not a number
# TYPE none gauge
none NaN
# HELP h Times
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 1
h_sum 0.5
h_count 1
`,
  )
})

test('help of a gauge is escaped as each format wants it', () => {
  expect(gaugeHeader('text', 'g', 'a "b" \\ \n')).toBe('# HELP g a "b" \\\\ \\n\n# TYPE g gauge\n')
  expect(gaugeHeader('openmetrics', 'g', 'a "b" \\ \n')).toBe('# HELP g a \\"b\\" \\\\ \\n\n# TYPE g gauge\n')
})
