-- +goose Up

-- What a hello must give back to count in a recovery, drawn anew when one begins:
-- a broker may have kept older ones.
ALTER TABLE fleet ADD COLUMN challenge bytes16 NOT NULL DEFAULT decode(replace(gen_random_uuid()::text, '-', ''), 'hex');
-- The cabinet whose word began the recovery, and the record that it knew of; null: staff did.
ALTER TABLE fleet ADD COLUMN recovering_cabinet text;
ALTER TABLE fleet ADD COLUMN recovering_seq bigint;

ALTER TABLE cabinet_cursor ADD COLUMN hello_challenge bytes16;

-- Taken away for good: nothing more is expected of it.
ALTER TABLE cabinet ADD COLUMN retired_at timestamptz;

-- Nothing is answered by it any more: who has nothing to say is asked for a hello.
ALTER TABLE cabinet_cursor DROP COLUMN hello_boot_id;
