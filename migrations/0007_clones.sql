-- What tells a copied disk from the robot that it was copied from: a copy comes with an older count of sessions.
ALTER TABLE robot_status
  ADD COLUMN session_opened_at timestamptz,
  -- The newest session that the robot is known to have known of, for a heartbeat came in it: as it was when the session
  -- now was opened.
  ADD COLUMN used_session_no bigint NOT NULL DEFAULT 0,
  -- Sessions in a row whose robot had forgotten the used one before: a power cut explains one, and no more.
  ADD COLUMN sessions_forgotten smallint NOT NULL DEFAULT 0;
