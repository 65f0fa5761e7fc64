-- +goose Up

-- config_confirmed is the version that the cabinet's last CONFIG record names.
ALTER TABLE cabinet
  ADD COLUMN config_confirmed bigint NOT NULL DEFAULT 0,
  ADD COLUMN repairs jsonb NOT NULL DEFAULT '{}'; -- slot: how often it was repaired

-- What staff say of a battery beside where it is.
CREATE TABLE battery_mark (
  battery_serial text NOT NULL CHECK (length(battery_serial) BETWEEN 1 AND 50),
  mark           text NOT NULL CHECK (mark IN ('flagged', 'recalled', 'retired')),
  reason         text NOT NULL CHECK (reason <> ''),
  marked_by      text NOT NULL,
  marked_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (battery_serial, mark)
);
CREATE INDEX battery_recalled ON battery_mark (battery_serial) WHERE mark = 'recalled';

-- One-time codes by which a rider binds a phone. Only the hash is kept.
CREATE TABLE binding_code (
  rider_id   uuid PRIMARY KEY REFERENCES rider, -- a new one replaces the old
  code_hash  bytea NOT NULL CHECK (octet_length(code_hash) = 32),
  made_by    text NOT NULL,
  made_at    timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  tries      integer NOT NULL DEFAULT 0
);

-- What riders report.
CREATE TABLE fault_report (
  report_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cabinet_id  text NOT NULL,
  slot        smallint,
  swap_id     uuid,
  rider_id    uuid,
  kind        text NOT NULL CHECK (kind IN ('door', 'battery', 'screen', 'other')),
  text        text NOT NULL DEFAULT '',
  reported_at timestamptz NOT NULL DEFAULT now(),
  done_at     timestamptz,
  done_by     text,
  done_note   text,
  CONSTRAINT done_is_whole CHECK (num_nulls(done_at, done_by, done_note) IN (0, 3))
);
CREATE INDEX fault_report_open ON fault_report (cabinet_id) WHERE done_at IS NULL;

CREATE INDEX record_of_swap ON record (swap_id) WHERE swap_id IS NOT NULL;
-- TAMPER, ALARM, CHARGE_CUT, MAINTENANCE, CONFIG: few, and looked for by themselves.
CREATE INDEX record_of_cabinet ON record (cabinet_id, at) WHERE type IN (11, 12, 13, 14, 15);
CREATE INDEX record_alarm ON record (at) WHERE type IN (11, 12, 13);
CREATE INDEX swap_of_cabinet ON swap (cabinet_id, swap_id);
CREATE INDEX swap_of_rider ON swap (rider_id, swap_id);
