-- +goose Up

-- What the first row of a roll is in which no row names a column: a person says.
ALTER TABLE roll_import ADD COLUMN first_row text NOT NULL DEFAULT '' CHECK (first_row IN ('', 'heading', 'member'));
