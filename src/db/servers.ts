import type { Database } from './database.ts'

export interface ServerBeat {
  readonly id: string
  readonly beat: number
}

/** Says that this server lives. Answers false when its row had been taken away: the others thought it dead. */
export async function beatServer(
  database: Database,
  server: { id: string; hostname: string; processId: number },
): Promise<boolean> {
  const updated = await database
    .updateTable('servers')
    .set((eb) => ({ beat: eb('beat', '+', 1), beat_at: eb.fn<Date>('now') }))
    .where('id', '=', server.id)
    .executeTakeFirst()
  if (updated.numUpdatedRows > 0n) return true
  await database
    .insertInto('servers')
    .values({ id: server.id, hostname: server.hostname, process_id: server.processId })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  return false
}

export async function listServers(database: Database): Promise<ServerBeat[]> {
  return database.selectFrom('servers').select(['id', 'beat']).execute()
}

/** Takes a server off the list, unless it has beaten since. */
export async function removeDeadServer(database: Database, server: ServerBeat): Promise<void> {
  await database.deleteFrom('servers').where('id', '=', server.id).where('beat', '=', server.beat).execute()
}

export async function removeServer(database: Database, id: string): Promise<void> {
  await database.deleteFrom('servers').where('id', '=', id).execute()
}
