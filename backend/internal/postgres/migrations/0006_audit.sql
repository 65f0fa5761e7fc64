-- +goose Up

-- What an audit holds rows against: how many entries name a battery, and what an
-- entry said when it was written.
ALTER TABLE battery ADD COLUMN entries integer NOT NULL DEFAULT 0 CHECK (entries >= 0);
UPDATE battery b SET entries = (SELECT count(*) FROM ledger l WHERE l.battery_serial = b.battery_serial);
ALTER TABLE ledger
  ADD COLUMN ground text,
  ADD COLUMN digest bytes16;                    -- null: written before there were any

CREATE TABLE audit_run (
  audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  began_at    timestamptz NOT NULL,
  took_ms     bigint NOT NULL CHECK (took_ms >= 0),
  entries     bigint NOT NULL,
  records     bigint NOT NULL,
  differences bigint NOT NULL
);
