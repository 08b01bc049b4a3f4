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
  updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO security_settings DEFAULT VALUES;

-- Tokens that call the REST interface: a person's, or a fleet's own.
ALTER TABLE personal_tokens RENAME TO access_tokens;
ALTER TABLE access_tokens RENAME CONSTRAINT personal_tokens_pkey TO access_tokens_pkey;
ALTER TABLE access_tokens RENAME CONSTRAINT personal_tokens_token_hash_key TO access_tokens_token_hash_key;
ALTER TABLE access_tokens RENAME CONSTRAINT personal_tokens_token_hash_check TO access_tokens_token_hash_check;
ALTER TABLE access_tokens
  ADD COLUMN kind text NOT NULL DEFAULT 'personal' CHECK (kind IN ('personal', 'fleet')),
  ADD COLUMN user_id uuid REFERENCES users (id),
  ADD COLUMN fleet_id uuid REFERENCES fleets (id) ON DELETE CASCADE,
  -- NULL: all that the owner may do.
  ADD COLUMN scopes text[],
  ADD COLUMN allowed_cidrs cidr[] NOT NULL DEFAULT '{}',
  -- Written seconds later, many at a time: see docs/security.md.
  ADD COLUMN last_used_at timestamptz,
  ADD COLUMN last_used_ip inet,
  ADD COLUMN created_by uuid,
  -- The token that this one was made to take the place of.
  ADD COLUMN replaces uuid REFERENCES access_tokens (id) ON DELETE SET NULL;

-- Until now every token was the owner's.
INSERT INTO users (id, name)
SELECT '00000000-0000-7000-8000-000000000001', 'owner' WHERE EXISTS (SELECT FROM access_tokens);
INSERT INTO memberships (id, user_id, role)
SELECT '00000000-0000-7000-8000-000000000002', id, 'owner' FROM users;
UPDATE access_tokens SET user_id = '00000000-0000-7000-8000-000000000001';

ALTER TABLE access_tokens
  ALTER COLUMN kind DROP DEFAULT,
  ADD CONSTRAINT access_tokens_holder CHECK (
    CASE kind WHEN 'personal' THEN user_id IS NOT NULL AND fleet_id IS NULL
              ELSE fleet_id IS NOT NULL AND user_id IS NULL AND scopes IS NOT NULL END);
-- Room for the next version of a row on its page: the time of the last use is written again and again.
ALTER TABLE access_tokens SET (fillfactor = 80);
CREATE INDEX access_tokens_user ON access_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX access_tokens_fleet ON access_tokens (fleet_id) WHERE fleet_id IS NOT NULL;
CREATE INDEX access_tokens_replaces ON access_tokens (replaces) WHERE replaces IS NOT NULL;

-- Whoever made a key may have been signed in on the page: it is the id of a token or of a person.
ALTER TABLE claim_credentials DROP CONSTRAINT claim_credentials_created_by_fkey;
