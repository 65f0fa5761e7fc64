-- +goose Up

-- A decision is entries: what it books, and one that names it.
ALTER TABLE ledger
  ADD COLUMN review_id bigint,
  ADD COLUMN ruling text CHECK (ruling IN ('taken', 'returned', 'owed', 'not_deposited', 'noted')),
  ADD COLUMN decided_by text,
  DROP CONSTRAINT ledger_what_check,
  ADD CONSTRAINT ledger_what_check CHECK (what IN ('deposit', 'take', 'return', 'held', 'doubt', 'assigned', 'resolved', 'decided',
    'credit_opened', 'credit_reserved', 'credit_spent', 'credit_freed', 'credit_due', 'credit_settled')),
  DROP CONSTRAINT battery_is_named,
  ADD CONSTRAINT battery_is_named CHECK ((battery_serial IS NOT NULL) = (what IN ('deposit', 'take', 'return', 'held', 'doubt', 'assigned', 'resolved'))),
  ADD CONSTRAINT decision_is_whole CHECK ((what = 'decided') = (ruling IS NOT NULL) AND
    (what <> 'decided' OR review_id IS NOT NULL AND decided_by IS NOT NULL)),
  ADD CONSTRAINT hardship_has_a_review CHECK (origin IS DISTINCT FROM 'review' OR review_id IS NOT NULL);
CREATE UNIQUE INDEX one_decision_per_review ON ledger (review_id) WHERE what = 'decided';
CREATE UNIQUE INDEX one_hardship_per_review_and_day ON ledger (review_id, ((at AT TIME ZONE 'Asia/Shanghai')::date)) WHERE origin = 'review';
-- What became of one battery, in order.
CREATE INDEX ledger_of_battery ON ledger (battery_serial, position) WHERE battery_serial IS NOT NULL;

-- A person may find that a battery left where the cabinet had said that none did.
ALTER TABLE swap
  ADD COLUMN ruling text CHECK (ruling IN ('taken', 'returned', 'owed', 'not_deposited', 'noted')),
  DROP CONSTRAINT not_taken_is_none,
  ADD CONSTRAINT not_taken_is_none CHECK (outcome NOT IN ('deposited_owed', 'owed_not_taken', 'issue_not_taken', 'handed_back') OR taken IS NULL OR ruling IS NOT NULL);

-- What comes after a decision may need another one.
ALTER TABLE review
  DROP CONSTRAINT review_swap_id_key,
  DROP CONSTRAINT review_decision_check,
  DROP CONSTRAINT review_check,
  ADD COLUMN decision_reason text,
  ADD CONSTRAINT review_decision_check CHECK (decision IN ('taken', 'returned', 'owed', 'not_deposited', 'noted')),
  ADD CONSTRAINT decision_reason_is_listed CHECK (decision_reason IN ('seen_on_site', 'camera', 'records', 'rider', 'battery_found', 'cannot_be_told')),
  ADD CONSTRAINT decided_is_whole CHECK (num_nulls(decision, decision_reason, decided_at, decided_by) IN (0, 4));
CREATE UNIQUE INDEX one_open_review_per_swap ON review (swap_id) WHERE decided_at IS NULL;
CREATE INDEX review_of_swap ON review (swap_id) WHERE swap_id IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION refuse_second_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.decided_at IS NOT NULL OR NEW.decided_at IS NULL OR
    (to_jsonb(NEW) - '{decision,decision_reason,decided_at,decided_by}'::text[]) <> (to_jsonb(OLD) - '{decision,decision_reason,decided_at,decided_by}'::text[])
  THEN
    RAISE EXCEPTION 'review %: it is decided once, and nothing else of it changes', OLD.review_id USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER decided_once BEFORE UPDATE ON review FOR EACH ROW EXECUTE FUNCTION refuse_second_decision();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON review FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE DELETE, TRUNCATE ON review FROM PUBLIC;

-- Log messages of an epoch that was over when they came: evidence, in no count.
CREATE TABLE late_batch (
  cabinet_id  text NOT NULL,
  epoch       bytes16 NOT NULL,
  digest      bytes16 NOT NULL,                 -- of the envelope: it may come again
  from_seq    bigint NOT NULL,
  upto_seq    bigint NOT NULL,
  kid         text NOT NULL,
  envelope    bytea NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (cabinet_id, epoch, digest),
  CHECK (from_seq BETWEEN 1 AND upto_seq)
);
ALTER TABLE late_batch ALTER COLUMN envelope SET STORAGE EXTERNAL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON late_batch FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON late_batch FROM PUBLIC;
