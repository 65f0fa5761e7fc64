-- +goose Up

-- How many slots are in which state, each in one: what lists and metrics need,
-- without a look into every inventory. The next heartbeat fills them.
ALTER TABLE cabinet_state
  ADD COLUMN slots_out     smallint NOT NULL DEFAULT 0,
  ADD COLUMN slots_charged smallint NOT NULL DEFAULT 0,
  ADD COLUMN slots_holding smallint NOT NULL DEFAULT 0,
  ADD COLUMN slots_empty   smallint NOT NULL DEFAULT 0;
