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

-- The keys that a server opens with what is sealed, by their ids; NULL until it has said so.
ALTER TABLE servers ADD COLUMN secret_key_ids text[];
