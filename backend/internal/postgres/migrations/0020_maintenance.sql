-- +goose Up

-- What maintenance moved is in the ledger, named by the record that told it.
ALTER TABLE ledger
  DROP CONSTRAINT ledger_what_check,
  ADD CONSTRAINT ledger_what_check CHECK (what IN ('deposit', 'take', 'return', 'held', 'doubt', 'assigned', 'removed', 'added', 'resolved', 'decided',
    'credit_opened', 'credit_reserved', 'credit_spent', 'credit_freed', 'credit_due', 'credit_settled')),
  DROP CONSTRAINT battery_is_named,
  ADD CONSTRAINT battery_is_named CHECK ((battery_serial IS NOT NULL) =
    (what IN ('deposit', 'take', 'return', 'held', 'doubt', 'assigned', 'removed', 'added', 'resolved'))),
  ADD CONSTRAINT maintenance_has_a_record CHECK (what NOT IN ('removed', 'added') OR seq IS NOT NULL AND cabinet_id IS NOT NULL AND slot IS NOT NULL);

-- Orders of staff to cabinets. The one that began a maintenance stands for it: it
-- has its end.
CREATE TABLE maintenance_order (
  order_id     uuid PRIMARY KEY,
  cabinet_id   text NOT NULL REFERENCES cabinet,
  what         text NOT NULL CHECK (what IN ('begin', 'open', 'end')),
  slot         smallint CHECK (slot BETWEEN 1 AND 48),
  requested_by text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state        text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'granted', 'done', 'refused')),
  nonce        bytes16,
  reason       text,
  done_at      timestamptz,
  ended_at     timestamptz,
  ended_reason text,
  ended_epoch  bytes16,
  ended_seq    bigint,
  CONSTRAINT open_has_a_slot    CHECK ((what = 'open') = (slot IS NOT NULL)),
  CONSTRAINT granted_has_a_nonce CHECK (state <> 'granted' OR nonce IS NOT NULL),
  CONSTRAINT done_has_a_time    CHECK ((state = 'done') = (done_at IS NOT NULL)),
  CONSTRAINT refused_has_a_reason CHECK (state <> 'refused' OR reason IS NOT NULL),
  CONSTRAINT only_a_begin_ends  CHECK (what = 'begin' OR ended_at IS NULL)
);
CREATE UNIQUE INDEX one_order_per_nonce ON maintenance_order (cabinet_id, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX maintenance_order_of_cabinet ON maintenance_order (cabinet_id, requested_at);
CREATE INDEX maintenance_under_way ON maintenance_order (cabinet_id) WHERE what = 'begin' AND state = 'done' AND ended_at IS NULL;
CREATE INDEX maintenance_of_record ON maintenance_order (cabinet_id, ended_epoch, ended_seq) WHERE ended_seq IS NOT NULL;
