-- Heartbeats become packs and roll-ups once their hour is over: the history at a tenth of what its rows take.
CREATE TABLE heartbeat_packs (
  robot_id uuid NOT NULL,
  -- Of the robot's clock; all heartbeats of a pack lie in it.
  hour timestamptz NOT NULL,
  -- Where the partition of heartbeats began that it was packed from.
  received_at timestamptz NOT NULL,
  first_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  lowest_seq bigint NOT NULL,
  highest_seq bigint NOT NULL,
  heartbeats integer NOT NULL,
  -- See src/history/pack.ts.
  data bytea NOT NULL
) PARTITION BY RANGE (received_at);
CREATE INDEX heartbeat_packs_robot_hour ON heartbeat_packs (robot_id, hour);
-- Deflated already.
ALTER TABLE heartbeat_packs ALTER data SET STORAGE EXTERNAL;

-- The minutes of an hour, and the hours of a day in UTC, of the robot's clock: see src/history/rollup.ts.
CREATE TABLE heartbeat_minutes (
  robot_id uuid NOT NULL,
  begins timestamptz NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (robot_id, begins)
) PARTITION BY RANGE (begins);
ALTER TABLE heartbeat_minutes ALTER data SET STORAGE EXTERNAL;
CREATE TABLE heartbeat_hours (
  robot_id uuid NOT NULL,
  begins timestamptz NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (robot_id, begins)
) PARTITION BY RANGE (begins);
ALTER TABLE heartbeat_hours ALTER data SET STORAGE EXTERNAL;

-- Partitions of heartbeats that are closed, and how far each is packed. They are packed in their order; the newest row
-- stays, for it says up to when all is closed.
CREATE TABLE heartbeat_packing (
  begins timestamptz PRIMARY KEY,
  ends timestamptz NOT NULL,
  -- Of robots up to this one all is packed.
  packed_through uuid,
  -- All is: the partition may go.
  packed_at timestamptz
);

-- What comes late for its partition comes again for another one: see src/gateway/heartbeat-writer.ts.
CREATE FUNCTION heartbeats_refuse_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the partition % is closed', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END
$$;
