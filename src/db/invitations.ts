import { sql } from 'kysely'
import { type FoundRole, rolesOf } from './access-tokens.ts'
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
): Promise<{ id: string; userId: string; createdBy: string | null } | undefined> {
  const { rows } = await sql<{ id: string; userId: string; createdBy: string | null }>`
    UPDATE invitations i SET accepted_at = clock_timestamp()
    FROM users u
    WHERE i.token_hash = ${tokenHash} AND i.accepted_at IS NULL AND i.revoked_at IS NULL
      AND i.expires_at > clock_timestamp() AND u.id = i.user_id AND u.removed_at IS NULL
    RETURNING i.id, i.user_id AS "userId", i.created_by AS "createdBy"
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

/**
 * What whoever made an invitation holds at this moment, themselves or with the token that they made it with, also when
 * that token is gone. Undefined: they were removed.
 */
export async function findInviter(
  db: Database,
  createdBy: string,
): Promise<{ roles: readonly FoundRole[]; scopes: readonly string[] | null } | undefined> {
  const { rows } = await sql<{ roles: FoundRole[]; scopes: string[] | null }>`
    SELECT coalesce(${rolesOf(sql.ref('u.id'))}, '[]') AS roles, t.scopes
    FROM users u LEFT JOIN access_tokens t ON t.id = ${createdBy}
    WHERE u.id = coalesce(t.user_id, ${createdBy}) AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]
}
