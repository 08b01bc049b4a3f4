-- A robot makes its next token itself. Both open sessions until one was opened with the next: then the old one is gone.
ALTER TABLE robots
  ADD COLUMN next_token_hash bytea UNIQUE CHECK (octet_length(next_token_hash) = 32),
  ADD COLUMN next_token_at timestamptz,
  -- The token before: it never comes back.
  ADD COLUMN previous_token_hash bytea CHECK (octet_length(previous_token_hash) = 32),
  -- Since when the robot has been asked for a new token, and why.
  ADD COLUMN rotation_requested_at timestamptz,
  ADD COLUMN rotation_reason text CHECK (rotation_reason IN ('operator', 'age', 'suspicion')),
  ADD CONSTRAINT robots_next_token_differs CHECK (next_token_hash <> token_hash);
-- Robots by the age of their token, those left out who are asked already or have none that stands.
CREATE INDEX robots_token_age ON robots (token_issued_at)
  WHERE token_hash IS NOT NULL AND token_revoked_at IS NULL AND rotation_requested_at IS NULL AND lifecycle <> 'retired';

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

-- When a server last looked for old tokens: however many servers there are, robots are asked at one pace.
ALTER TABLE security_settings ADD COLUMN rotation_pass_at timestamptz;
