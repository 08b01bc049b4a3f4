import { sql } from 'kysely'
import type { Database } from './database.ts'

export interface NewInvitation {
  readonly id: string
  readonly userId: string
  readonly tokenHash: Buffer
  readonly createdBy: string
  readonly days: number
}

/** Writes an invitation down and answers until when it stands. */
export async function insertInvitation(db: Database, invitation: NewInvitation): Promise<Date> {
  const { rows } = await sql<{ expires_at: Date }>`
    INSERT INTO invitations (id, user_id, token_hash, created_by, expires_at)
    VALUES (${invitation.id}, ${invitation.userId}, ${invitation.tokenHash}, ${invitation.createdBy},
      now() + make_interval(days => ${invitation.days}))
    RETURNING expires_at
  `.execute(db)
  return rows[0]!.expires_at
}

/** Makes all invitations of somebody void. */
export async function revokeInvitations(db: Database, userId: string): Promise<void> {
  await sql`
    UPDATE invitations SET revoked_at = now()
    WHERE user_id = ${userId} AND accepted_at IS NULL AND revoked_at IS NULL
  `.execute(db)
}

/** Uses an invitation up, once however many ask at the same time; answers whose it was. */
export async function acceptInvitation(
  db: Database,
  tokenHash: Buffer,
): Promise<{ id: string; userId: string } | undefined> {
  const { rows } = await sql<{ id: string; userId: string }>`
    UPDATE invitations i SET accepted_at = clock_timestamp()
    FROM users u
    WHERE i.token_hash = ${tokenHash} AND i.accepted_at IS NULL AND i.revoked_at IS NULL
      AND i.expires_at > clock_timestamp() AND u.id = i.user_id AND u.removed_at IS NULL
    RETURNING i.id, i.user_id AS "userId"
  `.execute(db)
  return rows[0]
}

/** Whose an invitation is that could be accepted now. */
export async function findInvitation(
  db: Database,
  tokenHash: Buffer,
): Promise<{ userId: string; name: string; email: string | null } | undefined> {
  const { rows } = await sql<{ userId: string; name: string; email: string | null }>`
    SELECT u.id AS "userId", u.name, u.email FROM invitations i JOIN users u ON u.id = i.user_id
    WHERE i.token_hash = ${tokenHash} AND i.accepted_at IS NULL AND i.revoked_at IS NULL
      AND i.expires_at > clock_timestamp() AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]
}
