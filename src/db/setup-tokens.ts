import { sql } from 'kysely'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import { hangsOn } from './robot-filters.ts'

/** Until the transaction ends, nobody else makes a setup token for this robot. */
export async function lockSetupTokens(db: Database, robotId: string): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(${`beacon.setup_tokens ${robotId}`}, 0))`.execute(
    db,
  )
}

/**
 * Keeps claims with the setup tokens of a robot out until the transaction ends. Comes before the robot is locked by
 * whoever changes or removes its setup tokens with it: claims lock in this order.
 */
export async function holdSetupTokens(db: Database, robotId: string): Promise<void> {
  await sql`
    SELECT FROM claim_credentials WHERE robot_id = ${robotId}::uuid ORDER BY id FOR NO KEY UPDATE
  `.execute(db)
}

/**
 * Revokes the setup tokens that nobody used yet, of one robot or of those within reach that hang on a credential, and
 * answers with their ids. Waits for claims in flight with them, so it has to come before robots are locked: claims lock in this order, too.
 */
export async function revokeUnusedSetupTokens(
  db: Database,
  of: { readonly robotId: string } | { readonly credentialId: string; readonly reach: Reach },
): Promise<string[]> {
  const robots =
    'robotId' in of
      ? sql`${of.robotId}::uuid`
      : sql`SELECT id FROM robots
          WHERE ${hangsOn(of.credentialId)} AND ${inReach(of.reach, 'robots.fleet_id')}`
  const { rows } = await sql<{ id: string }>`
    UPDATE claim_credentials SET revoked_at = now()
    WHERE kind = 'setup_token' AND robot_id IN (${robots}) AND uses = 0 AND revoked_at IS NULL
    RETURNING id
  `.execute(db)
  return rows.map(({ id }) => id)
}

export interface NewSetupToken {
  readonly id: string
  readonly secretHash: Buffer
  readonly lastFour: string
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  readonly robotId: string
  readonly createdBy: string
  readonly expiresInSeconds: number
}

export function insertSetupToken(db: Database, token: NewSetupToken) {
  return db
    .insertInto('claim_credentials')
    .values({
      id: token.id,
      kind: 'setup_token',
      secret_hash: token.secretHash,
      secret_sealed: null,
      last_four: token.lastFour,
      name: token.name,
      site_id: token.siteId,
      fleet_id: token.fleetId,
      robot_id: token.robotId,
      max_uses: 1,
      labels: '{}',
      created_by: token.createdBy,
      // Not the transaction's time, which may have waited for a revocation that this token comes after.
      created_at: sql<Date>`statement_timestamp()`,
      expires_at: sql<Date>`statement_timestamp() + make_interval(secs => ${token.expiresInSeconds})`,
    })
    .returning(['id', 'created_at', 'expires_at'])
    .executeTakeFirstOrThrow()
}

/** A robot that was moved takes its setup tokens along, so that they do not go with the fleet it was in. */
export async function moveSetupTokens(
  db: Database,
  robotId: string,
  to: { readonly siteId: string; readonly fleetId: string },
): Promise<void> {
  await db
    .updateTable('claim_credentials')
    .set({ site_id: to.siteId, fleet_id: to.fleetId })
    .where('robot_id', '=', robotId)
    .execute()
}
