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
