import type { LiveRobotRow } from '../db/live-robots.ts'
import type { Connection, Health, Labels } from '../db/tables.ts'
import type { Lifecycle } from '../protocol/frames.ts'

/** What filters, reach and counts ask of a robot. Never changed: another state is another object. */
export interface Facts {
  readonly id: string
  /** The name in lower case, as the database has it. */
  readonly foldedName: string
  readonly siteId: string
  readonly fleetId: string
  readonly labels: Labels
  readonly connection: Connection
  readonly health: Health
  readonly lifecycle: Lifecycle
  readonly credentialId: string | null
  readonly tokenCredentialId: string | null
  readonly hasFaults: boolean
}

/** A robot as it goes out, made once for all readers. */
export interface Texts {
  /** JSON of all but what every heartbeat changes. It says all that `Facts` hold: where it is the same, they are. */
  readonly status: string
  /** JSON of the whole robot; with a heartbeat it breaks off where its age belongs, and `}}` follows. */
  readonly full: string
}

/** One robot as the store has it. */
export interface Entry extends Texts {
  readonly version: string
  readonly facts: Facts
  /** When its latest heartbeat was received; null: none was. */
  readonly heardAt: number | null
}

/** Makes the texts of a robot. */
export type Render = (row: LiveRobotRow) => Texts

export function entryOf(row: LiveRobotRow, render: Render): Entry {
  const { heartbeat, heartbeat_at, heartbeat_received_at: heardAt } = row
  const hasHeartbeat = heartbeat_at !== null && heardAt !== null
  return {
    version: row.version,
    facts: {
      id: row.id,
      foldedName: row.folded_name,
      siteId: row.site_id,
      fleetId: row.fleet_id,
      labels: row.labels,
      connection: row.connection,
      health: row.health,
      lifecycle: row.lifecycle,
      credentialId: row.credential_id,
      tokenCredentialId: row.token_credential_id,
      hasFaults: (heartbeat?.faults?.length ?? 0) > 0,
    },
    heardAt: hasHeartbeat ? heardAt.getTime() : null,
    ...render(row),
  }
}

/** The whole robot as JSON, its heartbeat as old as it is at `now`. */
export function fullText({ full, heardAt }: Entry, now: number): string {
  return heardAt === null ? full : `${full}${Math.max(0, Math.round(now - heardAt))}}}`
}
