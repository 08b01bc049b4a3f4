import {
  AggregatorRegistry,
  type MetricObject,
  type MetricObjectWithValues,
  type MetricValue,
  type Registry,
} from 'prom-client'
import type { Series } from './messages.ts'

type Metric = MetricObjectWithValues<MetricValue<string>>

/** What each process has of its own, and a sum says nothing about: Node's and the operating system's. */
const OF_ONE_PROCESS = /^beacon_(nodejs|process)_/

const NOBODY: ReadonlySet<string> = new Set()

/** Whether it only ever grows, so that what a process that has ended counted still counts. */
const isCumulative = (metric: MetricObject) =>
  // As Node's registry spells them in JSON.
  (metric.type as unknown as string) === 'counter' || (metric.type as unknown as string) === 'histogram'

/**
 * Series of several processes, told together. What they count is summed, over those that have ended, too: a sum that
 * went back would look as if everything had begun anew. What is true at a moment is summed over those that answered.
 */
export class Reports {
  /** Counters of processes that have ended. */
  #past: Metric[] = []
  readonly #latest = new Map<string, readonly Metric[]>()

  take(process: string, series: Series): void {
    this.#latest.set(process, series as readonly Metric[])
  }

  /** The process has ended: what it had counted last stays counted. */
  settle(process: string): void {
    const last = this.#latest.get(process)
    if (!last) return
    this.#latest.delete(process)
    const counted = last.filter((metric) => isCumulative(metric) && !OF_ONE_PROCESS.test(metric.name))
    this.#past = sumOf([this.#past, counted])
  }

  /** The text format, together with this process's own series. `answered`: whose reports are of this moment. */
  async text(own: Registry, ownName: string, answered: ReadonlySet<string> = NOBODY): Promise<string> {
    const ownSeries = (await own.getMetricsAsJSON()) as Metric[]
    const all = [
      { name: ownName, series: ownSeries, present: true },
      ...[...this.#latest].map(([name, series]) => ({ name, series, present: answered.has(name) })),
    ]
    const shared = all.map(({ series, present }) =>
      series.filter((metric) => !OF_ONE_PROCESS.test(metric.name) && (present || isCumulative(metric))),
    )
    const single = all.flatMap(({ name, series, present }) =>
      present
        ? [
            series
              .filter((metric) => OF_ONE_PROCESS.test(metric.name))
              .map((metric) => labelled(metric, name)),
          ]
        : [],
    )
    return AggregatorRegistry.aggregate([this.#past, ...shared, ...single] as unknown as object[]).metrics()
  }
}

function labelled(metric: Metric, process: string): Metric {
  return {
    ...metric,
    // Each has its own label now: nothing is left to sum, or to leave out.
    aggregator: 'first',
    values: metric.values.map((value) => ({ ...value, labels: { ...value.labels, process } })),
  }
}

function sumOf(reports: readonly (readonly Metric[])[]): Metric[] {
  // The sums stand in it with their values.
  return AggregatorRegistry.aggregate(reports as unknown as object[]).getMetricsAsArray() as Metric[]
}
