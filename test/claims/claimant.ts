import { openDatabase, openPool } from '../../src/db/database.ts'
import { newId } from '../../src/ids.ts'
import { claimCall, robotRequest, startClaims } from './fixture.ts'

/**
 * A server that claims for many robots at once and says which were granted, until it is done or killed:
 * `node run-typescript.mjs claimant.ts <database> <secret> <first robot> <robots>`.
 */
const [url = '', secret = '', first = '', robots = ''] = process.argv.slice(3)
const pool = openPool({
  url,
  name: `claimant ${newId()}`,
  maxConnections: 4,
  statementTimeoutMs: 20_000,
  onIdleError: () => {},
})
const claims = startClaims(openDatabase(pool))
await Promise.all(
  Array.from({ length: Number(robots) }, async (_, index) => {
    const name = `robot-${Number(first) + index}`
    await claims.claim(claimCall({ secret }, robotRequest(name))).then(
      ({ response }) => process.stdout.write(`${name} ${response.robot_id}\n`),
      () => {},
    )
  }),
)
await pool.end()
