-- +goose Up

-- Wrong codes of riders' phones are counted together, too: somebody who guesses
-- from many addresses is in no bound of one address or one code. A code that staff
-- handed out is tried few times from each address, and by others not used up.
ALTER TABLE binding_try
  ADD COLUMN handed boolean NOT NULL DEFAULT false, -- as long as those that staff hand out
  ADD COLUMN guess  boolean NOT NULL DEFAULT false, -- a rider's phone had a code that held
  ADD COLUMN code   bytea;                          -- which of staff was tried, by its hash
CREATE INDEX binding_try_guess ON binding_try (at) WHERE guess;
CREATE INDEX binding_try_code ON binding_try (code, address) WHERE code IS NOT NULL;

ALTER TABLE binding_code
  DROP CONSTRAINT tries_are_few,
  ADD CONSTRAINT tries_are_few CHECK (tries BETWEEN 0 AND 500);
