import { withConnection } from './database.ts'

/** Writes down each heartbeat as it is stored: the rows themselves become packs once their hour is over. */
export function keepLedger(databaseUrl: string): Promise<unknown> {
  return withConnection(databaseUrl, (connection) =>
    connection.query(
      `CREATE TABLE bench_stored (robot_id uuid NOT NULL, seq bigint NOT NULL);
       GRANT INSERT ON bench_stored TO PUBLIC;
       CREATE FUNCTION bench_note() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         INSERT INTO bench_stored VALUES (NEW.robot_id, NEW.seq);
         RETURN NULL;
       END $$;
       CREATE TRIGGER bench_note AFTER INSERT ON heartbeats FOR EACH ROW EXECUTE FUNCTION bench_note()`,
    ),
  )
}

export interface Stored {
  readonly stored: number
  readonly twice: number
  /** Numbers between the lowest and the highest that are not there. */
  readonly missing: number
  readonly highest: number
}

/** What is stored of a robot's heartbeats from a number on, which go up by one. */
export function storedSince(databaseUrl: string, robotId: string, firstSeq: number): Promise<Stored> {
  return withConnection(databaseUrl, async (connection) => {
    const { rows } = await connection.query<Record<string, string | null>>(
      `SELECT count(*) AS rows, count(DISTINCT seq) AS seqs, max(seq) AS highest FROM bench_stored
       WHERE robot_id = $1 AND seq >= $2`,
      [robotId, firstSeq],
    )
    const { rows: stored, seqs, highest } = rows[0]!
    return {
      stored: Number(stored),
      twice: Number(stored) - Number(seqs),
      missing: highest === null ? 0 : Number(highest) - firstSeq + 1 - Number(seqs),
      highest: Number(highest ?? 0),
    }
  })
}

/** The highest number of a robot that is stored. */
export function highestStored(databaseUrl: string, robotId: string): Promise<number> {
  return storedSince(databaseUrl, robotId, 0).then(({ highest }) => highest)
}
