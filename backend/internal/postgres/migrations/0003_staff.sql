-- +goose Up

CREATE TABLE staff_account (
  login         text PRIMARY KEY CHECK (login ~ '^[a-z0-9._-]{1,32}$'),
  name          text NOT NULL CHECK (name <> ''),
  roles         text[] NOT NULL CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['operator', 'union', 'maintenance', 'admin']),
  password_hash text NOT NULL,
  secret        text NOT NULL,                 -- of the authenticator app
  step          bigint NOT NULL DEFAULT 0,     -- of the last code that was used
  added_at      timestamptz NOT NULL DEFAULT now(),
  disabled_at   timestamptz
);

CREATE TABLE staff_recovery (
  code_hash bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
  login     text NOT NULL REFERENCES staff_account,
  used_at   timestamptz
);
CREATE INDEX staff_recovery_of ON staff_recovery (login) WHERE used_at IS NULL;

CREATE TABLE staff_session (
  token_hash   bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
  login        text NOT NULL REFERENCES staff_account,
  address      text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  seen_at      timestamptz NOT NULL DEFAULT now(),
  confirmed_at timestamptz NOT NULL DEFAULT now(),
  ended_at     timestamptz
);
CREATE INDEX staff_session_of ON staff_session (login) WHERE ended_at IS NULL;

-- Each try to sign in or to give a code, of accounts that exist and of others.
CREATE TABLE staff_try (
  try_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  login   text NOT NULL,
  address text NOT NULL,
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  correct  boolean NOT NULL DEFAULT false
);
CREATE INDEX staff_try_at ON staff_try (at);
CREATE INDEX staff_try_login ON staff_try (login, at) WHERE NOT correct;
CREATE INDEX staff_try_address ON staff_try (address, at) WHERE NOT correct;

-- Machines that use the API.
CREATE TABLE staff_token (
  name       text PRIMARY KEY CHECK (name ~ '^[a-z0-9._-]{1,32}$'),
  token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  roles      text[] NOT NULL CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['operator', 'union', 'maintenance', 'admin']),
  added_at   timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz
);

-- What staff did. hash = SHA-256(hash of the line before ‖ body), of the first
-- line SHA-256(body).
CREATE TABLE audit_log (
  no   bigint PRIMARY KEY CHECK (no > 0),
  body text NOT NULL,
  hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_log_object ON audit_log (((body::jsonb) ->> 'object'), no);
CREATE INDEX audit_log_actor ON audit_log (((body::jsonb) ->> 'actor'), no);

CREATE TABLE audit_head (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  no        bigint NOT NULL DEFAULT 0,
  hash      bytea NOT NULL DEFAULT ''
);
INSERT INTO audit_head DEFAULT VALUES;

-- +goose StatementBegin
CREATE FUNCTION audit_append(actor text, act text, object text, detail jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  head audit_head;
  line text;
BEGIN
  SELECT * INTO head FROM audit_head FOR UPDATE;
  line := jsonb_build_object('no', head.no + 1, 'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'actor', actor, 'act', act, 'object', object, 'detail', detail)::text;
  head.no := head.no + 1;
  head.hash := sha256(head.hash || convert_to(line, 'UTF8'));
  INSERT INTO audit_log (no, body, hash) VALUES (head.no, line, head.hash);
  UPDATE audit_head SET no = head.no, hash = head.hash;
  RETURN head.no;
END $$;
-- +goose StatementEnd

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM PUBLIC;
