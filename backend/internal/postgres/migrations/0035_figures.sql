-- +goose Up

-- What a counted take belongs to, as it was when the take was booked: never
-- changed afterwards, whatever becomes of the cabinet, the rider, or the union's
-- tree. Each is told apart once, so that a take needs two numbers only.
CREATE TABLE counted_cabinet (
  counted_cabinet_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cabinet_id         text NOT NULL,
  street             text NOT NULL,
  digest             bytes16 NOT NULL,          -- of the two columns before
  UNIQUE (cabinet_id, street)
);
CREATE TABLE counted_rider (
  counted_rider_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  rider_id         uuid NOT NULL,
  union_path       bigint[] NOT NULL,           -- union_ids from the top down to the rider's own
  platform         text NOT NULL,
  digest           bytes16 NOT NULL,            -- of the three columns before
  UNIQUE (rider_id, union_path, platform)
);

-- Each counted entry of the ledger. position is the entry's: what a figure says
-- as of a position is the takes up to it, for ever.
CREATE TABLE counted_take (
  day                date NOT NULL,             -- in Asia/Shanghai
  position           bigint NOT NULL,
  at                 timestamptz NOT NULL,
  swap_id            uuid NOT NULL,
  counted_cabinet_id integer NOT NULL,
  counted_rider_id   integer NOT NULL,
  owed               boolean NOT NULL,          -- owed_taken
  PRIMARY KEY (day, position)
);

-- The daily aggregates. Those of cabinets and riders are moved by whoever has the
-- cabinet and the rider to itself; hours are everybody's, so that each replica
-- has a lane of its own, and none waits for another.
CREATE TABLE hour_count (
  day   date NOT NULL,
  hour  smallint NOT NULL CHECK (hour BETWEEN 0 AND 23),
  lane  smallint NOT NULL,
  swaps integer NOT NULL CHECK (swaps > 0),
  PRIMARY KEY (day, hour, lane)
) WITH (fillfactor = 70);
CREATE TABLE cabinet_count (
  day                date NOT NULL,
  counted_cabinet_id integer NOT NULL,
  swaps              integer NOT NULL CHECK (swaps > 0),
  PRIMARY KEY (day, counted_cabinet_id)
) WITH (fillfactor = 80);
-- By rider, of whole months and of their parts (from the 1st, 9th, 17th, 25th):
-- days would be as many rows as there are takes.
CREATE TABLE rider_count (
  whole            boolean NOT NULL,
  since            date NOT NULL,
  counted_rider_id integer NOT NULL,
  swaps            integer NOT NULL CHECK (swaps > 0),
  PRIMARY KEY (whole, since, counted_rider_id),
  CONSTRAINT since_begins_it CHECK (extract(day FROM since) IN (1, 9, 17, 25) AND (NOT whole OR extract(day FROM since) = 1))
) WITH (fillfactor = 80);

-- +goose StatementBegin
-- union_path is a body with all above it, the top first. A ring, which nobody
-- should make, ends after the levels that there are.
CREATE FUNCTION union_path(body bigint) RETURNS bigint[] LANGUAGE sql STABLE AS $$
  WITH RECURSIVE up AS (
    SELECT union_id, parent_id, 1 AS n FROM union_body WHERE union_id = body
    UNION ALL SELECT b.union_id, b.parent_id, n + 1 FROM up JOIN union_body b ON b.union_id = up.parent_id WHERE n < 8)
  SELECT coalesce(array_agg(union_id ORDER BY n DESC), '{}') FROM up
$$;
CREATE FUNCTION part_of(day date) RETURNS date LANGUAGE sql IMMUTABLE AS $$
  SELECT date_trunc('month', day::timestamp)::date + 8 * least((extract(day FROM day)::int - 1) / 8, 3)
$$;
CREATE FUNCTION digest_of(VARIADIC parts text[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT substr(sha256(convert_to(array_to_string(parts, chr(31)), 'UTF8')), 1, 16)
$$;
-- +goose StatementEnd

-- What was counted before.
INSERT INTO counted_cabinet (cabinet_id, street, digest)
  SELECT c.cabinet_id, c.street, digest_of(c.cabinet_id, c.street) FROM cabinet c
  WHERE c.cabinet_id IN (SELECT cabinet_id FROM ledger WHERE counted) ORDER BY 1;
INSERT INTO counted_rider (rider_id, union_path, platform, digest)
  SELECT r.rider_id, p, r.platform, digest_of(r.rider_id::text, p::text, r.platform)
  FROM rider r, LATERAL (SELECT CASE WHEN r.union_id IS NULL THEN '{}' ELSE union_path(r.union_id) END AS p) x
  WHERE r.rider_id IN (SELECT rider_id FROM ledger WHERE counted) ORDER BY 1;
INSERT INTO counted_take (day, position, at, swap_id, counted_cabinet_id, counted_rider_id, owed)
  SELECT l.day, l.position, l.at, l.swap_id, c.counted_cabinet_id, r.counted_rider_id, l.kind = 'owed'
  FROM ledger l JOIN counted_cabinet c USING (cabinet_id) JOIN counted_rider r USING (rider_id) WHERE l.counted ORDER BY l.position;
INSERT INTO hour_count (day, hour, lane, swaps)
  SELECT day, extract(hour FROM at AT TIME ZONE 'Asia/Shanghai'), 0, count(*) FROM counted_take GROUP BY 1, 2;
INSERT INTO cabinet_count (day, counted_cabinet_id, swaps) SELECT day, counted_cabinet_id, count(*) FROM counted_take GROUP BY 1, 2;
INSERT INTO rider_count (whole, since, counted_rider_id, swaps)
  SELECT true, date_trunc('month', day::timestamp)::date, counted_rider_id, count(*) FROM counted_take GROUP BY 2, 3
  UNION ALL SELECT false, part_of(day), counted_rider_id, count(*) FROM counted_take GROUP BY 2, 3;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON counted_take FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON counted_cabinet FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON counted_rider FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON counted_take, counted_cabinet, counted_rider FROM PUBLIC;

-- A figure that somebody gave a name, to be quoted.
CREATE TABLE published_figure (
  name         text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 80),
  first_day    date NOT NULL,
  last_day     date NOT NULL CHECK (last_day >= first_day),
  as_of        bigint NOT NULL,
  swaps        bigint NOT NULL CHECK (swaps >= 0),
  published_by text NOT NULL,
  published_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON published_figure FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON published_figure FROM PUBLIC;

-- How many counted takes an audit has recounted; and that somebody asked for one.
ALTER TABLE audit_run ADD COLUMN swaps bigint;
ALTER TABLE fleet ADD COLUMN audit_wanted_at timestamptz;

-- personal: who may see figures of single riders.
ALTER TABLE staff_account DROP CONSTRAINT staff_account_roles_check,
  ADD CONSTRAINT staff_account_roles_check CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['operator', 'union', 'maintenance', 'admin', 'personal']);
ALTER TABLE staff_token DROP CONSTRAINT staff_token_roles_check,
  ADD CONSTRAINT staff_token_roles_check CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['operator', 'union', 'maintenance', 'admin', 'personal']);

-- Scans come in the order of time, and are read by it once a month.
CREATE INDEX scan_at ON scan USING brin (at) WITH (pages_per_range = 32);
CREATE INDEX review_opened ON review (opened_at);
