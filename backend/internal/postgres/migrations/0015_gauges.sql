-- +goose Up

-- What metrics need of a cabinet's last telemetry: its monotonic clock when it
-- spoke, and what its meter has counted, in J. The next heartbeat fills them.
ALTER TABLE cabinet_state
  ADD COLUMN mono_ms  bigint NOT NULL DEFAULT 0,
  ADD COLUMN energy_j double precision;
