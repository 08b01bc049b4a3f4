import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'

/** What `deploy/` has for Prometheus and Grafana, as it stands there. */
export const DEPLOY = join(import.meta.dirname, '../../deploy')

export const deployed = (path: string) => readFileSync(join(DEPLOY, path), 'utf8')

export const RULE_FILES = ['recording', 'alerts'].map((name) => join(DEPLOY, `prometheus/rules/${name}.yml`))

export interface AlertRule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}

interface RecordingRule {
  readonly record: string
  readonly expr: string
}

const rules = RULE_FILES.flatMap((file) =>
  (
    parse(readFileSync(file, 'utf8')) as { groups: { rules: (AlertRule | RecordingRule)[] }[] }
  ).groups.flatMap((group) => group.rules),
)
export const ALERTS = rules.filter((rule): rule is AlertRule => 'alert' in rule)
export const RECORDINGS = rules.filter((rule): rule is RecordingRule => 'record' in rule)

export interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly datasource?: { readonly uid: string }
  readonly targets?: readonly {
    readonly refId: string
    readonly expr: string
    readonly legendFormat?: string
    readonly datasource: { readonly uid: string }
  }[]
}

export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly panels: readonly Panel[]
  readonly templating: {
    readonly list: readonly {
      readonly name: string
      readonly type: string
      readonly query: string | { readonly query: string }
      readonly regex?: string
    }[]
  }
}

export const DASHBOARDS = readdirSync(join(DEPLOY, 'grafana/dashboards')).map(
  (file) => JSON.parse(deployed(`grafana/dashboards/${file}`)) as Dashboard,
)
