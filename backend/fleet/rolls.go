package fleet

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/spreadsheet"
)

// ReadRoll reads the rows of a roll that staff sent. Its error is a
// *roll.FileMistake, for which there is a text, with the cause for the log.
func ReadRoll(file []byte) ([][]string, error) {
	rows, err := spreadsheet.Rows(file, postgres.MaxRollRows)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", rollMistake(file, err), err)
	}
	return rows, nil
}

// rollMistake says what is wrong with a file that cannot be read.
func rollMistake(file []byte, err error) *roll.FileMistake {
	var line *csv.ParseError
	var rows *spreadsheet.TooManyRows
	var cells *spreadsheet.TooManyCells
	switch {
	case errors.Is(err, spreadsheet.ErrEmpty):
		return &roll.FileMistake{Code: roll.FileEmpty}
	case errors.As(err, &rows):
		return &roll.FileMistake{Code: roll.TooManyRows, N: rows.Most}
	case errors.As(err, &cells):
		return &roll.FileMistake{Code: roll.TooManyColumns, N: cells.Row}
	case bytes.HasPrefix(file, []byte("PK")):
		return &roll.FileMistake{Code: roll.WorkbookUnread}
	case errors.As(err, &line):
		return &roll.FileMistake{Code: roll.CSVUnread, N: line.Line}
	}
	return &roll.FileMistake{Code: roll.FileUnknown}
}
