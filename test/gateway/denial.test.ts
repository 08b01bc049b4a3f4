import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Decision, decidePending } from '../../src/claims/approvals.ts'
import { systemClock } from '../../src/runtime.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet, type TestRobot } from '../support/robots.ts'
import { connect, type RunningGateway, startGateway } from './support.ts'

let db: TestDatabase
let fleet: TestFleet
let running: RunningGateway

beforeEach(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
  running = await startGateway(db.database, systemClock)
})
afterEach(async () => {
  await running.gateway.stop()
  await db.drop()
})

/** A robot that waits; with `before`, one that was there. */
async function waiting(before: 'active' | null): Promise<TestRobot> {
  const robot = await insertRobot(db.database, fleet, { lifecycle: 'pending' })
  await db.database
    .updateTable('robots')
    .set({ pending_since: new Date(), lifecycle_before: before })
    .where('id', '=', robot.id)
    .execute()
  return robot
}

const decide = (decision: Decision, robot: TestRobot) =>
  db.database
    .transaction()
    .execute((transaction) =>
      decidePending(transaction, decision, { reach: 'everything', ids: [robot.id] }, 1),
    )

describe('the session of a robot that waits', () => {
  it.each([null, 'active'] as const)('ends for good when it is denied (before: %s)', async (before) => {
    const robot = await waiting(before)
    const link = await connect(running, systemClock, robot)
    await decide('deny', robot)
    await running.bus.publish({ type: 'robots_denied', robot_ids: [robot.id] })
    expect(await link.end.closed).toEqual({ code: 4504, reason: 'approval_denied' })
    await expect(connect(running, systemClock, robot)).rejects.toThrow(
      before === null ? /invalid_token/ : /token_revoked/,
    )
  })

  it('ends also when the news of it was lost, once the robot is looked at again', async () => {
    const robot = await waiting(null)
    const link = await connect(running, systemClock, robot)
    await decide('deny', robot)
    await running.bus.publish({ type: 'fleet_changed', fleet_id: fleet.fleetId })
    expect(await link.end.closed).toEqual({ code: 4504, reason: 'approval_denied' })
  })

  it('goes on when it is approved, and hears of it', async () => {
    const robot = await waiting(null)
    const link = await connect(running, systemClock, robot)
    await decide('approve', robot)
    await running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
    await link.hears('welcome', (frame) => frame.lifecycle === 'active')
    await eventually(() => link.end.isOpen)
  })
})
