-- +goose Up

-- Safety events that people are told of: written with the record itself, so that
-- no crash can lose one. The columns from due_at on are about the telling.
CREATE TABLE safety_event (
  cabinet_id   text NOT NULL,
  epoch        bytes16 NOT NULL,
  seq          bigint NOT NULL CHECK (seq > 0),
  record       text NOT NULL CHECK (record IN ('alarm', 'charge_cut', 'tamper')),
  kind         text NOT NULL,
  slot         smallint,
  swap_id      uuid,
  cleared      boolean NOT NULL,
  at           timestamptz NOT NULL,
  time_quality text NOT NULL CHECK (time_quality IN ('wall', 'stepped', 'age', 'receipt')),
  received_at  timestamptz NOT NULL,
  due_at       timestamptz NOT NULL,            -- next try; while one is tried, when it counts as failed
  tries        integer NOT NULL DEFAULT 0,
  told_at      timestamptz,
  PRIMARY KEY (cabinet_id, epoch, seq)
);
CREATE INDEX safety_event_due ON safety_event (tries, due_at) WHERE told_at IS NULL;
CREATE INDEX safety_event_newest ON safety_event (received_at);
