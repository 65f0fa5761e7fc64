-- +goose Up

-- Every epoch, hash, nonce and boot_id is 16 bytes.
CREATE DOMAIN bytes16 AS bytea CHECK (octet_length(VALUE) = 16);

CREATE TABLE cabinet (
  cabinet_id     text PRIMARY KEY CHECK (cabinet_id ~ '^[a-z0-9-]{4,24}$'),
  station        text NOT NULL CHECK (station <> ''),
  street         text NOT NULL CHECK (street <> ''),
  slots          smallint NOT NULL CHECK (slots BETWEEN 1 AND 48),
  config_version bigint NOT NULL DEFAULT 1,
  out_of_service boolean NOT NULL DEFAULT false,
  slots_out      smallint[] NOT NULL DEFAULT '{}',
  enrolled_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cabinet_key (
  cabinet_id text NOT NULL REFERENCES cabinet,
  kid        text NOT NULL,
  public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
  added_at   timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz,
  PRIMARY KEY (cabinet_id, kid)
);

-- How far a cabinet's log is in the books. Whoever holds this row is alone with
-- the cabinet's swaps.
CREATE TABLE cabinet_cursor (
  cabinet_id      text PRIMARY KEY REFERENCES cabinet,
  epoch           bytes16,                     -- null until the first hello
  last_seq        bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
  last_hash       bytes16,                     -- null: no record yet, or a hole before the next
  hole            boolean NOT NULL DEFAULT false,
  forked          boolean NOT NULL DEFAULT false,
  boot_seq        bigint NOT NULL DEFAULT 0,
  boot_id         bytes16,
  clock_boot      bigint NOT NULL DEFAULT 0,   -- boot that clock_offset_ms is of
  clock_offset_ms bigint NOT NULL DEFAULT 0,
  heard_at        timestamptz,
  hello_at        timestamptz,
  hello_boot_id   bytes16,
  hello_tail_seq  bigint NOT NULL DEFAULT 0,
  CHECK (epoch IS NOT NULL OR last_seq = 0)
) WITH (fillfactor = 70);

CREATE TABLE cabinet_epoch (
  cabinet_id text NOT NULL REFERENCES cabinet,
  epoch      bytes16 NOT NULL,
  state      text NOT NULL CHECK (state IN ('waiting', 'current', 'left')),
  seen_at    timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (cabinet_id, epoch)
);
CREATE UNIQUE INDEX one_current_epoch ON cabinet_epoch (cabinet_id) WHERE state = 'current';

-- The last telemetry: advice for pages and metrics, never an input to a count.
CREATE TABLE cabinet_state (
  cabinet_id      text PRIMARY KEY REFERENCES cabinet,
  seen_at         timestamptz NOT NULL,
  boot_id         bytes16 NOT NULL,
  boot_seq        bigint NOT NULL,
  software        text NOT NULL,
  backlog_records bigint NOT NULL,
  out_of_service  text,
  alarms          text[] NOT NULL,
  upper_c         double precision,
  inventory       jsonb NOT NULL
) WITH (fillfactor = 70);

-- One row. Not null: the database was restored from a backup, and cabinets know
-- of records that it has not.
CREATE TABLE fleet (
  singleton        boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  recovering_since timestamptz
);
INSERT INTO fleet DEFAULT VALUES;

CREATE TABLE rider (
  rider_id     uuid PRIMARY KEY,
  name         text NOT NULL,
  union_name   text NOT NULL DEFAULT '',
  street       text NOT NULL DEFAULT '',
  platform     text NOT NULL DEFAULT '',
  active       boolean NOT NULL DEFAULT true,
  deposits     integer NOT NULL DEFAULT 0 CHECK (deposits >= 0),
  returns      integer NOT NULL DEFAULT 0 CHECK (returns BETWEEN 0 AND deposits),
  takes        integer NOT NULL DEFAULT 0 CHECK (takes >= 0),
  counted      integer NOT NULL DEFAULT 0 CHECK (counted BETWEEN 0 AND takes),
  issued       integer NOT NULL DEFAULT 0 CHECK (issued BETWEEN 0 AND takes),
  credits_due  integer NOT NULL DEFAULT 0 CHECK (credits_due >= 0),
  open_reviews integer NOT NULL DEFAULT 0 CHECK (open_reviews >= 0),
  added_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

CREATE TABLE session (
  token_hash bytea PRIMARY KEY,
  rider_id   uuid NOT NULL REFERENCES rider,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);

CREATE TABLE credit (
  credit_id uuid PRIMARY KEY,
  rider_id  uuid NOT NULL REFERENCES rider,
  origin    text NOT NULL CHECK (origin IN ('swap', 'staff', 'review')),
  state     text NOT NULL CHECK (state IN ('open', 'reserved', 'spent', 'settled')),
  swap_id   uuid UNIQUE,
  opened_at timestamptz NOT NULL,
  CONSTRAINT credit_has_a_swap CHECK ((state IN ('reserved', 'spent')) = (swap_id IS NOT NULL))
);
CREATE INDEX credit_in_hand ON credit (rider_id) WHERE state IN ('open', 'reserved');

CREATE TABLE battery (
  battery_serial text PRIMARY KEY CHECK (length(battery_serial) BETWEEN 1 AND 50),
  type           text NOT NULL DEFAULT '',
  is_foreign     boolean NOT NULL DEFAULT false,
  holder         text NOT NULL CHECK (holder IN ('rider', 'slot', 'staff', 'review')),
  rider_id       uuid,                          -- no foreign keys: facts must not fail
  cabinet_id     text,
  slot           smallint CHECK (slot BETWEEN 1 AND 48),
  -- Swaps that gave it to their rider and have not told it: it has moved on since.
  ahead_of       uuid[] NOT NULL DEFAULT '{}',
  CONSTRAINT one_custody CHECK (CASE holder
    WHEN 'rider' THEN rider_id IS NOT NULL AND cabinet_id IS NULL AND slot IS NULL
    WHEN 'slot'  THEN rider_id IS NULL AND cabinet_id IS NOT NULL AND slot IS NOT NULL
    WHEN 'staff' THEN rider_id IS NULL AND cabinet_id IS NULL AND slot IS NULL
    ELSE true END)
) WITH (fillfactor = 80);
CREATE INDEX battery_of_rider ON battery (rider_id) WHERE rider_id IS NOT NULL;
CREATE INDEX battery_in_slot ON battery (cabinet_id, slot) WHERE holder = 'slot';
CREATE INDEX battery_ahead ON battery (battery_serial) WHERE ahead_of <> '{}';

CREATE TABLE swap (
  swap_id       uuid PRIMARY KEY,
  cabinet_id    text NOT NULL REFERENCES cabinet,
  rider_id      uuid REFERENCES rider,
  kind          text CHECK (kind IN ('swap', 'owed', 'issue', 'hand_back')),
  state         text NOT NULL CHECK (state IN ('requested', 'granted', 'active', 'closed')),
  by_fact       boolean NOT NULL DEFAULT false,
  parked        boolean NOT NULL DEFAULT false,
  epoch         bytes16,
  boot_seq      bigint NOT NULL DEFAULT 0,
  boot_id       bytes16,
  nonce         bytes16,
  deposit_slots jsonb,
  dispense      jsonb,
  credit_id     uuid,
  step          text NOT NULL,
  slot          smallint NOT NULL DEFAULT 0,
  door          text CHECK (door IN ('open', 'shut')),
  judgement     text CHECK (judgement IN ('accepted', 'not_accepted')),
  deposit_slot  smallint NOT NULL DEFAULT 0,
  deposited     text,
  soc           smallint CHECK (soc BETWEEN 0 AND 100),
  pulsed        jsonb,
  take_slot     smallint NOT NULL DEFAULT 0,
  taken         text,
  outcome       text,
  reason        text,
  reviewed      text,
  entries       integer NOT NULL DEFAULT 0,
  view_seq      bigint NOT NULL,
  requested_at  timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL,
  closed_at     timestamptz,
  CONSTRAINT closed_has_a_time    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
  CONSTRAINT closed_has_an_end    CHECK ((state = 'closed') = (outcome IS NOT NULL)),
  CONSTRAINT request_has_a_rider  CHECK (by_fact OR (rider_id IS NOT NULL AND kind IS NOT NULL)),
  CONSTRAINT granted_has_a_nonce  CHECK (by_fact OR state NOT IN ('granted', 'active') OR nonce IS NOT NULL),
  CONSTRAINT swapped_is_both      CHECK (outcome <> 'swapped' OR (judgement = 'accepted' AND taken IS NOT NULL)),
  CONSTRAINT taken_outcome_is_one CHECK (outcome NOT IN ('owed_taken', 'issued') OR taken IS NOT NULL),
  CONSTRAINT not_taken_is_none    CHECK (outcome NOT IN ('deposited_owed', 'owed_not_taken', 'issue_not_taken', 'handed_back') OR taken IS NULL)
) WITH (fillfactor = 80);
-- Unique indexes guard requests, not facts: by_fact rows are left out.
CREATE UNIQUE INDEX one_open_swap_per_cabinet ON swap (cabinet_id) WHERE state <> 'closed' AND NOT by_fact;
CREATE UNIQUE INDEX one_open_swap_per_rider ON swap (rider_id) WHERE state <> 'closed' AND NOT by_fact AND NOT parked;
CREATE UNIQUE INDEX one_swap_per_nonce ON swap (cabinet_id, nonce) WHERE nonce IS NOT NULL AND NOT by_fact;
CREATE INDEX swap_requested ON swap (requested_at) WHERE state = 'requested';
CREATE INDEX swap_open_at_cabinet ON swap (cabinet_id) WHERE state <> 'closed';
CREATE INDEX swap_open_of_rider ON swap (rider_id) WHERE state <> 'closed';

-- Each presentation of a cabinet's code: the same key answers the stored result.
CREATE TABLE scan (
  rider_id        uuid NOT NULL REFERENCES rider,
  idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 64),
  cabinet_id      text NOT NULL,
  hand_back       boolean NOT NULL,
  swap_id         uuid,
  reason          text,
  other_swap_id   uuid,
  at              timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (rider_id, idempotency_key),
  CONSTRAINT swap_or_reason CHECK ((swap_id IS NULL) <> (reason IS NULL))
);

CREATE TABLE ledger (
  swap_id        uuid NOT NULL,                 -- of a staff act: the act's own id
  entry_no       integer NOT NULL CHECK (entry_no > 0),
  position       bigint GENERATED ALWAYS AS IDENTITY,
  what           text NOT NULL CHECK (what IN ('deposit', 'take', 'return', 'held', 'doubt', 'assigned',
                   'credit_opened', 'credit_reserved', 'credit_spent', 'credit_freed', 'credit_due', 'credit_settled')),
  kind           text CHECK (kind IN ('swap', 'owed', 'issue', 'hand_back')),
  rider_id       uuid,
  cabinet_id     text,
  slot           smallint,
  battery_serial text,
  credit_id      uuid,
  origin         text CHECK (origin IN ('swap', 'staff', 'review')),
  counted        boolean NOT NULL DEFAULT false,
  day            date,                          -- of a take, in Asia/Shanghai
  derived        boolean NOT NULL DEFAULT false,
  holder         text CHECK (holder IN ('rider', 'slot', 'staff', 'review')),
  at             timestamptz NOT NULL,
  time_quality   text NOT NULL CHECK (time_quality IN ('wall', 'stepped', 'age', 'receipt')),
  epoch          bytes16,
  seq            bigint,
  recorded_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (swap_id, entry_no),
  CONSTRAINT take_has_a_day     CHECK ((what = 'take') = (day IS NOT NULL)),
  CONSTRAINT only_takes_count   CHECK (NOT counted OR (what = 'take' AND kind IN ('swap', 'owed') AND rider_id IS NOT NULL)),
  CONSTRAINT credit_is_named    CHECK ((credit_id IS NOT NULL) = (what IN ('credit_opened', 'credit_reserved', 'credit_spent', 'credit_freed', 'credit_settled'))),
  CONSTRAINT battery_is_named   CHECK ((battery_serial IS NOT NULL) = (what IN ('deposit', 'take', 'return', 'held', 'doubt', 'assigned'))),
  CONSTRAINT only_batteries_move CHECK (holder IS NULL OR battery_serial IS NOT NULL)
);
CREATE UNIQUE INDEX one_take_per_swap ON ledger (swap_id) WHERE what = 'take';
CREATE UNIQUE INDEX one_deposit_per_swap ON ledger (swap_id) WHERE what = 'deposit';
CREATE UNIQUE INDEX credit_opened_once ON ledger (credit_id) WHERE what = 'credit_opened';
CREATE UNIQUE INDEX credit_spent_once ON ledger (credit_id) WHERE what IN ('credit_spent', 'credit_settled');

CREATE TABLE day_count (
  rider_id   uuid NOT NULL,
  day        date NOT NULL,
  cabinet_id text NOT NULL,
  swaps      integer NOT NULL CHECK (swaps > 0),
  PRIMARY KEY (rider_id, day, cabinet_id)
);

CREATE TABLE review (
  review_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  swap_id      uuid UNIQUE,                     -- null: a record that belongs to no swap
  cabinet_id   text NOT NULL,
  rider_id     uuid,
  reason       text NOT NULL,
  explanations text[] NOT NULL DEFAULT '{}',
  inventory    jsonb,
  epoch        bytes16,
  seq          bigint NOT NULL,
  at           timestamptz NOT NULL,
  time_quality text NOT NULL,
  opened_at    timestamptz NOT NULL DEFAULT now(),
  decision     text CHECK (decision IN ('taken', 'returned', 'owed', 'not_deposited')),
  decided_at   timestamptz,
  decided_by   text,
  CHECK ((decided_at IS NULL) = (decided_by IS NULL))
);
CREATE UNIQUE INDEX one_review_per_record ON review (cabinet_id, epoch, seq, reason) NULLS NOT DISTINCT WHERE swap_id IS NULL;
CREATE INDEX review_open ON review (rider_id) WHERE decided_at IS NULL;

-- The cabinets' own words: each log message as it was signed, and its records.
CREATE TABLE log_batch (
  cabinet_id  text NOT NULL,
  epoch       bytes16 NOT NULL,
  from_seq    bigint NOT NULL,                  -- first record that was new
  upto_seq    bigint NOT NULL,
  kid         text NOT NULL,
  envelope    bytea NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (cabinet_id, epoch, upto_seq),
  CHECK (from_seq BETWEEN 1 AND upto_seq)
);
-- Signatures and base64 do not compress worth their time.
ALTER TABLE log_batch ALTER COLUMN envelope SET STORAGE EXTERNAL;

CREATE TABLE record (
  cabinet_id   text NOT NULL,
  epoch        bytes16 NOT NULL,
  seq          bigint NOT NULL CHECK (seq > 0),
  boot_seq     bigint NOT NULL,
  type         smallint NOT NULL,
  hash         bytes16 NOT NULL,
  swap_id      uuid,
  at           timestamptz NOT NULL,
  time_quality text NOT NULL,
  malformed    text,
  PRIMARY KEY (cabinet_id, epoch, seq)
);

-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: corrections are entries', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_batch FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON record FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON ledger, log_batch, record FROM PUBLIC;
