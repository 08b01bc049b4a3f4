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

-- People, and what each may do where. A person who is removed keeps the row, without what identifies them.
CREATE TABLE users (
  id uuid PRIMARY KEY,
  name text NOT NULL CHECK (name <> ''),
  -- In lower case; NULL for somebody who cannot sign in on the page, as the first owner before their first visit.
  email text CHECK (email = lower(email)),
  -- A time-based one-time password is set up and was confirmed.
  two_factor_enabled boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  last_signed_in_at timestamptz,
  removed_at timestamptz
);
CREATE UNIQUE INDEX users_email ON users (email);

-- Both places NULL: the whole deployment.
CREATE TABLE memberships (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  role text NOT NULL CHECK (role IN ('owner', 'admin', 'operator', 'viewer')),
  site_id uuid REFERENCES sites (id) ON DELETE CASCADE,
  fleet_id uuid REFERENCES fleets (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT memberships_one_place CHECK (site_id IS NULL OR fleet_id IS NULL),
  CONSTRAINT memberships_owner_everywhere CHECK (role <> 'owner' OR (site_id IS NULL AND fleet_id IS NULL)),
  CONSTRAINT memberships_place UNIQUE NULLS NOT DISTINCT (user_id, site_id, fleet_id)
);
CREATE INDEX memberships_site ON memberships (site_id) WHERE site_id IS NOT NULL;
CREATE INDEX memberships_fleet ON memberships (fleet_id) WHERE fleet_id IS NOT NULL;

-- What holds for the whole deployment; one row.
CREATE TABLE security_settings (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  -- Who has no second factor may do nothing but set one up.
  require_second_factor boolean NOT NULL DEFAULT false,
  -- Robots are told to take a new token once theirs is older; NULL: never.
  robot_token_max_age_days integer CHECK (robot_token_max_age_days BETWEEN 1 AND 3650),
  -- A robot is told to take a new token when another machine says it is the same.
  rotate_on_suspicion boolean NOT NULL DEFAULT true,
  updated_at timestamptz NOT NULL DEFAULT now(),
  -- When a server last looked for old tokens: however many servers there are, robots are asked at one pace.
  rotation_pass_at timestamptz
);
-- Tokens that call the REST interface: a person's, or a fleet's own. Only the SHA-256 of a token is kept.
CREATE TABLE access_tokens (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('personal', 'fleet')),
  user_id uuid REFERENCES users (id),
  fleet_id uuid REFERENCES fleets (id) ON DELETE CASCADE,
  name text NOT NULL,
  token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  last_four text NOT NULL,
  -- NULL: all that the owner may do.
  scopes text[],
  allowed_cidrs cidr[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by uuid,
  expires_at timestamptz,
  revoked_at timestamptz,
  -- Written seconds later, many at a time: see docs/security.md.
  last_used_at timestamptz,
  last_used_ip inet,
  -- The token that this one was made to take the place of.
  replaces uuid REFERENCES access_tokens (id) ON DELETE SET NULL,
  CONSTRAINT access_tokens_holder CHECK (
    CASE kind WHEN 'personal' THEN user_id IS NOT NULL AND fleet_id IS NULL
              ELSE fleet_id IS NOT NULL AND user_id IS NULL AND scopes IS NOT NULL END)
) WITH (fillfactor = 80);
CREATE INDEX access_tokens_user ON access_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX access_tokens_fleet ON access_tokens (fleet_id) WHERE fleet_id IS NOT NULL;
CREATE INDEX access_tokens_replaces ON access_tokens (replaces) WHERE replaces IS NOT NULL;

-- A way in for somebody who was invited, or who lost their password: shown once, to be used once.
CREATE TABLE invitations (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  created_by uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  accepted_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX invitations_user ON invitations (user_id);

-- Argon2id, in the form that names its own parameters. Who has none signs in through the identity provider, or not at all.
CREATE TABLE passwords (
  user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  hash text NOT NULL CHECK (hash <> ''),
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- Time-based one-time passwords (RFC 6238).
CREATE TABLE second_factors (
  user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  -- AES-256-GCM.
  secret_sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- NULL until the first right code: it counts for nothing before.
  confirmed_at timestamptz,
  -- The period of the last code that was taken; no code of it or of one before is taken again.
  last_period bigint
);
CREATE TABLE backup_codes (
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
  used_at timestamptz,
  PRIMARY KEY (user_id, code_hash)
);

-- Who somebody is at an identity provider. The email led there once; from then on only this does.
CREATE TABLE identities (
  issuer text NOT NULL,
  subject text NOT NULL,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (issuer, subject),
  CONSTRAINT identities_user UNIQUE (user_id, issuer)
);

-- Sessions of browsers. A row that ended stays until it would have expired, so that nothing written late brings it back.
CREATE TABLE sign_ins (
  id uuid PRIMARY KEY,
  secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
  -- oidc: on the way to the identity provider; second_factor: the password was right; signed_in: all that was asked.
  stage text NOT NULL CHECK (stage IN ('oidc', 'second_factor', 'signed_in')),
  user_id uuid REFERENCES users (id) ON DELETE CASCADE,
  method text CHECK (method IN ('password', 'oidc')),
  -- A second factor was shown, to us or to the identity provider.
  second_factor boolean NOT NULL DEFAULT false,
  -- Wrong second factors so far.
  failures integer NOT NULL DEFAULT 0,
  -- What has to come back from the identity provider, sealed.
  flow_sealed bytea,
  address inet,
  user_agent text,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  CONSTRAINT sign_ins_whose CHECK ((stage = 'oidc') = (user_id IS NULL))
);
CREATE INDEX sign_ins_user ON sign_ins (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sign_ins_expires ON sign_ins (expires_at);

-- Every kind of credential that admits robots. One table and one way to claim.
CREATE TABLE claim_credentials (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('enrollment_key', 'provisioning_token', 'setup_token')),
  secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
  -- AES-256-GCM of the raw value; NULL when the operator asked that nobody can read it again.
  secret_sealed bytea,
  last_four text NOT NULL,
  name text NOT NULL CHECK (name <> ''),
  site_id uuid NOT NULL,
  fleet_id uuid NOT NULL,
  -- NULL: as many as come.
  max_uses integer CHECK (max_uses > 0),
  -- Invariant: the number of robots this credential admitted; of a setup token whether it was redeemed.
  uses integer NOT NULL DEFAULT 0 CHECK (uses >= 0),
  labels jsonb NOT NULL DEFAULT '{}',
  allowed_cidrs cidr[] NOT NULL DEFAULT '{}',
  require_approval boolean NOT NULL DEFAULT false,
  on_existing text NOT NULL DEFAULT 'rebind' CHECK (on_existing IN ('rebind', 'approve', 'reject')),
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The id of a token or of a person.
  created_by uuid,
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  -- Revokes itself after the first success.
  single_use boolean NOT NULL DEFAULT false,
  -- The one robot of a setup token; the reference stands below, where robots are.
  robot_id uuid,
  CONSTRAINT claim_credentials_setup_robot CHECK ((kind = 'setup_token') = (robot_id IS NOT NULL)),
  CONSTRAINT claim_credentials_key_limit CHECK (kind <> 'enrollment_key' OR max_uses IS NOT NULL),
  CONSTRAINT claim_credentials_never_overused CHECK (uses <= max_uses),
  FOREIGN KEY (fleet_id, site_id) REFERENCES fleets (id, site_id) ON DELETE CASCADE
);
CREATE INDEX claim_credentials_fleet ON claim_credentials (fleet_id);
CREATE INDEX claim_credentials_robot ON claim_credentials (robot_id) WHERE robot_id IS NOT NULL;

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
  -- The credential that the robot's token came with: not the one that admitted it, where it was bound anew since.
  token_credential_id uuid REFERENCES claim_credentials (id) ON DELETE SET NULL,
  -- Set while it waits for approval.
  pending_since timestamptz,
  -- What it was before it had to wait; NULL for a robot that is new.
  lifecycle_before text CHECK (lifecycle_before IN ('active', 'maintenance')),
  -- A robot makes its next token itself. Both open sessions until one was opened with the next: then the old one is gone.
  next_token_hash bytea UNIQUE CHECK (octet_length(next_token_hash) = 32),
  next_token_at timestamptz,
  -- The token before: it never comes back.
  previous_token_hash bytea CHECK (octet_length(previous_token_hash) = 32),
  -- Since when the robot has been asked for a new token, and why.
  rotation_requested_at timestamptz,
  rotation_reason text CHECK (rotation_reason IN ('operator', 'age', 'suspicion')),
  CONSTRAINT robots_next_token_differs CHECK (next_token_hash <> token_hash),
  FOREIGN KEY (fleet_id, site_id) REFERENCES fleets (id, site_id),
  UNIQUE (fleet_id, name)
);
CREATE INDEX robots_credential ON robots (credential_id) WHERE credential_id IS NOT NULL;
CREATE INDEX robots_token_credential ON robots (token_credential_id) WHERE token_credential_id IS NOT NULL;
CREATE INDEX robots_pending ON robots (pending_since, id) WHERE pending_since IS NOT NULL;
CREATE INDEX robots_pending_of_credential ON robots (credential_id) WHERE pending_since IS NOT NULL;
-- Robots by the age of their token, those left out who are asked already or have none that stands.
CREATE INDEX robots_token_age ON robots (token_issued_at)
  WHERE token_hash IS NOT NULL AND token_revoked_at IS NULL AND rotation_requested_at IS NULL AND lifecycle <> 'retired';
ALTER TABLE claim_credentials ADD FOREIGN KEY (robot_id) REFERENCES robots (id) ON DELETE CASCADE;
CREATE UNIQUE INDEX robots_claim ON robots (credential_id, claim_id) WHERE claim_id IS NOT NULL;
CREATE UNIQUE INDEX robots_machine ON robots (fleet_id, machine_hash) WHERE machine_hash IS NOT NULL AND lifecycle <> 'retired';
CREATE INDEX robots_machine_anywhere ON robots (machine_hash) WHERE machine_hash IS NOT NULL;
-- The order in which robots are listed unless told otherwise.
CREATE INDEX robots_name ON robots (name, id);
CREATE INDEX robots_labels ON robots USING gin (labels jsonb_path_ops);

-- A next token stands only beside the token it was made for. Whoever gives a robot another token or revokes the one it
-- has ends the next one too, without having to think of it.
CREATE FUNCTION robots_end_next_token() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.token_hash IS DISTINCT FROM OLD.token_hash THEN
    NEW.previous_token_hash := OLD.token_hash;
  END IF;
  NEW.next_token_hash := NULL;
  NEW.next_token_at := NULL;
  NEW.rotation_requested_at := NULL;
  NEW.rotation_reason := NULL;
  RETURN NEW;
END
$$;
CREATE TRIGGER robots_end_next_token BEFORE UPDATE OF token_hash, token_revoked_at, lifecycle ON robots FOR EACH ROW
  WHEN (NEW.token_hash IS DISTINCT FROM OLD.token_hash OR NEW.token_revoked_at IS NOT NULL OR NEW.lifecycle = 'retired')
  EXECUTE FUNCTION robots_end_next_token();

-- One process of the control plane. A process whose beat stands still is dead; its robots get time to return.
CREATE TABLE servers (
  id uuid PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT now(),
  beat bigint NOT NULL DEFAULT 0,
  beat_at timestamptz NOT NULL DEFAULT now(),
  hostname text NOT NULL,
  process_id integer NOT NULL,
  -- The keys that it opens with what is sealed, by their ids; NULL until it has said so.
  secret_key_ids text[]
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
  heartbeat jsonb,
  session_opened_at timestamptz,
  -- The newest session that the robot is known to have known of, for a heartbeat came in it: as it was when the session
  -- now was opened.
  used_session_no bigint NOT NULL DEFAULT 0,
  -- Sessions in a row whose robot had forgotten the used one before: a power cut explains one, and no more.
  sessions_forgotten smallint NOT NULL DEFAULT 0
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

-- What comes late for its partition comes again for another one: see src/gateway/heartbeat-writer.ts.
CREATE FUNCTION heartbeats_refuse_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the partition % is closed', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END
$$;

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

-- Who did what to what. Rows are added and never changed: the triggers below refuse it to everybody, and each row carries
-- the hash of the one before it, so that whoever gets around them is found out.
CREATE TABLE audit_log (
  -- 1, 2, 3 … without a gap: given by audit_log_link, whatever the statement says, as are the two hashes.
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
  data jsonb NOT NULL DEFAULT '{}',
  -- Of row 1: 32 zeros.
  previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
  -- SHA-256 over previous_hash and audit_text of the row.
  hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_action ON audit_log (action, seq);
CREATE INDEX audit_log_actor ON audit_log (actor_id, seq) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_log_user ON audit_log ((data ->> 'user_id'), seq) WHERE data ? 'user_id';
CREATE INDEX audit_log_target ON audit_log (target_id, seq) WHERE target_id IS NOT NULL;
CREATE INDEX audit_log_site ON audit_log (site_id, seq) WHERE site_id IS NOT NULL;
CREATE INDEX audit_log_fleet ON audit_log (fleet_id, seq) WHERE fleet_id IS NOT NULL;
CREATE INDEX audit_log_request ON audit_log (request_id, seq) WHERE request_id IS NOT NULL;
CREATE INDEX audit_log_address ON audit_log (address, seq) WHERE address IS NOT NULL;

-- The newest row's number and hash: tells when the newest rows were cut off. Whoever adds rows holds it until the commit.
CREATE TABLE audit_head (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  seq bigint NOT NULL,
  hash bytea NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 50);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- Every column of a row as one text that no other row has: a JSON array of texts and nulls, without spaces between.
-- docs/contract.md says so, too, for those who check the hashes with programs of their own.
CREATE FUNCTION audit_text(entry audit_log) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT pg_catalog.array_to_json(ARRAY[
    entry.seq::text, entry.id::text, extract(epoch FROM entry.at)::text, entry.action, entry.outcome,
    entry.actor_kind, entry.actor_id::text, entry.actor_name,
    entry.target_kind, entry.target_id, entry.target_name, entry.site_id::text, entry.fleet_id::text,
    entry.request_id, entry.address::text, entry.data::text
  ])::text
$$;

CREATE FUNCTION audit_log_hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM FROM audit_head FOR UPDATE;
  RETURN NULL;
END
$$;

-- The row before is the head, or one that this statement has added since. One that was not added after all, for its id was
-- there already, leaves no gap.
CREATE FUNCTION audit_log_link() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $$
DECLARE
  head_seq bigint;
  head_hash bytea;
BEGIN
  SELECT seq, hash INTO STRICT head_seq, head_hash FROM audit_head;
  SELECT seq, hash INTO NEW.seq, NEW.previous_hash FROM audit_log WHERE seq > head_seq ORDER BY seq DESC LIMIT 1;
  NEW.seq := coalesce(NEW.seq, head_seq) + 1;
  NEW.previous_hash := coalesce(NEW.previous_hash, head_hash);
  NEW.at := pg_catalog.date_trunc('milliseconds', NEW.at);
  NEW.hash := pg_catalog.sha256(NEW.previous_hash || pg_catalog.convert_to(audit_text(NEW), 'UTF8'));
  RETURN NEW;
END
$$;

CREATE FUNCTION audit_log_advance() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET enable_seqscan = off AS $$
BEGIN
  UPDATE audit_head SET seq = newest.seq, hash = newest.hash
  FROM (SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1) AS newest
  WHERE newest.seq > audit_head.seq;
  RETURN NULL;
END
$$;

CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- audit_log_advance may, and nothing else: it runs within a trigger.
  IF TG_TABLE_NAME = 'audit_head' AND TG_OP = 'UPDATE' AND pg_trigger_depth() > 1 THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% of % is refused: the audit log is only ever added to', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Whose functions run with their owner's rights find no tables but these, whatever the caller made for them to find.
-- What they call is named with its schema, for a function that fits its arguments better would be called in its place.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['audit_log_hold', 'audit_log_link', 'audit_log_advance', 'audit_log_refuse'] LOOP
    EXECUTE format('ALTER FUNCTION %I() SET search_path = pg_catalog, %I, pg_temp', name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %I() FROM PUBLIC', name);
  END LOOP;
END
$$;

CREATE TRIGGER audit_log_hold BEFORE INSERT ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_hold();
CREATE TRIGGER audit_log_link BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_link();
CREATE TRIGGER audit_log_advance AFTER INSERT ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_advance();
CREATE TRIGGER audit_log_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse();
CREATE TRIGGER audit_head_refuse BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON audit_head
  FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse();
-- Also while session_replication_role keeps ordinary triggers quiet.
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_hold;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_link;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_advance;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_refuse;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_refuse;
