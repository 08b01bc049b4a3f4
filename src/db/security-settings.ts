import { type Selectable, sql } from 'kysely'
import type { Database } from './database.ts'
import type { Tables } from './tables.ts'

const COLUMNS = [
  'require_second_factor',
  'robot_token_max_age_days',
  'rotate_on_suspicion',
  'updated_at',
] as const

export type SecuritySettings = Pick<Selectable<Tables['security_settings']>, (typeof COLUMNS)[number]>

export async function findSecuritySettings(db: Database): Promise<SecuritySettings> {
  return await db.selectFrom('security_settings').select(COLUMNS).executeTakeFirstOrThrow()
}

/** As `findSecuritySettings`; nobody else changes them before the transaction ends. */
export async function lockSecuritySettings(db: Database): Promise<SecuritySettings> {
  return await db.selectFrom('security_settings').select(COLUMNS).forUpdate().executeTakeFirstOrThrow()
}

export async function updateSecuritySettings(
  db: Database,
  change: Partial<Omit<SecuritySettings, 'updated_at'>>,
): Promise<SecuritySettings> {
  return await db
    .updateTable('security_settings')
    .set({ ...change, updated_at: sql<Date>`now()` })
    .returning(COLUMNS)
    .executeTakeFirstOrThrow()
}
