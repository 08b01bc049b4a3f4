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

/** The first process of PostgreSQL, which has started all others. */
export function postmasterOf(url: string): Promise<number> {
  return withConnection(url, async (connection) => {
    const { rows } = await connection.query('SELECT pg_backend_pid() AS pid')
    return parentOf(rows[0].pid)
  })
}

/** Answers with a function that tells the processor seconds that PostgreSQL has used, with all its processes. */
export async function databaseCpuSeconds(url: string): Promise<() => number> {
  const postmaster = await postmasterOf(url)
  return () => cpuSecondsOfTree(postmaster)
}

/** What `withPostgres` has to be given for `databaseStatements`. */
export const COUNTING_STATEMENTS = { shared_preload_libraries: 'pg_stat_statements' }

/** Answers with a function that tells how many statements PostgreSQL has carried out, its own questions aside. */
export async function databaseStatements(url: string): Promise<() => Promise<number>> {
  await withConnection(url, (connection) => connection.query('CREATE EXTENSION pg_stat_statements'))
  return () =>
    withConnection(url, async (connection) => {
      const { rows } = await connection.query(
        "SELECT coalesce(sum(calls), 0)::float8 AS calls FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'",
      )
      return rows[0].calls
    })
}
