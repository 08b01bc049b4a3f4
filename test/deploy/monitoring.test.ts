import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ALERTS, DASHBOARDS, DEPLOY, deployed, RULE_FILES } from '../support/monitoring.ts'
import { prometheusOrLeaveOut, runPromtool } from '../support/prometheus.ts'

const programs = prometheusOrLeaveOut('rules and settings of Prometheus')
const UNIT_TESTS = join(import.meta.dirname, 'prometheus-rules.yml')

describe.runIf(programs)('promtool', () => {
  test.each([
    ['check', 'config', '--syntax-only', join(DEPLOY, 'prometheus/prometheus.yml')],
    ['check', 'rules', '--lint=all', '--lint-fatal', ...RULE_FILES],
    ['test', 'rules', UNIT_TESTS],
  ])('%s %s finds nothing wrong', async (...args) => {
    const { ok, output } = await runPromtool(programs!, args)
    expect(ok, output).toBe(true)
  })
})

test.each(ALERTS)(
  '$alert says how bad it is, what it is about and what to do, and is tried both ways',
  (rule) => {
    expect(['warning', 'critical']).toContain(rule.labels.severity)
    expect(rule.annotations.summary).toMatch(/\{\{ \$labels\.|^Prometheus knows of no/)
    expect(rule.annotations.runbook!.length).toBeGreaterThan(40)
    const { tests } = parse(readFileSync(UNIT_TESTS, 'utf8')) as {
      tests: { promql_expr_test: { expr: string; exp_samples: unknown[] }[] }[]
    }
    const tried = tests
      .flatMap(({ promql_expr_test }) => promql_expr_test)
      .filter(({ expr }) => expr.includes(`"${rule.alert}", alertstate="firing"`))
    expect(new Set(tried.map(({ exp_samples }) => exp_samples.length))).toEqual(new Set([0, 1]))
  },
)

test('docs/monitoring.md lists every alert, how long it waits and how bad it is', () => {
  const documented = [
    ...readFileSync(join(DEPLOY, '../docs/monitoring.md'), 'utf8').matchAll(
      /^\| `(\w+)` \| .+ \| (.+) \| (\w+) \|$/gm,
    ),
  ].map(([, ...cells]) => cells)
  expect(documented).toEqual(ALERTS.map((rule) => [rule.alert, rule.for ?? 'at once', rule.labels.severity]))
})

describe.each(DASHBOARDS)('the dashboard $title', ({ panels, templating }) => {
  test('has panels that do not overlap, each with a description and one data source', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const taken = new Set<string>()
    for (const { type, title, description, gridPos, targets = [] } of panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(taken, title).not.toContain(`${x},${y}`)
          taken.add(`${x},${y}`)
        }
      if (type === 'row') continue
      expect(description, title).toBeTruthy()
      expect(targets.length, title).toBeGreaterThan(0)
      for (const { datasource } of targets) expect(datasource.uid).toMatch(/^\$\{datasource\}$/)
      expect(new Set(targets.map(({ refId }) => refId)).size, title).toBe(targets.length)
    }
  })

  test('asks for no variable that it does not have', () => {
    const known = templating.list.map(({ name }) => name)
    const asked = panels.flatMap(({ targets = [] }) =>
      targets.flatMap(({ expr }) => [...expr.matchAll(/\$(\w+)/g)].map((found) => found[1])),
    )
    expect(known).toEqual(expect.arrayContaining([...new Set(asked)]))
    expect(known).toEqual(expect.arrayContaining(['datasource', 'site', 'fleet']))
  })
})

describe('the monitoring profile of compose', () => {
  const compose = parse(deployed('compose.yml'))
  const { server, postgres, prometheus, grafana } = compose.services
  const mounts = ({ volumes }: { volumes: string[] }) => volumes.map((volume) => volume.split(':'))

  test('starts Prometheus and Grafana, and nothing else waits for it', () => {
    expect([prometheus.profiles, grafana.profiles]).toEqual([['monitoring'], ['monitoring']])
    expect([server.profiles, postgres.profiles]).toEqual([undefined, undefined])
    expect(JSON.stringify([server.depends_on, postgres.depends_on])).not.toMatch(/prometheus|grafana/)
  })

  test('lets them reach the server, and not its database or its secrets', () => {
    expect(server.networks).toContain('monitoring')
    for (const { networks, secrets } of [prometheus, grafana]) {
      expect(networks).toEqual(['monitoring'])
      expect(secrets).toHaveLength(1)
    }
    expect(postgres.networks ?? ['default']).toEqual(['default'])
    for (const service of [prometheus, grafana]) {
      expect(service).toMatchObject({ cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] })
      expect(service.ports[0]).toMatch(/:-127\.0\.0\.1:/)
      expect(service.image).toMatch(/:v?\d+\.\d+\.\d+$/)
    }
  })

  test('mounts what is there, where it is looked for', () => {
    for (const [from] of [...mounts(prometheus), ...mounts(grafana)])
      if (from!.startsWith('.')) expect([from, existsSync(join(DEPLOY, from!))]).toEqual([from, true])
      else expect(compose.volumes).toHaveProperty(from!)
    const { providers } = parse(deployed('grafana/provisioning/dashboards/beacon.yml'))
    expect(mounts(grafana)).toContainEqual(['./grafana/dashboards', providers[0].options.path, 'ro'])
    expect(grafana.environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH).toBe(
      `${providers[0].options.path}/fleet.json`,
    )
    const { datasources } = parse(deployed('grafana/provisioning/datasources/prometheus.yml'))
    expect(datasources[0].url).toBe('http://prometheus:9090')
    const settings = parse(deployed('prometheus/prometheus.yml'))
    expect(datasources[0].jsonData.timeInterval).toBe(settings.global.scrape_interval)
  })

  test('has a secret for each that make-secrets makes, and Prometheus reads its own', () => {
    const made = [...deployed('make-secrets').matchAll(/^keep (\w+) /gm)].map((found) => found[1])
    expect(made.sort()).toEqual(Object.keys(compose.secrets).sort())
    const [job] = parse(deployed('prometheus/prometheus.yml')).scrape_configs
    const file = `/run/secrets/${prometheus.secrets[0]}`
    expect(job.authorization.credentials_file).toBe(file)
    expect(job.http_sd_configs[0].authorization.credentials_file).toBe(file)
    expect(new URL(job.http_sd_configs[0].url).host).toBe(`server:${server.ports[0].split(':').at(-1)}`)
  })
})
