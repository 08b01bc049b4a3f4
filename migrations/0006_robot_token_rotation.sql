-- A robot makes its next token itself. Both open sessions until one was opened with the next: then the old one is gone.
ALTER TABLE robots
  ADD COLUMN next_token_hash bytea UNIQUE CHECK (octet_length(next_token_hash) = 32),
  ADD COLUMN next_token_at timestamptz,
  -- Since when the robot has been asked for a new token, and why.
  ADD COLUMN rotation_requested_at timestamptz,
  ADD COLUMN rotation_reason text CHECK (rotation_reason IN ('operator', 'age', 'suspicion'));
CREATE INDEX robots_token_age ON robots (token_issued_at) WHERE token_hash IS NOT NULL AND token_revoked_at IS NULL;
