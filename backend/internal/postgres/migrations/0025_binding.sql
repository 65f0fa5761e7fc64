-- +goose Up

-- Each code that was asked for, for phones of riders and of nobody: what there may
-- be of them is counted here.
CREATE TABLE code_ask (
  ask_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  phone_hash bytea NOT NULL CHECK (octet_length(phone_hash) = 32),
  address    text NOT NULL,
  sent       boolean NOT NULL,                   -- a rider's: a message goes out
  at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX code_ask_phone ON code_ask (phone_hash, at);
CREATE INDEX code_ask_address ON code_ask (address, at);
CREATE INDEX code_ask_sent ON code_ask (at) WHERE sent;
CREATE INDEX code_ask_old ON code_ask (at);

-- The last code of each phone. That of nobody is like any other, and is sent to
-- nobody. Only a keyed hash is kept, and until its message is out the code, closed.
CREATE TABLE phone_code (
  phone_hash  bytea PRIMARY KEY CHECK (octet_length(phone_hash) = 32),
  message_id  uuid NOT NULL UNIQUE,
  rider_id    uuid REFERENCES rider,
  code_hash   bytea NOT NULL CHECK (octet_length(code_hash) = 32),
  code_sealed text,
  language    text NOT NULL CHECK (language IN ('zh', 'en')),
  expires_at  timestamptz NOT NULL,
  tries       smallint NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 5),
  used_at     timestamptz,
  used_by     bytea,                              -- the session that it opened
  due_at      timestamptz NOT NULL,               -- of the next try to send it
  sends       smallint NOT NULL DEFAULT 0,
  CONSTRAINT sent_to_riders_only CHECK (code_sealed IS NULL OR rider_id IS NOT NULL),
  CONSTRAINT used_is_whole CHECK ((used_at IS NULL) = (used_by IS NULL))
);
CREATE INDEX phone_code_due ON phone_code (due_at) WHERE code_sealed IS NOT NULL;
CREATE INDEX phone_code_of_rider ON phone_code (rider_id) WHERE rider_id IS NOT NULL;
CREATE INDEX phone_code_old ON phone_code (expires_at);

-- Tries to bind with a code that was wrong, of whatever phone.
CREATE TABLE binding_try (
  try_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  address text NOT NULL,
  at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX binding_try_address ON binding_try (address, at);
CREATE INDEX binding_try_old ON binding_try (at);

ALTER TABLE binding_code
  ADD COLUMN used_at timestamptz,
  ADD COLUMN used_by bytea,
  ADD CONSTRAINT tries_are_few CHECK (tries BETWEEN 0 AND 5),
  ADD CONSTRAINT used_is_whole CHECK ((used_at IS NULL) = (used_by IS NULL));

-- A session is a device of its rider. What its browser said it is: app and system.
ALTER TABLE session
  ADD COLUMN app     text NOT NULL DEFAULT 'other',
  ADD COLUMN system  text NOT NULL DEFAULT '',
  ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX session_of_rider ON session (rider_id);
CREATE INDEX session_old ON session (expires_at);

-- Which version of the privacy notice a rider accepted, at each binding.
CREATE TABLE privacy_acceptance (
  rider_id    uuid NOT NULL REFERENCES rider,
  version     text NOT NULL CHECK (length(version) BETWEEN 1 AND 20),
  accepted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX privacy_acceptance_of_rider ON privacy_acceptance (rider_id);
