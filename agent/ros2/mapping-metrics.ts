import { METRIC_NAME } from '../../src/protocol/limits.ts'
import { OWN_METRICS } from '../local/limits.ts'
import type { Status } from './mapping-diagnostics.ts'

/** One key of one status that becomes a metric. */
export interface MetricRule {
  readonly metric: string
  /** The status's name, or `name@hardware`. */
  readonly status: string
  readonly key: string
}

/** Metrics of the bridge itself begin so. */
export const BRIDGE_METRICS = 'ros2_'

/** Reads `metric=status#key`; the last # counts, for names may hold some. Answers with what is wrong otherwise. */
export function parseMetricRule(text: string): MetricRule | string {
  const [, metric, status, key] = /^([^=]*)=(.*)#([^#]*)$/s.exec(text) ?? []
  if (metric === undefined || !status?.trim() || !key?.trim()) return 'must be metric=status#key'
  if (!METRIC_NAME.test(metric))
    return 'must begin with a metric’s name: lower-case letters, digits and _, at most 63 characters'
  const own = [OWN_METRICS, BRIDGE_METRICS].find((prefix) => metric.startsWith(prefix))
  if (own) return `must not set a metric that begins with ${own}`
  return { metric, status: status.trim(), key: key.trim() }
}

const WITH_UNIT = /^([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*[%°µ\p{L}/²³]{0,8}$/u

/** The number in a diagnostic value: `12.5`, `85 %`, `41.2 C`, `True`; undefined when it is none. */
export function numberOf(text: string): number | undefined {
  const trimmed = text.slice(0, 64).trim()
  if (/^true$/i.test(trimmed)) return 1
  if (/^false$/i.test(trimmed)) return 0
  const number = Number(WITH_UNIT.exec(trimmed)?.[1])
  return Number.isFinite(number) ? number : undefined
}

/** The metrics that the statuses give by the rules. */
export function metricsOf(
  statuses: Iterable<Status>,
  rules: readonly MetricRule[],
): ReadonlyMap<string, number> {
  const metrics = new Map<string, number>()
  if (rules.length === 0) return metrics
  for (const { name, hardware, values } of statuses)
    for (const { metric, status, key } of rules) {
      if (status !== name && status !== `${name}@${hardware}`) continue
      const found = values.find(([named]) => named === key)
      const number = found && numberOf(found[1])
      if (number !== undefined) metrics.set(metric, number)
    }
  return metrics
}
