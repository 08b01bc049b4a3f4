import { describe, expect, test } from 'vitest'
import { robotSeries } from '../../src/http/robot-series.ts'
import { type Json, makeFleet, makeRobot, setStatus, unique, useApi } from './api.ts'

const api = useApi()

const OPENMETRICS = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

interface Sample {
  readonly name: string
  readonly labels: Record<string, string>
  readonly value: number
}

/** Reads the text format strictly, as Prometheus does. */
function parse(text: string): Sample[] {
  const samples: Sample[] = []
  const typed = new Set<string>()
  let current = ''
  for (const line of text.split('\n').slice(0, -1)) {
    const type = /^# TYPE (\S+) (gauge|counter|histogram|summary)$/.exec(line)
    if (type) {
      expect(typed, 'each family once').not.toContain(type[1])
      typed.add(type[1]!)
      current = type[1]!
    }
    if (line.startsWith('#') || line === '') continue
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
    expect(found, line).not.toBeNull()
    const labels: Record<string, string> = {}
    const rest = (found![2] ?? '').replace(
      /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)",?/g,
      (_, name, value) => {
        labels[name] = value.replace(/\\(.)/g, (_: string, char: string) => (char === 'n' ? '\n' : char))
        return ''
      },
    )
    expect(rest, line).toBe('')
    expect(found![1]!.startsWith(current), `${line} stands in its family`).toBe(true)
    expect(found![3], line).toMatch(/^([+-]?(\d+(\.\d+)?(e[+-]?\d+)?|Inf)|NaN|Nan)$/)
    samples.push({ name: found![1]!, labels, value: Number(found![3]) })
  }
  return samples
}

describe('/metrics', () => {
  test('counts robots by site, fleet and connection, with zeros, without the retired', async () => {
    const site = (await api().post('/api/sites', { name: `${unique('site')} "a\\b"` })).body
    const fleet = (await api().post('/api/fleets', { site_id: site.id, name: 'movers' })).body
    const robots = []
    for (let index = 0; index < 4; index++) robots.push(await makeRobot(api(), fleet.id))
    await setStatus(api(), robots[0].id, { connection: 'online' })
    await setStatus(api(), robots[1].id, { connection: 'online' })
    await api().post(`/api/robots/${robots[3].id}/retire`)
    const answer = await api().get('/metrics')
    expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    const samples = parse(answer.text)
    const counts = samples.filter(({ name, labels }) => name === 'beacon_robots' && labels.site === site.name)
    expect(counts.map(({ labels, value }) => [labels.fleet, labels.connection, value])).toEqual([
      ['movers', 'offline', 0],
      ['movers', 'online', 2],
      ['movers', 'stale', 0],
      ['movers', 'unseen', 1],
    ])
    expect(
      samples.some(({ name }) => name === 'beacon_claims_total' || name.startsWith('beacon_process_')),
    ).toBe(true)
  })

  test('counts keys that will soon admit nobody any more, by fleet', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const { body: fleet } = await api().get(`/api/fleets/${fleet_id}`)
    const counted = async () =>
      parse((await api().get('/metrics')).text).find(
        ({ name, labels }) => name === 'beacon_enrollment_keys_nearly_used_up' && labels.fleet === fleet.name,
      )!.value
    const use = async (uses: number, more: Json = {}) => {
      const { id } = (
        await api().post('/api/enrollment-keys', { site_id, fleet_id, name: 'k', max_uses: 10, ...more })
      ).body
      await api().db.pool.query('UPDATE claim_credentials SET uses = $2 WHERE id = $1', [id, uses])
      return id
    }
    expect(await counted()).toBe(0)
    await use(8)
    await use(10)
    await use(100, { max_uses: 1_000 })
    expect(await counted()).toBe(0)
    const id = await use(9)
    await use(950, { max_uses: 1_000 })
    expect(await counted()).toBe(2)
    await api().post(`/api/enrollment-keys/${id}/revoke`)
    expect(await counted()).toBe(1)
    await api().db.pool.query(
      "UPDATE claim_credentials SET expires_at = now() - interval '1 s' WHERE fleet_id = $1",
      [fleet_id],
    )
    expect(await counted()).toBe(0)
  })

  test('times requests by the pattern of their route', async () => {
    await api().get(`/api/sites/${unique('secret')}`)
    const { text } = await api().get('/metrics')
    expect(text).toContain(
      'beacon_http_request_seconds_count{method="GET",route="/api/sites/:id",status="4xx"}',
    )
    expect(text).not.toContain('secret')
  })
})

describe('/metrics/robots', () => {
  const series = async () => {
    const answer = await api().get('/metrics/robots')
    expect(answer.status).toBe(200)
    expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    return parse(answer.text)
  }

  test('has the series of every robot, and none of one that is gone or retired', async () => {
    const robot = await makeRobot(api())
    const ofRobot = async () => (await series()).filter(({ labels }) => labels.robot_id === robot.id)
    expect((await ofRobot()).length).toBeGreaterThan(0)
    await api().post(`/api/robots/${robot.id}/retire`)
    expect(await ofRobot()).toEqual([])
    await api().db.pool.query('DELETE FROM robots WHERE id = $1', [robot.id])
    expect(await ofRobot()).toEqual([])
  })

  test('says everything that the latest heartbeat says, whatever characters names hold', async () => {
    const { site_id } = await makeFleet(api())
    const fleet = (await api().post('/api/fleets', { site_id, name: 'a "quoted" \\ fleet' })).body
    const robot = await makeRobot(api(), fleet.id, { name: 'R"2\\D2 {} é' })
    await setStatus(api(), robot.id, {
      connection: 'stale',
      health: 'warn',
      last_seen_at: '2026-01-01T00:00:10.5Z',
      heartbeat_seq: 1,
      heartbeat_at: '2026-01-01T00:00:09Z',
      heartbeat_received_at: '2026-01-01T00:00:10Z',
      hello: JSON.stringify({
        protocol: 1,
        agent: { version: 'line\nbreak"\\', platform: 'linux', arch: 'arm64' },
      }),
      heartbeat: JSON.stringify({
        battery: { charge: 0.25, charging: false, voltage: 24.5 },
        system: { cpu: 0, memory: 0.5, disk: 1, temperature_c: -3.5, load_1m: 1e-7, uptime_s: 1e21 },
        estop: true,
        faults: [{ code: 'a', level: 'warn', message: 'm', since: '2026-01-01T00:00:00Z' }],
        metrics: { speed: -1.5, grip_force: 3 },
      }),
    })
    const own = (await series()).filter(({ labels }) => labels.robot_id === robot.id)
    const value = (name: string) =>
      own.filter((sample) => sample.name === `beacon_robot_${name}`).map((s) => s.value)
    const states = (name: string, label: string) =>
      Object.fromEntries(
        own
          .filter((s) => s.name === `beacon_robot_${name}`)
          .map(({ labels, value }) => [labels[label], value]),
      )
    expect(own.find(({ name }) => name === 'beacon_robot_info')).toMatchObject({
      labels: {
        name: 'R"2\\D2 {} é',
        fleet: 'a "quoted" \\ fleet',
        lifecycle: 'active',
        agent_version: 'line\nbreak"\\',
        platform: 'linux',
        arch: 'arm64',
        hostname: '',
      },
      value: 1,
    })
    expect(states('connection', 'connection')).toEqual({ unseen: 0, online: 0, stale: 1, offline: 0 })
    expect(states('health', 'health')).toEqual({ ok: 0, warn: 1, error: 0, unknown: 0 })
    expect(states('metric', 'metric')).toEqual({ speed: -1.5, grip_force: 3 })
    expect({
      online: value('online'),
      seen: value('last_seen_timestamp_seconds'),
      beat: value('heartbeat_timestamp_seconds'),
      charge: value('battery_charge_ratio'),
      charging: value('battery_charging'),
      volts: value('battery_volts'),
      cpu: value('cpu_ratio'),
      memory: value('memory_ratio'),
      disk: value('disk_ratio'),
      temperature: value('temperature_celsius'),
      load: value('load1'),
      uptime: value('uptime_seconds'),
      faults: value('faults'),
      estop: value('estop'),
    }).toEqual({
      online: [0],
      seen: [1767225610.5],
      beat: [1767225609],
      charge: [0.25],
      charging: [0],
      volts: [24.5],
      cpu: [0],
      memory: [0.5],
      disk: [1],
      temperature: [-3.5],
      load: [1e-7],
      uptime: [1e21],
      faults: [1],
      estop: [1],
    })
  })

  test('says nothing that a robot has not said', async () => {
    const robot = await makeRobot(api())
    const own = (await series()).filter(({ labels }) => labels.robot_id === robot.id)
    expect([...new Set(own.map(({ name }) => name))].sort()).toEqual([
      'beacon_robot_connection',
      'beacon_robot_health',
      'beacon_robot_info',
      'beacon_robot_online',
    ])
  })

  test('holds together for more robots than go into one piece', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    await api().db.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name) SELECT gen_random_uuid(), $1, $2, 'r' || n FROM generate_series(1, 1201) n`,
      [site_id, fleet_id],
    )
    const info = (await series()).filter(({ name }) => name === 'beacon_robot_info')
    expect(new Set(info.map(({ labels }) => labels.robot_id)).size).toBe(info.length)
    expect(info.length).toBeGreaterThanOrEqual(1201)
  })

  test('is split into shards, each robot into exactly one, and into the same one later', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    await api().db.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name) SELECT gen_random_uuid(), $1, $2, 's' || n FROM generate_series(1, 600) n`,
      [site_id, fleet_id],
    )
    const idsOf = async (query: string) => {
      const { status, text } = await api().get(`/metrics/robots${query}`)
      expect(status).toBe(200)
      return parse(text)
        .filter(({ name }) => name === 'beacon_robot_info')
        .map(({ labels }) => labels.robot_id!)
    }
    const all = (await idsOf('')).sort()
    for (const shards of [1, 2, 3, 7, 16]) {
      const parts = []
      for (let shard = 0; shard < shards; shard += 1)
        parts.push(await idsOf(`?shard=${shard}&shards=${shards}`))
      expect(parts.flat().sort()).toEqual(all)
      for (const part of parts)
        expect(part.length / all.length).toSatisfy(
          (share: number) => share * shards > 0.4 && share * shards < 1.8,
        )
      expect(await idsOf(`?shard=${shards - 1}&shards=${shards}`)).toEqual(parts.at(-1))
    }
  })

  test.each([
    'shard=0',
    'shards=2',
    'shard=2&shards=2',
    'shard=-1&shards=2',
    'shard=0&shards=0',
    'shard=0.5&shards=2',
  ])('refuses %s', async (query) => {
    expect(await api().get(`/metrics/robots?${query}`)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    })
  })
})

describe('OpenMetrics', () => {
  const headers = { accept: 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5' }

  test.each(['/metrics', '/metrics/robots', '/metrics/robots?shard=0&shards=2'])(
    'is spoken at %s',
    async (path) => {
      await makeRobot(api())
      const answer = await api().get(path, { headers })
      expect(answer.headers['content-type']).toBe(OPENMETRICS)
      expect(answer.headers.vary).toBe('accept')
      expect(answer.text.endsWith('\n# EOF\n')).toBe(true)
      expect(answer.text.match(/^# EOF$/gm)).toHaveLength(1)
      expect(answer.text).not.toMatch(/^$\n/m)
      const text = await api().get(path)
      expect(text.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
      expect(text.text).not.toContain('# EOF')
      const families = ({ text }: { text: string }) => [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
      expect(families(answer).map(([, name, type]) => (type === 'counter' ? `${name}_total` : name))).toEqual(
        families(text).map(([, name]) => name),
      )
    },
  )

  test('names counters without _total, and their samples with it', async () => {
    api().parts.metrics.claims.inc({ outcome: 'admitted' })
    const { text } = await api().get('/metrics', { headers })
    expect(text).toContain('# TYPE beacon_claims counter\n')
    expect(text).toMatch(/^beacon_claims_total\{outcome="admitted"\} \d+$/m)
  })
})

test('a fleet is told a piece at a time, as the reader takes it, and others have their turns between', async () => {
  const robots = Array.from({ length: 2_000 }, (_, index) => ({
    id: `robot-${index}`,
    name: `r${index}`,
    site: 's',
    fleet: 'f',
    lifecycle: 'active',
    fingerprint: {},
    agent: null,
    connection: 'online' as const,
    health: 'ok' as const,
    last_seen_at: null,
    heartbeat_at: null,
    heartbeat: {
      battery: { charge: 0.5 },
      metrics: Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`metric_${n}`, n])),
    },
  }))
  let turns = 0
  let goesOn = true
  const turn = () => {
    turns += 1
    if (goesOn) setImmediate(turn)
  }
  setImmediate(turn)
  let [pieces, longest, length] = [0, 0, 0]
  // biome-ignore lint/suspicious/noExplicitAny: what a heartbeat has besides makes no series
  for await (const piece of robotSeries(robots as any, 'openmetrics')) {
    pieces += 1
    length += piece.length
    longest = Math.max(longest, piece.length)
  }
  goesOn = false
  expect(length).toBeGreaterThan(5_000_000)
  expect(longest).toBeLessThan(48 * 1024)
  expect(turns).toBeGreaterThanOrEqual(pieces - 1)
})
