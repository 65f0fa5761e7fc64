-- +goose Up

-- A roll's rows above its heading are told as well.
ALTER TABLE roll_fate DROP CONSTRAINT roll_fate_fate_check,
  ADD CONSTRAINT roll_fate_fate_check CHECK (fate IN ('added', 'changed', 'unchanged', 'refused', 'above'));

-- What a roll calls its columns is of use only while its file can be imported: where no
-- heading was found, it was a member's row.
UPDATE roll_import SET header = '[]' WHERE file_sealed IS NULL;
