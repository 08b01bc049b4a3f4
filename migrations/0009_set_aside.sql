-- Heartbeats that cannot be packed stay rows: one that is damaged holds up no others.
CREATE TABLE heartbeats_set_aside (
  robot_id uuid NOT NULL,
  received_at timestamptz NOT NULL,
  at timestamptz NOT NULL,
  session_no bigint NOT NULL,
  seq bigint NOT NULL,
  body jsonb NOT NULL
);
CREATE INDEX heartbeats_set_aside_robot_at ON heartbeats_set_aside (robot_id, at);

-- Partitions of heartbeats with rows that cannot even be read. They stay as long as single heartbeats are kept.
CREATE TABLE heartbeats_unreadable (
  begins timestamptz PRIMARY KEY
);
