import pg from 'pg'
import { cpuSecondsOfTree, parentOf } from './proc.ts'

/** Runs the work on one connection. */
export async function withConnection<Result>(
  url: string,
  work: (connection: pg.Client) => Promise<Result>,
): Promise<Result> {
  const connection = new pg.Client({ connectionString: url })
  await connection.connect()
  try {
    return await work(connection)
  } finally {
    await connection.end()
  }
}

/** Answers with a function that tells the processor seconds that PostgreSQL has used, with all its processes. */
export async function databaseCpuSeconds(url: string): Promise<() => number> {
  const postmaster = await withConnection(url, async (connection) => {
    const { rows } = await connection.query('SELECT pg_backend_pid() AS pid')
    return parentOf(rows[0].pid)
  })
  return () => cpuSecondsOfTree(postmaster)
}
