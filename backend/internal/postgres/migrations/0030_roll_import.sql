-- +goose Up

-- A roll that staff sent, from the file to the report. Whoever runs it holds the
-- row; what it does is one transaction, so a replica that dies leaves nothing
-- behind and the next one begins anew. The file is closed with a key that the
-- database does not have, and goes when it is not needed any more.
CREATE TABLE roll_import (
  import_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  file_name   text NOT NULL CHECK (length(file_name) <= 200),
  file_sealed bytea,
  columns     jsonb,                             -- null: as the header says
  add_bodies  boolean NOT NULL DEFAULT false,
  state       text NOT NULL CHECK (state IN ('check', 'checked', 'import', 'imported', 'failed')),
  made_by     text NOT NULL,
  made_at     timestamptz NOT NULL DEFAULT now(),
  wanted_by   text NOT NULL,
  header      jsonb NOT NULL DEFAULT '[]',       -- the cells that name the columns
  mistake     text,                              -- of the file or its columns
  added       integer NOT NULL DEFAULT 0,
  changed     integer NOT NULL DEFAULT 0,
  unchanged   integer NOT NULL DEFAULT 0,
  refused     integer NOT NULL DEFAULT 0,
  bodies      integer NOT NULL DEFAULT 0,        -- of the union, that were or would be added
  finished_at timestamptz,
  CONSTRAINT wanted_has_a_file CHECK (state NOT IN ('check', 'import') OR file_sealed IS NOT NULL),
  CONSTRAINT finished_has_a_time CHECK ((state IN ('check', 'import')) = (finished_at IS NULL))
);
CREATE INDEX roll_import_wanted ON roll_import (import_id) WHERE state IN ('check', 'import');

-- How far it is. Written beside the transaction that does the work.
CREATE TABLE roll_progress (
  import_id bigint PRIMARY KEY REFERENCES roll_import ON DELETE CASCADE,
  done      integer NOT NULL,
  rows      integer NOT NULL
);

-- What became of each row. Nothing that the row said stands here.
CREATE TABLE roll_fate (
  import_id bigint NOT NULL REFERENCES roll_import ON DELETE CASCADE,
  row_no    integer NOT NULL CHECK (row_no > 0),
  fate      text NOT NULL CHECK (fate IN ('added', 'changed', 'unchanged', 'refused')),
  rider_id  uuid,
  detail    jsonb NOT NULL DEFAULT '[]',         -- fields that changed, or what is wrong
  PRIMARY KEY (import_id, row_no)
);

-- The union was a word; it is a body of the tree now.
INSERT INTO union_body (level, name) SELECT DISTINCT 'branch', left(union_name, 100) FROM rider WHERE union_name <> '' ON CONFLICT DO NOTHING;
UPDATE rider SET union_id = (SELECT union_id FROM union_body WHERE name = left(union_name, 100) AND parent_id IS NULL) WHERE union_name <> '' AND union_id IS NULL;
ALTER TABLE rider DROP COLUMN union_name;
