import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import type { EnrollmentKey } from './independent/operator.ts'
import { type Claim, type EnrolAnswer, enrolUntilAnswered, newClaim } from './independent/robot.ts'
import { countsOf, type Scene, startScene } from './scene.ts'

const CLAIMS = 320
const ADMITTED = 40

async function twoServersAndAKey(max_uses: number): Promise<{ scene: Scene; key: EnrollmentKey }> {
  const scene = await startScene({ servers: 2 })
  onTestFinished(() => scene.end())
  return { scene, key: await scene.operator.key(scene.site, scene.fleet, { max_uses }) }
}

/** Every robot that got a yes exists under the id it was told, and the key counts exactly them. */
async function expectExact(
  { database }: Scene,
  key: EnrollmentKey,
  answers: readonly EnrolAnswer[],
  admitted: number,
): Promise<void> {
  const granted = answers.filter((answer) => answer.status === 200 || answer.status === 201)
  const others = answers.filter((answer) => !granted.includes(answer))
  expect(granted).toHaveLength(admitted)
  expect(new Set(others.map((answer) => `${answer.status} ${answer.body.code}`))).toEqual(
    new Set(others.length === 0 ? [] : ['403 key_exhausted']),
  )
  expect(await countsOf(database.pool, key.id)).toEqual({ uses: admitted, robots: admitted })
  const { rows } = await database.pool.query('SELECT id FROM robots WHERE credential_id = $1', [key.id])
  expect(new Set(granted.map((answer) => answer.body.robot_id))).toEqual(
    new Set(rows.map((row: { id: string }) => row.id)),
  )
}

test('a storm of claims at two servers admits exactly as many as the key says', async () => {
  const { scene, key } = await twoServersAndAKey(ADMITTED)
  const bases = scene.servers.map((server) => server.url)
  const answers = await Promise.all(
    Array.from({ length: CLAIMS }, (_, index) =>
      enrolUntilAnswered([bases[index % 2]!], key.key_value, newClaim()),
    ),
  )
  await expectExact(scene, key, answers, ADMITTED)
  expect(await scene.operator.keyById(key.id)).toMatchObject({ uses: ADMITTED, status: 'exhausted' })
}, 60_000)

test('a server killed in the middle loses no robot that was told yes, and admits none twice', async () => {
  const { scene, key } = await twoServersAndAKey(ADMITTED)
  const [survivor, victim] = scene.servers.map((server) => server.url) as [string, string]
  const claims: Claim[] = Array.from({ length: CLAIMS }, newClaim)
  const firstYes = new Map<Claim, string>()
  let killed: Promise<void> | undefined
  let tries = 0
  const answers = await Promise.all(
    claims.map(async (claim) => {
      const answer = await enrolUntilAnswered([victim, survivor], key.key_value, claim, () => {
        tries += 1
      })
      if (answer.status <= 201) firstYes.set(claim, answer.body.robot_id)
      // At the first answers, with most claims still on their way.
      killed ??= scene.servers[1]!.kill9()
      return answer
    }),
  )
  await killed
  expect(tries).toBeGreaterThan(CLAIMS)
  await expectExact(scene, key, answers, ADMITTED)

  // Asked once more, everybody is told the same.
  const again = await Promise.all(claims.map((claim) => enrolUntilAnswered([survivor], key.key_value, claim)))
  for (const [index, claim] of claims.entries()) expect(again[index]!.body.robot_id).toBe(firstYes.get(claim))
  expect(await countsOf(scene.database.pool, key.id)).toEqual({ uses: ADMITTED, robots: ADMITTED })
}, 60_000)

test('a server killed again and again under load: the counts hold for a key that nobody used up', async () => {
  const { scene, key } = await twoServersAndAKey(1_000)
  const survivor = scene.servers[0]!.url
  const port = new URL(scene.servers[1]!.url).port
  const bases = [`http://127.0.0.1:${port}`, survivor]
  let answered = 0
  let rounds = 0
  const killing = (async () => {
    let victim = scene.servers[1]!
    for (; rounds < 2; rounds += 1) {
      const enough = answered + 30
      await eventually(() => answered >= Math.min(enough, CLAIMS))
      await victim.kill9()
      victim = await scene.addServer({ BEACON_PORT: port })
    }
  })()
  const claims = Array.from({ length: CLAIMS }, newClaim)
  const answers: EnrolAnswer[] = []
  // A few at a time, so that the storm outlasts the restarts.
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let claim = claims.pop(); claim; claim = claims.pop()) {
        answers.push(await enrolUntilAnswered(bases, key.key_value, claim))
        answered += 1
      }
    }),
  )
  await killing
  expect(rounds).toBe(2)
  await expectExact(scene, key, answers, CLAIMS)
}, 60_000)
