-- The state that all migrations add up to, for reading. Nothing applies this file: whoever adds a migration changes it
-- too, and test/db/schema.test.ts compares the two. (The table schema_migrations is migrate.ts's own.)

-- Sites hold fleets, fleets hold robots.
CREATE TABLE sites (
  id uuid PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name <> ''),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE fleets (
  id uuid PRIMARY KEY,
  site_id uuid NOT NULL REFERENCES sites (id),
  name text NOT NULL CHECK (name <> ''),
  -- NULL: the deployment's own interval.
  heartbeat_interval_ms integer CHECK (heartbeat_interval_ms BETWEEN 500 AND 3600000),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (site_id, name),
  -- Lets a robot or key name fleet and site together, so that the two can never disagree.
  UNIQUE (id, site_id)
);

-- Whoever may call the REST interface. Only the SHA-256 of a token is kept.
CREATE TABLE personal_tokens (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  last_four text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz
);

-- Every kind of credential that admits robots. One table and one way to claim.
CREATE TABLE claim_credentials (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('enrollment_key')),
  secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
  -- AES-256-GCM of the raw value; NULL when the operator asked that nobody can read it again.
  secret_sealed bytea,
  last_four text NOT NULL,
  name text NOT NULL CHECK (name <> ''),
  site_id uuid NOT NULL,
  fleet_id uuid NOT NULL,
  max_uses integer NOT NULL CHECK (max_uses > 0),
  -- Invariant: the number of robots this credential admitted.
  uses integer NOT NULL DEFAULT 0 CHECK (uses >= 0),
  labels jsonb NOT NULL DEFAULT '{}',
  allowed_cidrs cidr[] NOT NULL DEFAULT '{}',
  require_approval boolean NOT NULL DEFAULT false,
  on_existing text NOT NULL DEFAULT 'rebind' CHECK (on_existing IN ('rebind', 'approve', 'reject')),
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by uuid REFERENCES personal_tokens (id),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  CONSTRAINT claim_credentials_never_overused CHECK (uses <= max_uses),
  FOREIGN KEY (fleet_id, site_id) REFERENCES fleets (id, site_id) ON DELETE CASCADE
);
CREATE INDEX claim_credentials_fleet ON claim_credentials (fleet_id);

CREATE TABLE robots (
  id uuid PRIMARY KEY,
  site_id uuid NOT NULL,
  fleet_id uuid NOT NULL,
  name text NOT NULL CHECK (name <> ''),
  labels jsonb NOT NULL DEFAULT '{}',
  lifecycle text NOT NULL DEFAULT 'active' CHECK (lifecycle IN ('pending', 'active', 'maintenance', 'retired')),
  -- The credential that admitted this robot; NULL for one that an operator made by hand.
  credential_id uuid REFERENCES claim_credentials (id) ON DELETE SET NULL,
  claim_id text,
  token_hash bytea UNIQUE CHECK (octet_length(token_hash) = 32),
  token_issued_at timestamptz,
  -- Set while the robot's last token is a revoked one; token_hash keeps that token, so that its bearer is told why.
  token_revoked_at timestamptz,
  machine_hash bytea CHECK (octet_length(machine_hash) = 32),
  fingerprint jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  enrolled_at timestamptz,
  retired_at timestamptz,
  FOREIGN KEY (fleet_id, site_id) REFERENCES fleets (id, site_id),
  UNIQUE (fleet_id, name)
);
CREATE UNIQUE INDEX robots_claim ON robots (credential_id, claim_id) WHERE claim_id IS NOT NULL;
CREATE UNIQUE INDEX robots_machine ON robots (fleet_id, machine_hash) WHERE machine_hash IS NOT NULL AND lifecycle <> 'retired';
CREATE INDEX robots_machine_anywhere ON robots (machine_hash) WHERE machine_hash IS NOT NULL;
-- The order in which robots are listed unless told otherwise.
CREATE INDEX robots_name ON robots (name, id);
CREATE INDEX robots_labels ON robots USING gin (labels jsonb_path_ops);

-- One process of the control plane. A process whose beat stands still is dead; its robots get time to return.
CREATE TABLE servers (
  id uuid PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT now(),
  beat bigint NOT NULL DEFAULT 0,
  beat_at timestamptz NOT NULL DEFAULT now(),
  hostname text NOT NULL,
  process_id integer NOT NULL
);

-- What changes with every heartbeat, apart from the robot itself and without an index on what changes, so that
-- updates stay heap-only.
CREATE TABLE robot_status (
  robot_id uuid PRIMARY KEY REFERENCES robots (id) ON DELETE CASCADE,
  -- Grows by one with each session: the fence against whatever an older session still says.
  session_no bigint NOT NULL DEFAULT 0,
  server_id uuid,
  connection text NOT NULL DEFAULT 'unseen' CHECK (connection IN ('unseen', 'online', 'stale', 'offline')),
  connection_reason text NOT NULL DEFAULT 'never_connected',
  connection_since timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz,
  hello jsonb,
  heartbeat_seq bigint,
  heartbeat_at timestamptz,
  heartbeat_received_at timestamptz,
  health text NOT NULL DEFAULT 'unknown' CHECK (health IN ('ok', 'warn', 'error', 'unknown')),
  heartbeat jsonb
) WITH (fillfactor = 70);

-- Every acknowledged heartbeat. Partitions by arrival, made ahead and dropped by the server.
CREATE TABLE heartbeats (
  robot_id uuid NOT NULL,
  received_at timestamptz NOT NULL,
  -- The robot's own clock.
  at timestamptz NOT NULL,
  session_no bigint NOT NULL,
  seq bigint NOT NULL,
  body jsonb NOT NULL
) PARTITION BY RANGE (received_at);
CREATE INDEX heartbeats_robot_at ON heartbeats (robot_id, at);

-- The timeline: what happened to a robot, as the server saw it or as the robot told.
CREATE TABLE robot_events (
  id uuid PRIMARY KEY,
  robot_id uuid NOT NULL REFERENCES robots (id) ON DELETE CASCADE,
  source text NOT NULL CHECK (source IN ('server', 'robot')),
  -- The robot's own id of its event: telling it twice keeps one.
  event_id text,
  received_at timestamptz NOT NULL DEFAULT now(),
  at timestamptz NOT NULL,
  level text NOT NULL CHECK (level IN ('debug', 'info', 'warn', 'error', 'fatal')),
  code text NOT NULL,
  message text NOT NULL,
  data jsonb NOT NULL DEFAULT '{}',
  UNIQUE (robot_id, event_id)
);
CREATE INDEX robot_events_timeline ON robot_events (robot_id, id);
CREATE INDEX robot_events_age ON robot_events (received_at);

-- Answers to POSTs that carried an Idempotency-Key, kept for a day.
CREATE TABLE idempotent_requests (
  principal_id uuid NOT NULL,
  key text NOT NULL,
  request_hash bytea NOT NULL,
  status integer NOT NULL,
  -- Sealed like a retrievable key, for it may hold one.
  body_sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (principal_id, key)
);
CREATE INDEX idempotent_requests_age ON idempotent_requests (created_at);
