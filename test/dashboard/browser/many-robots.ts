import type { TestDatabase } from '../../support/postgres.ts'

/** Robots as if they had been enrolled and heard of, written at once; every 50th is offline, every 90th has a fault. */
export async function insertManyRobots(
  pool: TestDatabase['pool'],
  fleet: { readonly id: string; readonly site_id: string },
  count: number,
): Promise<void> {
  await pool.query(
    `WITH made AS (
       INSERT INTO robots (id, site_id, fleet_id, name, token_hash, token_issued_at, enrolled_at)
       SELECT gen_random_uuid(), $1, $2, 'cart-' || lpad(n::text, 5, '0'), sha256(n::text::bytea), now(), now()
       FROM generate_series(1, $3::integer) AS n
       RETURNING id, right(name, 5)::integer AS n
     )
     INSERT INTO robot_status (robot_id, session_no, connection, connection_reason, last_seen_at,
       heartbeat_seq, heartbeat_at, heartbeat_received_at, health, heartbeat)
     SELECT id, 1, CASE WHEN n % 50 = 0 THEN 'offline' ELSE 'online' END,
       CASE WHEN n % 50 = 0 THEN 'silent' ELSE 'connected' END, now(), 1, now(), now(),
       CASE WHEN n % 90 = 0 THEN 'error' ELSE 'ok' END,
       jsonb_build_object('activity', 'carrying', 'battery', jsonb_build_object('charge', (n % 100) / 100.0),
         'pose', jsonb_build_object('frame', 'hall', 'x', n % 100, 'y', n / 100, 'theta', 0)) ||
       CASE WHEN n % 90 = 0 THEN '{"faults": [{"code": "motor_hot", "level": "error",
         "message": "Motor 2 at 96 degrees", "since": "2026-01-01T00:00:00Z"}]}'::jsonb ELSE '{}' END
     FROM made`,
    [fleet.site_id, fleet.id, count],
  )
}
