import type { Bus, BusMessage } from '../bus/bus.ts'
import type { Database } from '../db/database.ts'
import { readSessionFacts, type SessionFacts } from '../db/sessions.ts'
import type { Registry } from '../fleet/registry.ts'
import { Grouping } from '../grouping.ts'
import { CLOSE, type CloseCause } from '../protocol/close-codes.ts'
import { type Connection, rotationIn } from './connection.ts'
import { type PersistParts, untilStored } from './persist.ts'
import type { PresenceKeeper } from './presence-keeper.ts'

export interface NewsParts {
  readonly database: Database
  readonly bus: Bus
  readonly persist: PersistParts
  readonly registry: Registry<Connection>
  readonly presence: PresenceKeeper
  readonly defaultIntervalMs: number
}

const FACTS_PER_STATEMENT = 1_000

/** Carries what operators and other servers change about robots to the sessions that this server holds. */
export class News {
  readonly #parts: NewsParts
  readonly #refresh: Grouping<string, undefined>
  /** Robots that wait to be looked at: what changes meanwhile is seen then. */
  readonly #awaited = new Set<string>()

  constructor(parts: NewsParts) {
    this.#parts = parts
    this.#refresh = new Grouping({
      maxGroup: FACTS_PER_STATEMENT,
      maxWaiting: 1_000_000,
      run: async (robotIds) => {
        for (const robotId of robotIds) this.#awaited.delete(robotId)
        await this.#look(robotIds).catch((error: unknown) => {
          const { log } = parts.persist
          log.warn({ err: error, robots: robotIds.length }, 'could not look at robots again')
        })
        return robotIds.map(() => undefined)
      },
    })
  }

  async #look(robotIds: readonly string[]): Promise<void> {
    const { database, persist } = this.#parts
    const facts = await untilStored(persist, 'read_session_facts', () => readSessionFacts(database, robotIds))
    for (const fact of facts) this.#apply(fact)
    const found = new Set(facts.map((fact) => fact.robotId))
    const gone = robotIds.filter((robotId) => !found.has(robotId))
    // Nothing but a denial takes the record of a robot that may have a session.
    if (gone.length > 0) this.#expel(gone, CLOSE.approvalDenied)
  }

  /** Begins to listen. */
  start(): void {
    const { bus, registry } = this.#parts
    bus.subscribe((message) => this.#onMessage(message))
    bus.onGap(() => this.lookAgain([...registry.all()]))
  }

  /** Asks the database how the robots of these connections are now. */
  lookAgain(connections: readonly Connection[]): void {
    for (const { robotId } of connections)
      if (!this.#awaited.has(robotId) && this.#refresh.offer(robotId)) this.#awaited.add(robotId)
  }

  #onMessage(message: BusMessage): void {
    const { registry } = this.#parts
    switch (message.type) {
      case 'robots_revoked':
        this.#expel(message.robot_ids, CLOSE.tokenRevoked)
        break
      case 'robots_denied':
        this.#expel(message.robot_ids, CLOSE.approvalDenied)
        break
      case 'robots_retired':
        this.#expel(message.robot_ids, CLOSE.retired)
        break
      case 'robots_changed':
        this.lookAgain(message.robot_ids.flatMap((robotId) => registry.of(robotId)))
        break
      case 'fleet_changed':
        this.lookAgain([...registry.all()].filter((connection) => connection.fleetId === message.fleet_id))
        break
      case 'sessions_opened':
        for (const { robot_id, session_no } of message.sessions) this.#overtaken(robot_id, session_no)
        break
    }
  }

  #expel(robotIds: readonly string[], cause: CloseCause): void {
    const { registry, presence, persist } = this.#parts
    for (const robotId of robotIds) {
      for (const connection of registry.of(robotId)) connection.end(cause)
      // Without a socket it may still count as online by what was heard: it cannot come back, so that is over.
      const sessionNo = presence.presence.sessionNoOf(robotId)
      if (sessionNo !== undefined)
        presence.write(presence.presence.gone(robotId, sessionNo, cause.reason, persist.clock.now()))
    }
  }

  #overtaken(robotId: string, newestSessionNo: number): void {
    const { registry, presence } = this.#parts
    for (const connection of registry.of(robotId)) connection.newerSessionOpened(newestSessionNo)
    presence.presence.handedOver(robotId, newestSessionNo)
  }

  #apply(facts: SessionFacts): void {
    const { registry, presence, defaultIntervalMs } = this.#parts
    const { robotId, sessionNo, name, fleetId, lifecycle } = facts
    this.#overtaken(robotId, sessionNo)
    const standing = [facts.tokenHash, facts.nextTokenHash]
    const rotation = rotationIn(facts)
    const heartbeatIntervalMs = facts.heartbeatIntervalMs ?? defaultIntervalMs
    for (const connection of registry.of(robotId)) {
      if (lifecycle === 'retired') connection.end(CLOSE.retired)
      else if (facts.revoked || !standing.includes(connection.tokenHash)) connection.end(CLOSE.tokenRevoked)
      else {
        connection.changed({ name, fleetId, lifecycle, heartbeatIntervalMs, rotation })
        if (connection.sessionNo === undefined) continue
        presence.presence.intervalChanged(robotId, connection.sessionNo, heartbeatIntervalMs)
      }
    }
  }
}
