-- Provisioning tokens admit any number of robots, or revoke themselves after the first. Setup tokens are for one robot
-- that is there already.
ALTER TABLE claim_credentials
  DROP CONSTRAINT claim_credentials_kind_check,
  ADD CONSTRAINT claim_credentials_kind_check CHECK (kind IN ('enrollment_key', 'provisioning_token', 'setup_token')),
  -- NULL: as many as come.
  ALTER COLUMN max_uses DROP NOT NULL,
  ADD COLUMN single_use boolean NOT NULL DEFAULT false,
  -- The one robot of a setup token. Its `uses` is 1 once it was redeemed, although it admitted nobody.
  ADD COLUMN robot_id uuid REFERENCES robots (id) ON DELETE CASCADE,
  ADD CONSTRAINT claim_credentials_setup_robot CHECK ((kind = 'setup_token') = (robot_id IS NOT NULL)),
  ADD CONSTRAINT claim_credentials_key_limit CHECK (kind <> 'enrollment_key' OR max_uses IS NOT NULL);
CREATE INDEX claim_credentials_robot ON claim_credentials (robot_id) WHERE robot_id IS NOT NULL;

ALTER TABLE robots
  -- The credential that the robot's token came with: not the one that admitted it, where it was bound anew since.
  ADD COLUMN token_credential_id uuid REFERENCES claim_credentials (id) ON DELETE SET NULL,
  -- Set while it waits for approval.
  ADD COLUMN pending_since timestamptz,
  -- What it was before it had to wait; NULL for a robot that is new.
  ADD COLUMN lifecycle_before text CHECK (lifecycle_before IN ('active', 'maintenance'));
UPDATE robots SET token_credential_id = credential_id WHERE token_hash IS NOT NULL;
-- Whoever waits already gets the whole time from here on, and is not taken for new when it took part before.
UPDATE robots r SET
  pending_since = now(),
  lifecycle_before = CASE WHEN EXISTS (
      SELECT FROM robot_status s WHERE s.robot_id = r.id AND s.heartbeat_at IS NOT NULL
    ) OR EXISTS (
      SELECT FROM robot_events e WHERE e.robot_id = r.id AND e.code = 'rebound'
    ) THEN 'active' END
WHERE lifecycle = 'pending';
CREATE INDEX robots_credential ON robots (credential_id) WHERE credential_id IS NOT NULL;
CREATE INDEX robots_token_credential ON robots (token_credential_id) WHERE token_credential_id IS NOT NULL;
CREATE INDEX robots_pending ON robots (pending_since, id) WHERE pending_since IS NOT NULL;
CREATE INDEX robots_pending_of_credential ON robots (credential_id) WHERE pending_since IS NOT NULL;
