-- +goose Up

-- Where the ledger was when a month was closed, some days after its end. Breakdowns
-- by what riders are count a month's takes up to there, for ever: two answers of
-- different moments would tell of the few riders that came between them.
CREATE TABLE month_closing (
  month     date PRIMARY KEY CHECK (extract(day FROM month) = 1),
  position  bigint NOT NULL CHECK (position >= 0),
  closed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON month_closing FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON month_closing FROM PUBLIC;

-- Takes that were counted after they were booked (CountMissed): whatever their
-- position, no answer from before had them.
ALTER TABLE counted_take ADD COLUMN missed boolean NOT NULL DEFAULT false;
CREATE INDEX counted_take_missed ON counted_take (day) WHERE missed;
