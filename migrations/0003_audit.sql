-- Who did what to what. Rows are added and never changed.
CREATE TABLE audit_log (
  seq bigint PRIMARY KEY,
  id uuid NOT NULL UNIQUE,
  at timestamptz NOT NULL,
  action text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('ok', 'refused')),
  actor_kind text NOT NULL,
  actor_id uuid,
  actor_name text,
  target_kind text,
  target_id text,
  target_name text,
  -- Where it happened; NULL: the whole deployment. No references: the log outlives what it tells of.
  site_id uuid,
  fleet_id uuid,
  request_id text,
  address inet,
  data jsonb NOT NULL DEFAULT '{}'
);
CREATE SEQUENCE audit_log_seq OWNED BY audit_log.seq;
