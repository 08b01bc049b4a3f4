import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { eventually } from '../support/eventually.ts'
import {
  ALERTS,
  DASHBOARDS,
  type Dashboard,
  deployed,
  type Panel,
  RECORDINGS,
  RULE_FILES,
} from '../support/monitoring.ts'
import { Prometheus, prometheusOrLeaveOut, runPromtool, type Sample } from '../support/prometheus.ts'
import { makeDataFolder } from '../support/server-process.ts'
import type { Fleet } from './independent/operator.ts'
import { enrol, newMachine, Session } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

const programs = prometheusOrLeaveOut('a real Prometheus against a real server')
const BEAT_MS = 500
const SILENT_FOR_S = 7_200

/** As `deploy/` has it, but at this server, in this folder, and in more of a hurry. */
async function startPrometheus(server: string, folder: string, token: string): Promise<Prometheus> {
  const file = join(folder, `token-${token.slice(-8)}`)
  await writeFile(file, token)
  const settings = parse(deployed('prometheus/prometheus.yml'))
  settings.global = { scrape_interval: '2s', scrape_timeout: '2s', evaluation_interval: '1s' }
  settings.rule_files = RULE_FILES
  const [job] = settings.scrape_configs
  const [discovery] = job.http_sd_configs
  discovery.url = discovery.url.replace('http://server:8080', server)
  discovery.refresh_interval = '1s'
  job.authorization.credentials_file = file
  discovery.authorization.credentials_file = file
  // Those of compose: here the address that the server tells leads to it.
  delete job.relabel_configs
  return Prometheus.start(programs!, stringify(settings))
}

interface Beating {
  readonly id: string
  readonly session: Session
  stop(): void
}

describe.runIf(programs)('a real Prometheus', () => {
  let scene: Scene
  let folder: string
  let arms: Fleet
  let prometheus: Prometheus
  let tokenId: string
  const robots: Record<string, string> = {}
  const beating: Beating[] = []

  /** A robot that enrols under a name, connects, and says the same again and again. */
  async function start(name: string, fleet: Fleet, says: Record<string, unknown>): Promise<Beating> {
    const server = scene.servers[0]!
    const { key_value } = await scene.operator.key(scene.site, fleet)
    const machine = newMachine()
    const { body } = await enrol(server.url, key_value, { name, machine })
    const session = await Session.open(body.gateway_url, body.robot_token!)
    session.hello(machine)
    await session.welcome()
    let seq = 0
    const beat = () => session.heartbeat(++seq, says)
    beat()
    const timer = setInterval(beat, BEAT_MS)
    await session.acked(1)
    robots[name] = body.robot_id
    const robot = {
      id: body.robot_id,
      session,
      stop() {
        clearInterval(timer)
        session.socket.terminate()
      },
    }
    beating.push(robot)
    return robot
  }

  const query = (expression: string) => prometheus.query(expression)
  const value = (expression: string) => prometheus.value(expression)
  const scrape = async (path: string, token = scene.adminToken) => {
    const response = await fetch(`${scene.servers[0]!.url}${path}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    expect(response.status).toBe(200)
    return response.text()
  }

  beforeAll(async () => {
    folder = await makeDataFolder()
    scene = await startScene({ env: { BEACON_GATEWAY_PROCESSES: '2', BEACON_BUS: 'postgres' } })
    arms = await scene.operator.fleet(scene.site.id, 'Arms "left"')
    const system = { cpu: 0.25, memory: 0.5, temperature_c: 41.5, load_1m: 0.5, uptime_s: 3600 }
    await start('Well', scene.fleet, {
      health: 'ok',
      battery: { charge: 0.8, charging: true, voltage: 25.5 },
      system: { ...system, disk: 0.5 },
      estop: false,
      metrics: { speed: 1.5, crates: 12 },
    })
    await start('Unwell', scene.fleet, {
      health: 'error',
      battery: { charge: 0.1, charging: false, voltage: 22 },
      system: { ...system, disk: 0.95 },
      estop: true,
      faults: ['lidar', 'motor'].map((code) => ({
        code,
        level: 'error',
        message: 'broken',
        since: '2026-01-01T00:00:00Z',
      })),
    })
    await start('Arm', arms, { health: 'warn', battery: { charge: 0.5 } })
    const gone = await start('Gone', scene.fleet, { health: 'ok', battery: { charge: 0.6 } })
    await scene.operator.must('POST', '/api/robots', {
      fleet_id: scene.fleet.id,
      name: 'Unseen',
    })
    gone.session.send({ type: 'bye', reason: 'shutdown' })
    gone.stop()
    await eventually(async () => (await scene.operator.robot(gone.id)).connection === 'offline')
    await scene.database.pool.query(
      'UPDATE robot_status SET last_seen_at = now() - make_interval(secs => $2) WHERE robot_id = $1',
      [gone.id, SILENT_FOR_S],
    )
    const made = await scene.operator.must<{ id: string; token: string }>('POST', '/api/tokens', {
      name: 'prometheus',
      scopes: ['metrics:read'],
    })
    tokenId = made.id
    prometheus = await startPrometheus(scene.servers[0]!.url, folder, made.token)
    // Every rule has been evaluated over several scrapes.
    await eventually(async () => ((await value('min(count_over_time(up{job="beacon"}[1m]))')) ?? 0) > 2)
    await eventually(async () => (await value('fleet:beacon_robots:sum{fleet="Carts"}')) === 4)
  }, 90_000)

  afterAll(async () => {
    for (const robot of beating) robot.stop()
    await prometheus?.stop()
    await scene?.end()
    await rm(folder, { recursive: true, force: true })
  })

  test('finds what to scrape by asking the server, and scrapes it as OpenMetrics', async () => {
    const { host } = new URL(scene.servers[0]!.url)
    const { activeTargets, droppedTargets } = await prometheus.api('targets')
    expect(droppedTargets).toEqual([])
    expect(
      activeTargets.map(({ labels, scrapeUrl, health, lastError }: Record<string, unknown>) => ({
        labels,
        scrapeUrl,
        health,
        lastError,
      })),
    ).toEqual(
      expect.arrayContaining([
        {
          labels: { job: 'beacon', instance: host },
          scrapeUrl: `http://${host}/metrics`,
          health: 'up',
          lastError: '',
        },
        {
          labels: { job: 'beacon', instance: `${host}/robots/0-of-1` },
          scrapeUrl: `http://${host}/metrics/robots?shard=0&shards=1`,
          health: 'up',
          lastError: '',
        },
      ]),
    )
    expect(activeTargets).toHaveLength(2)
    // The text format knows no family of this name.
    const metadata = await prometheus.api('metadata')
    expect(metadata.beacon_heartbeats_received).toMatchObject([{ type: 'counter' }])
    expect(metadata).not.toHaveProperty('beacon_heartbeats_received_total')
  })

  test.each(['/metrics', '/metrics/robots'])('promtool finds nothing wrong with %s', async (path) => {
    const { ok, output } = await runPromtool(programs!, ['check', 'metrics'], await scrape(path))
    expect([ok, output]).toEqual([true, ''])
  })

  test('tells of every robot what it says', async () => {
    const of = (name: string) => `beacon_robot_${name} * on (robot_id) group_left (name) beacon_robot_info`
    const byName = async (series: string) =>
      Object.fromEntries((await query(of(series))).map(({ labels, value }) => [labels.name, value]))
    expect(await byName('battery_charge_ratio')).toEqual({ Well: 0.8, Unwell: 0.1, Arm: 0.5, Gone: 0.6 })
    expect(await byName('online')).toEqual({ Well: 1, Unwell: 1, Arm: 1, Gone: 0, Unseen: 0 })
    expect(await byName('faults')).toEqual({ Well: 0, Unwell: 2, Arm: 0, Gone: 0 })
    expect(await byName('estop')).toEqual({ Well: 0, Unwell: 1 })
    expect(await value('beacon_robot_metric{metric="speed"}')).toBe(1.5)
    // The names of their fleets come through unharmed.
    expect((await query('beacon_robot_info{name="Arm"}'))[0]!.labels.fleet).toBe('Arms "left"')
  })

  test('sums what the processes of the server count', async () => {
    const before = (await value('sum(beacon_heartbeats_stored_total)'))!
    await eventually(async () => ((await value('sum(beacon_heartbeats_stored_total)')) ?? 0) > before + 6)
    expect(await value('sum(beacon_sessions)')).toBe(3)
    expect(
      (await query('beacon_process_resident_memory_bytes')).map(({ labels }) => labels.process).sort(),
    ).toEqual(['gateway-1', 'gateway-2', 'server'])
    const due = 3_000 / BEAT_MS
    await eventually(async () => {
      const rate = (await value('sum(rate(beacon_heartbeats_stored_total[10s]))')) ?? 0
      return rate > 0.5 * due && rate < 1.5 * due
    })
    const stored = 'instance:beacon_heartbeats_stored:rate5m / instance:beacon_heartbeats_received:rate5m'
    expect(await value(stored)).toBeCloseTo(1, 0)
  })

  test('has every series that rules and dashboards name', async () => {
    const told = new Set(
      [...`${await scrape('/metrics')}${await scrape('/metrics/robots')}`.matchAll(/^# TYPE (\S+)/gm)].map(
        (found) => found[1],
      ),
    )
    const expressions = [
      ...RECORDINGS.map(({ expr }) => expr),
      ...ALERTS.map(({ expr }) => expr),
      ...DASHBOARDS.flatMap(({ panels }) =>
        panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
      ),
    ]
    const recorded = new Set(RECORDINGS.map(({ record }) => record))
    for (const expression of expressions) {
      for (const [name] of expression.matchAll(/(?<![\w:])beacon_\w+(?![\w:])/g))
        expect(told, expression).toContain(name.replace(/_(bucket|count|sum)$/, ''))
      for (const [name] of expression.matchAll(/\b\w+:beacon_\w+:\w+/g))
        expect(recorded, expression).toContain(name)
    }
  })

  test('evaluates every rule, and each records what it is named for', async () => {
    const { groups } = await prometheus.api('rules')
    const rules = groups.flatMap((group: { rules: Record<string, unknown>[] }) => group.rules)
    expect(rules).toHaveLength(RECORDINGS.length + ALERTS.length)
    for (const { name, health, lastError } of rules)
      expect([name, health, lastError ?? '']).toEqual([name, 'ok', ''])
    // Nothing of these here: no operation failed, and the database is not the server's own.
    const empty = ['instance_operation:beacon_database_errors:rate5m', 'instance:beacon_disk_free:ratio']
    for (const { record } of RECORDINGS)
      if (!empty.includes(record)) expect([record, (await query(record)).length > 0]).toEqual([record, true])
    const site = { site: 'Plant', fleet: 'Carts' }
    const values = async (expression: string) =>
      (await query(expression)).map(({ labels: { __name__: _, ...labels }, value }) => [labels, value])
    expect(await values('fleet_connection:beacon_robots:max{fleet="Carts"}')).toEqual(
      expect.arrayContaining([
        [{ ...site, connection: 'online' }, 2],
        [{ ...site, connection: 'offline' }, 1],
        [{ ...site, connection: 'stale' }, 0],
        [{ ...site, connection: 'unseen' }, 1],
      ]),
    )
    expect(await values('fleet:beacon_robots_absent:ratio{fleet="Carts"}')).toEqual([[site, 1 / 3]])
    expect(await values('fleet:beacon_robot_faults:sum{fleet="Carts"}')).toEqual([[site, 2]])
    expect(await values('fleet_health:beacon_robots:sum{fleet="Carts", health="error"}')).toEqual([
      [{ ...site, health: 'error' }, 1],
    ])
    expect(await value('round(fleet:beacon_robot_battery_charge_ratio:avg{fleet="Carts"}, 0.01)')).toBe(0.5)
    const silence = await value(`robot:beacon_robot_silence:seconds{robot_id="${robots.Gone}"}`)
    expect(silence).toBeGreaterThanOrEqual(SILENT_FOR_S)
    expect(silence).toBeLessThan(SILENT_FOR_S + 120)
  })

  test('alerts of what is wrong, names whom it is about, and of nothing else', async () => {
    const about = async () => {
      const { alerts } = await prometheus.api('alerts')
      return alerts.map(
        ({
          labels,
          annotations,
        }: {
          labels: Record<string, string>
          annotations: Record<string, string>
        }) => {
          expect(annotations.summary).not.toMatch(/error (calling|executing|expanding)|<no value>|\{\{/)
          expect(annotations.summary!.includes(labels.name ?? labels.fleet ?? '')).toBe(true)
          return `${labels.alertname} ${labels.name ?? labels.fleet ?? labels.instance}`
        },
      )
    }
    const due = [
      'BeaconFleetPartlyAbsent Carts',
      'BeaconRobotBatteryLow Unwell',
      'BeaconRobotDiskFull Unwell',
      'BeaconRobotFault Unwell',
      'BeaconRobotSilent Gone',
      'BeaconRobotStopped Unwell',
      'BeaconRobotUnhealthy Unwell',
    ]
    // How fast this machine is, is not the matter here.
    const ofSpeed = /^Beacon(EventLoopDelayed|DatabaseSlow|HeartbeatsLate|Overloaded) /
    expect((await about()).filter((alert: string) => !ofSpeed.test(alert)).sort()).toEqual(due)
  })

  describe.each(DASHBOARDS)('on the dashboard $title', ({ panels, templating }: Dashboard) => {
    const filled = (expression: string) =>
      expression
        .replaceAll('$site', 'Plant')
        .replaceAll('$fleet', 'Carts|Arms.*')
        .replaceAll('$robot', robots.Unwell!)

    /** What has nothing to show where nothing fails and the disk is another's. */
    const EMPTY = new Set([
      'Heartbeats: refused: {{reason}}, {{instance}}',
      'Database: errors a second: {{operation}}, {{instance}}',
      'Sessions closed: {{reason}}',
      'Disk: {{instance}}',
      'History: {{level}}',
      'Numbers of its own: {{metric}}',
    ])

    test.each(
      panels.flatMap((panel: Panel) =>
        (panel.targets ?? []).map(({ expr, legendFormat = '' }) => ({
          what: `${panel.title}${legendFormat === '' ? '' : `: ${legendFormat}`}`,
          expr,
          legendFormat,
        })),
      ),
    )('$what has an answer', async ({ what, expr, legendFormat }) => {
      const samples = await query(filled(expr))
      if (!EMPTY.has(what)) expect(samples.length).toBeGreaterThan(0)
      const named = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map((found) => found[1]!)
      for (const { labels } of samples) for (const label of named) expect(labels).toHaveProperty(label)
      // Each line of a chart is another one.
      const lines = samples.map(({ labels }) => JSON.stringify(named.map((label) => labels[label])))
      if (legendFormat !== '') expect(new Set(lines).size).toBe(lines.length)
    })

    test('the variables have the sites, fleets and robots to choose from', async () => {
      const { start, end } = { start: String(Date.now() / 1000 - 3600), end: String(Date.now() / 1000 + 60) }
      for (const { name, type, query: asked, regex } of templating.list) {
        if (type !== 'query') continue
        const { query: text } = asked as { query: string }
        const labelled = /^label_values\((.*), (\w+)\)$/.exec(text)
        if (labelled) {
          const found = await prometheus.api(
            `label/${labelled[2]}/values?${new URLSearchParams({ 'match[]': filled(labelled[1]!), start, end })}`,
          )
          expect(found).toEqual(name === 'site' ? ['Plant'] : ['Arms "left"', 'Carts'])
          continue
        }
        // As Grafana writes the series that it finds, and takes value and text out of them.
        const pattern = new RegExp(regex!.slice(1, -1))
        const samples = await query(filled(/^query_result\((.*)\)$/.exec(text)![1]!))
        const choices = samples.map(({ labels: { __name__, ...labels } }: Sample) => {
          const pairs = Object.entries(labels)
            .sort(([one], [other]) => (one < other ? -1 : 1))
            .map(([label, value]) => `${label}="${value}"`)
          const { text, value } = pattern.exec(`${__name__}{${pairs.join(',')}} 1 0`)!.groups!
          return [text, value]
        })
        expect(Object.fromEntries(choices)).toMatchObject(robots)
        expect(choices).toHaveLength(5)
      }
    })
  })

  test.each<[string, string, number]>([
    ['Beacon: fleet', 'Robots', 5],
    ['Beacon: fleet', 'Online', 3],
    ['Beacon: fleet', 'Stale', 0],
    ['Beacon: fleet', 'Offline', 1],
    ['Beacon: fleet', 'With error', 1],
    ['Beacon: fleet', 'Faults', 2],
    ['Beacon: robot', 'Online', 1],
    ['Beacon: robot', 'Faults', 2],
    ['Beacon: robot', 'Emergency stop', 1],
    ['Beacon: robot', 'Voltage', 22],
    ['Beacon: robot', 'Temperature', 41.5],
    ['Beacon: robot', 'Load', 0.5],
    ['Beacon: robot', 'Uptime', 3600],
  ])('%s shows under %s: %d', async (dashboard, title, shown) => {
    const panel = DASHBOARDS.find((each) => each.title === dashboard)!.panels.find(
      (each) => each.title === title,
    )!
    const [target] = panel.targets!
    expect(
      await value(
        target!.expr
          .replaceAll('$site', '.*')
          .replaceAll('$fleet', '.*')
          .replaceAll('$robot', robots.Unwell!),
      ),
    ).toBe(shown)
  })

  test('a token of a fleet is told of its robots alone, and the rules count them all the same', async () => {
    const { token } = await scene.operator.must<{ token: string }>('POST', `/api/fleets/${arms.id}/tokens`, {
      name: 'prometheus',
      scopes: ['metrics:read'],
    })
    const other = await startPrometheus(scene.servers[0]!.url, folder, token)
    try {
      await eventually(async () => (await other.value('sum(fleet:beacon_robots:sum)')) === 1)
      expect((await other.query('up')).map(({ labels }) => labels.instance)).toEqual([
        expect.stringMatching(/\/robots\/0-of-1$/),
      ])
      const online = await other.query('fleet_connection:beacon_robots:max == 1')
      expect(online.map(({ labels }) => [labels.fleet, labels.connection])).toEqual([
        ['Arms "left"', 'online'],
      ])
      expect(await other.value('count(beacon_robot_info)')).toBe(1)
    } finally {
      await other.stop()
    }
  }, 60_000)

  test('when a fleet has outgrown one shard, its robots are told by two, each once and without a gap', async () => {
    const GROWN = 2_600
    await scene.database.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name)
       SELECT gen_random_uuid(), $1, $2, 'grown-' || n FROM generate_series(1, $3::int) n`,
      [scene.site.id, scene.fleet.id, GROWN],
    )
    const known = '(beacon_robot_info{name=~"Well|Unwell|Arm|Gone|Unseen"})'
    await eventually(async () => (await value('count(up{instance=~".*/robots/.*-of-2"} == 1)')) === 2)
    await eventually(async () => (await value('count(beacon_robot_info)')) === GROWN + 5)
    await eventually(async () => (await value('count(up)')) === 3)
    const shards = await query('scrape_samples_scraped{instance=~".*-of-2"}')
    for (const { value } of shards) expect(value).toBeGreaterThan(GROWN)
    expect(await value('count(beacon_robot_info)')).toBe(GROWN + 5)
    // The robots that were there all along were always there, and never twice.
    const over = (how: string) => value(`${how}_over_time((count${known})[20s:1s])`)
    expect([await over('min'), await over('max')]).toEqual([5, 5])
    expect(await value('sum(fleet:beacon_robots:sum)')).toBe(GROWN + 5)
  }, 60_000)

  test('when its token is revoked, everything is down, and nothing is said any more', async () => {
    expect(await value('min(up)')).toBe(1)
    await scene.operator.must('POST', `/api/tokens/${tokenId}/revoke`)
    await eventually(async () => {
      const { activeTargets } = await prometheus.api('targets')
      return activeTargets.every(
        ({ health, lastError }: { health: string; lastError: string }) =>
          health === 'down' && lastError.includes('401'),
      )
    }, 'a refusal of every target')
    await eventually(async () => (await value('max(up)')) === 0)
    await eventually(async () => (await query('beacon_robot_info')).length === 0)
    await eventually(async () => {
      const { alerts } = await prometheus.api('alerts')
      return alerts.some(
        ({ labels }: { labels: Record<string, string> }) => labels.alertname === 'BeaconTargetDown',
      )
    })
  })
})
