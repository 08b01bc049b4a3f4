import { expect } from 'vitest'
import { type Claim, decideClaims, MAX_PENDING, type Outcome } from '../../src/claims/decide.ts'
import { furtherNames } from '../../src/claims/names.ts'
import { type ClaimKey, type ClaimWrites, type KnownRobot, storedClaimId } from '../../src/db/claims.ts'

/** The tables that claims touch, in memory: answers look-ups and keeps constraints as PostgreSQL does. */
export class RobotStore {
  readonly robots = new Map<string, KnownRobot>()
  readonly keys = new Map<string, ClaimKey>()
  readonly events: { robotId: string; code: string }[] = []

  /** Decides and writes claims as one transaction after the other does. */
  claim(keyId: string, claims: readonly Claim[], now: Date): Outcome[] {
    const outcomes: Outcome[] = []
    while (outcomes.length < claims.length) {
      const key = this.keys.get(keyId)!
      const group = claims.slice(outcomes.length)
      const decision = decideClaims(key, this.#look(key, group), group, now)
      expect(decision.outcomes.length).toBeGreaterThan(0)
      this.#write(key, decision.writes, now)
      outcomes.push(...decision.outcomes)
    }
    return outcomes
  }

  /** Only what was asked for: a decision that needs more would show as a difference. */
  #look(key: ClaimKey, group: readonly Claim[]) {
    const all = [...this.robots.values()]
    const names = new Set(group.map((claim) => claim.name))
    const machines = all.filter((robot) => group.some((claim) => claim.machineHash === robot.machineHash))
    const admitters = new Set(machines.map((robot) => robot.credentialId))
    const ids = group.flatMap((claim) => claim.claimId ?? [])
    const foreignIds = ids.map((claimId) => storedClaimId(null, key.id, claimId))
    const robots = all.filter(
      (robot) =>
        machines.includes(robot) ||
        (robot.credentialId === key.id && ids.includes(robot.claimId!)) ||
        (admitters.has(robot.credentialId) && foreignIds.includes(robot.claimId!)) ||
        robot.id === key.robotId ||
        group.some((claim) => [robot.tokenHash, robot.nextTokenHash].includes(claim.tokenHash)) ||
        (robot.fleetId === key.fleetId && names.has(robot.name)),
    )
    const namesOf = (found: readonly KnownRobot[]) =>
      found.filter((robot) => robot.fleetId === key.fleetId).map((robot) => robot.name)
    const further = new Set(furtherNames(group, namesOf(robots)))
    const waiting = all.filter((robot) => robot.credentialId === key.id && robot.lifecycle === 'pending')
    return {
      robots,
      takenNames: namesOf(all).filter((name) => further.has(name)),
      pending: key.requireApproval ? Math.min(waiting.length, MAX_PENDING) : 0,
    }
  }

  #write(
    key: ClaimKey,
    writes: Pick<ClaimWrites, 'admitted' | 'rebound' | 'uses' | 'revoke'> & {
      events: readonly { robotId: string; code: string }[]
    },
    now: Date,
  ) {
    const before = [...this.robots.values()]
    const changed = [...writes.admitted, ...writes.rebound]
    expect(new Set(changed.map((robot) => robot.id)).size).toBe(changed.length)
    // Uniqueness holds at every moment of a statement, so nothing may be taken that another row still has.
    for (const robot of changed)
      for (const other of before.filter((row) => row.id !== robot.id)) {
        expect(other.tokenHash).not.toBe(robot.tokenHash)
        const credentialId = this.robots.get(robot.id)?.credentialId ?? key.id
        if (robot.claimId !== null && other.credentialId === credentialId)
          expect(other.claimId).not.toBe(robot.claimId)
      }
    for (const robot of writes.admitted) {
      expect(this.robots.has(robot.id)).toBe(false)
      this.robots.set(robot.id, {
        ...robot,
        siteId: key.siteId,
        fleetId: key.fleetId,
        heartbeatIntervalMs: key.heartbeatIntervalMs,
        credentialId: key.id,
        tokenCredentialId: key.id,
        nextTokenHash: null,
        tokenRevokedAt: null,
        connected: false,
      })
    }
    for (const robot of writes.rebound) {
      const { name, machineHash, ...rest } = this.robots.get(robot.id)!
      expect(robot.name).toBe(name)
      if (key.kind !== 'setup_token') expect(robot.machineHash).toBe(machineHash)
      this.robots.set(robot.id, {
        ...rest,
        ...robot,
        tokenCredentialId: key.id,
        nextTokenHash: null,
        tokenRevokedAt: null,
      })
    }
    this.events.push(...writes.events)
    this.keys.set(key.id, {
      ...key,
      uses: key.uses + writes.uses,
      revokedAt: writes.revoke ? now : key.revokedAt,
    })
    this.#check()
  }

  #check(): void {
    const unique = (values: readonly string[]) => expect(values.length).toBe(new Set(values).size)
    const all = [...this.robots.values()]
    unique(all.map((robot) => `${robot.fleetId} ${robot.name}`))
    unique(all.flatMap((robot) => robot.tokenHash ?? []))
    unique(all.flatMap((robot) => (robot.claimId === null ? [] : `${robot.credentialId} ${robot.claimId}`)))
    const living = all.filter((robot) => robot.machineHash !== null && robot.lifecycle !== 'retired')
    unique(living.map((robot) => `${robot.fleetId} ${robot.machineHash}`))
    for (const key of this.keys.values()) {
      expect(key.uses).toBeLessThanOrEqual(key.maxUses ?? Number.POSITIVE_INFINITY)
      if (key.kind === 'setup_token') continue
      expect(all.filter((robot) => robot.credentialId === key.id).length).toBe(key.uses)
    }
  }
}
