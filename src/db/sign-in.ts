import { sql } from 'kysely'
import type { Database } from './database.ts'

/** Somebody who may be the one that signs in. */
export interface FoundSigner {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly passwordHash: string | null
  readonly hasSecondFactor: boolean
  /** Addresses from which they signed in to the end, as far as it is remembered. */
  readonly knownFrom: readonly string[]
}

const signerRows = sql`
  SELECT u.id, u.name, u.email, p.hash AS "passwordHash", u.two_factor_enabled AS "hasSecondFactor",
    ARRAY(SELECT DISTINCT host(s.address) FROM sign_ins s
          WHERE s.user_id = u.id AND s.stage = 'signed_in' AND s.address IS NOT NULL LIMIT 100) AS "knownFrom"
  FROM users u LEFT JOIN passwords p ON p.user_id = u.id`

export async function findSignerByEmail(db: Database, email: string): Promise<FoundSigner | undefined> {
  const { rows } = await sql<FoundSigner>`
    ${signerRows} WHERE u.email = ${email} AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]
}

export async function findSigner(db: Database, userId: string): Promise<FoundSigner | undefined> {
  const { rows } = await sql<FoundSigner>`
    ${signerRows} WHERE u.id = ${userId} AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]
}

/**
 * As `findSigner`; nobody who calls `lockSigner` goes on before the transaction ends, so that a session that is written
 * down now is there for them to end.
 */
export async function shareSigner(db: Database, userId: string): Promise<FoundSigner | undefined> {
  const { rows } = await sql`
    SELECT FROM users WHERE id = ${userId} AND removed_at IS NULL FOR SHARE
  `.execute(db)
  return rows.length === 0 ? undefined : findSigner(db, userId)
}

/** Before somebody's password, second factor or sessions are changed: waits for sign-ins that are being written down. */
export async function lockSigner(db: Database, userId: string): Promise<void> {
  await sql`SELECT FROM users WHERE id = ${userId} FOR UPDATE`.execute(db)
}

/** Who this is at the identity provider, as far as it is known. */
export async function findSignerByIdentity(
  db: Database,
  { issuer, subject }: Identity,
): Promise<FoundSigner | undefined> {
  const { rows } = await sql<FoundSigner>`
    ${signerRows} JOIN identities i ON i.user_id = u.id
    WHERE i.issuer = ${issuer} AND i.subject = ${subject} AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]
}

export interface Identity {
  readonly issuer: string
  readonly subject: string
}

/** Binds somebody to an identity; false when they have one there already, or it is another's. */
export async function bindIdentity(db: Database, userId: string, identity: Identity): Promise<boolean> {
  const { numAffectedRows } = await sql`
    INSERT INTO identities (issuer, subject, user_id) VALUES (${identity.issuer}, ${identity.subject}, ${userId})
    ON CONFLICT DO NOTHING
  `.execute(db)
  return numAffectedRows === 1n
}

export async function forgetIdentities(db: Database, userId: string): Promise<number> {
  const { numAffectedRows } = await sql`DELETE FROM identities WHERE user_id = ${userId}`.execute(db)
  return Number(numAffectedRows ?? 0)
}

export async function setPassword(db: Database, userId: string, hash: string): Promise<void> {
  await sql`
    INSERT INTO passwords (user_id, hash) VALUES (${userId}, ${hash})
    ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, updated_at = now()
  `.execute(db)
}

/** Takes a hash of the same password with newer parameters, unless the password changed meanwhile. */
export async function replaceHash(
  db: Database,
  userId: string,
  before: string,
  after: string,
): Promise<void> {
  await sql`UPDATE passwords SET hash = ${after} WHERE user_id = ${userId} AND hash = ${before}`.execute(db)
}

export async function markSignedIn(db: Database, userId: string): Promise<void> {
  await sql`UPDATE users SET last_signed_in_at = clock_timestamp() WHERE id = ${userId}`.execute(db)
}

/** Keeps a secret that counts for nothing before it is confirmed; false when another one is confirmed already. */
export async function startSecondFactor(
  db: Database,
  userId: string,
  secretSealed: Buffer,
): Promise<boolean> {
  const { numAffectedRows } = await sql`
    INSERT INTO second_factors (user_id, secret_sealed) VALUES (${userId}, ${secretSealed})
    ON CONFLICT (user_id) DO UPDATE
      SET secret_sealed = excluded.secret_sealed, created_at = now(), last_period = NULL
      WHERE second_factors.confirmed_at IS NULL
  `.execute(db)
  return numAffectedRows === 1n
}

export async function findSecondFactor(
  db: Database,
  userId: string,
): Promise<{ secretSealed: Buffer; confirmed: boolean } | undefined> {
  const { rows } = await sql<{ secretSealed: Buffer; confirmed: boolean }>`
    SELECT secret_sealed AS "secretSealed", confirmed_at IS NOT NULL AS confirmed
    FROM second_factors WHERE user_id = ${userId}
  `.execute(db)
  return rows[0]
}

/** Takes the code of a period; false when a code of it or of a later one was taken before, or the secret is another. */
export async function takePeriod(
  db: Database,
  userId: string,
  secretSealed: Buffer,
  period: number,
): Promise<boolean> {
  const { numAffectedRows } = await sql`
    UPDATE second_factors SET last_period = ${period}
    WHERE user_id = ${userId} AND secret_sealed = ${secretSealed}
      AND (last_period IS NULL OR last_period < ${period})
  `.execute(db)
  return numAffectedRows === 1n
}

/** Makes the secret count, and these backup codes with it. */
export async function confirmSecondFactor(
  db: Database,
  userId: string,
  codeHashes: readonly Buffer[],
): Promise<void> {
  await sql`UPDATE second_factors SET confirmed_at = now() WHERE user_id = ${userId}`.execute(db)
  await sql`UPDATE users SET two_factor_enabled = true, updated_at = now() WHERE id = ${userId}`.execute(db)
  await replaceBackupCodes(db, userId, codeHashes)
}

export async function replaceBackupCodes(
  db: Database,
  userId: string,
  codeHashes: readonly Buffer[],
): Promise<void> {
  await db.deleteFrom('backup_codes').where('user_id', '=', userId).execute()
  await sql`
    INSERT INTO backup_codes (user_id, code_hash) SELECT ${userId}, unnest(${codeHashes}::bytea[])
  `.execute(db)
}

export async function takeBackupCode(db: Database, userId: string, codeHash: Buffer): Promise<boolean> {
  const { numAffectedRows } = await sql`
    UPDATE backup_codes SET used_at = clock_timestamp()
    WHERE user_id = ${userId} AND code_hash = ${codeHash} AND used_at IS NULL
  `.execute(db)
  return numAffectedRows === 1n
}

export async function countBackupCodes(db: Database, userId: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    SELECT count(*)::int AS count FROM backup_codes WHERE user_id = ${userId} AND used_at IS NULL
  `.execute(db)
  return rows[0]!.count
}

/** Takes somebody's second factor and backup codes away; false when they had none that counts. */
export async function removeSecondFactor(db: Database, userId: string): Promise<boolean> {
  const { numAffectedRows } = await sql`
    UPDATE users SET two_factor_enabled = false, updated_at = now() WHERE id = ${userId} AND two_factor_enabled
  `.execute(db)
  for (const table of ['second_factors', 'backup_codes'] as const)
    await db.deleteFrom(table).where('user_id', '=', userId).execute()
  // What a session showed counts as a second factor wherever one is asked for: not of one that is gone.
  await sql`UPDATE sign_ins SET second_factor = false WHERE user_id = ${userId} AND second_factor`.execute(db)
  return numAffectedRows === 1n
}
