import { randomUUID } from 'node:crypto'
import { enrol, newMachine, Session } from '../../e2e/independent/robot.ts'
import type { Scene } from '../../e2e/scene.ts'

/** Would say so in the window, if it were ever taken for markup. */
export const MARKUP = `<img src=x onerror="window.wasRun=1"><script>window.wasRun=1</script>`
const filled = (text: string, length: number) => [...text.repeat(length)].slice(0, length).join('')

/** What people and robots may call things and say, and no page expects; each at most so many characters. */
export const WORDS = (length: number): readonly string[] => [
  filled(MARKUP, length).trimEnd(),
  filled('Donaudampfschifffahrtsgesellschaftskapitänspatent', length),
  filled('שלום', length),
  filled('🤖👩‍🚒', Math.floor(length / 2)),
  filled('a\u200b', length),
  filled('z̸͓', length),
  filled('{{constructor}}%s\\"&quot;', length),
]

export interface Hostile {
  readonly siteId: string
  readonly robotId: string
  readonly keyId: string
  readonly personId: string
  readonly end: () => void
}

/** Fills a deployment with such words, wherever there is room for them, and with much of everything. */
export async function fillWithHostileWords(scene: Scene): Promise<Hostile> {
  const { operator, site, fleet } = scene
  const { url } = scene.servers[0]!
  let keyId = ''
  for (const name of WORDS(60)) {
    const there = await operator.site(name)
    await operator.fleet(there.id, name)
    keyId = (await operator.key(site, fleet, { name, labels: { zone: name } })).id
  }
  let personId = ''
  for (const [at, name] of WORDS(60).entries()) {
    const { id } = await operator.must<{ id: string }>('POST', '/api/users', {
      name,
      email: `${'long.'.repeat(10)}${at}@example.com`,
      roles: [{ role: 'viewer', fleet_id: fleet.id }],
    })
    personId = id
    await operator.must('POST', '/api/tokens', { name, scopes: ['robots:read'] })
  }
  const open = await operator.key(site, fleet, { name: 'open', max_uses: 50 })
  const careful = await operator.key(site, fleet, { name: 'careful', max_uses: 50, require_approval: true })
  for (const name of WORDS(60)) await enrol(url, careful.key_value, { name })
  const machine = newMachine()
  const { body } = await enrol(url, open.key_value, { name: WORDS(60)[0]!, machine, claim_id: randomUUID() })
  for (const name of WORDS(60).slice(1)) await enrol(url, open.key_value, { name })
  const labels = Object.fromEntries(
    Array.from({ length: 32 }, (_, at) => [`${filled('label', 55)}${at}`, WORDS(120)[at % WORDS(1).length]!]),
  )
  await operator.must('PATCH', `/api/robots/${body.robot_id}`, { labels })

  const session = await Session.open(url, body.robot_token!)
  session.hello(machine)
  await session.welcome()
  let seq = Date.now()
  const beat = () =>
    session.heartbeat(seq++, {
      at: new Date().toISOString(),
      health: 'error',
      mode: 'auto',
      activity: WORDS(128)[seq % WORDS(1).length],
      battery: { charge: 0.5 },
      pose: { frame: WORDS(60)[0], x: 1e9, y: -1e9, theta: 1 },
      faults: WORDS(200).map((message, at) => ({
        code: `${filled('fault', 50)}${at}`,
        level: 'error',
        message,
        since: '2026-01-01T00:00:00Z',
      })),
      metrics: Object.fromEntries(
        Array.from({ length: 64 }, (_, at) => [`${filled('metric', 58)}${at}`, 10 ** (at % 12) * 1.234_567]),
      ),
    })
  beat()
  const timer = setInterval(() => (session.ended ? clearInterval(timer) : beat()), 500)

  for (let at = 0; at < 40; at++)
    session.send({
      type: 'event',
      id: randomUUID(),
      at: new Date(Date.now() - at * 60_000).toISOString(),
      level: 'error',
      code: filled(at % 2 ? 'odd' : MARKUP, 60).trimEnd(),
      message: WORDS(900)[at % WORDS(1).length],
      data: { [MARKUP]: WORDS(500)[at % WORDS(1).length], deep: { er: [MARKUP, { still: MARKUP }] } },
    })
  return { siteId: site.id, robotId: body.robot_id, keyId, personId, end: () => clearInterval(timer) }
}

/** 500 sites with a fleet each, and 1,000 keys. */
export async function fillWithPlacesAndKeys({ database: { pool }, site, fleet }: Scene): Promise<void> {
  await pool.query(
    `WITH many AS (
       INSERT INTO sites (id, name) SELECT gen_random_uuid(), 'Many ' || n FROM generate_series(1, 500) AS n
       RETURNING id, name
     )
     INSERT INTO fleets (id, site_id, name) SELECT gen_random_uuid(), id, 'Fleet of ' || name FROM many`,
  )
  await pool.query(
    `INSERT INTO claim_credentials (id, kind, secret_hash, last_four, name, site_id, fleet_id, max_uses)
     SELECT gen_random_uuid(), 'enrollment_key', sha256(n::text::bytea), '0000', 'Key ' || n, $1, $2, 5
     FROM generate_series(1, 1000) AS n`,
    [site.id, fleet.id],
  )
}
