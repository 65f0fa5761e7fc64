-- +goose Up

-- The union: city, its districts, their streets, their branches. A body without a
-- parent is the top of what is known.
CREATE TABLE union_body (
  union_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  level     text NOT NULL CHECK (level IN ('city', 'district', 'street', 'branch')),
  name      text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  parent_id bigint REFERENCES union_body CHECK (parent_id <> union_id),
  CONSTRAINT one_name_below_a_parent UNIQUE NULLS NOT DISTINCT (parent_id, name)
);
CREATE INDEX union_body_below ON union_body (parent_id);

-- What the union's roll says of a rider. The phone is closed with a key that the
-- database does not have, and found by a keyed hash. A membership holds from
-- member_from to member_to, both days of Asia/Shanghai included; none: no bound.
ALTER TABLE rider
  ADD COLUMN membership_no text UNIQUE CHECK (length(membership_no) BETWEEN 1 AND 40),
  ADD COLUMN union_id      bigint REFERENCES union_body,
  ADD COLUMN phone_sealed  text,
  ADD COLUMN phone_hash    bytea UNIQUE CHECK (octet_length(phone_hash) = 32),
  ADD COLUMN member_from   date,
  ADD COLUMN member_to     date,
  ADD COLUMN forgotten_at  timestamptz,          -- the person is gone, the pseudonym stays
  ADD CONSTRAINT phone_is_whole CHECK ((phone_sealed IS NULL) = (phone_hash IS NULL)),
  ADD CONSTRAINT membership_has_a_span CHECK (member_from <= member_to);
CREATE INDEX rider_of_union ON rider (union_id) WHERE union_id IS NOT NULL;
