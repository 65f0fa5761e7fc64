// Package spreadsheet reads and writes what people keep lists in: the first sheet of
// an xlsx file, or a CSV file, which is read in UTF-8 or GB18030.
//
// It knows file formats and nothing of what stands in them. It gives Rows: all
// rows as text, without blanks around a cell; of a number or a date that is what
// the workbook keeps (46053, not 01-31-26); and Sheet, which is written row by row.
// To read it needs the whole file in memory; what it unpacks is bounded.
package spreadsheet

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// Bounds of a file.
const (
	maxCells = 50
	maxUnzip = 64 << 20
)

// ErrEmpty says that nothing stands in a file.
var ErrEmpty = errors.New("file: it is empty")

// TooManyRows says that a file has more rows than Most; Rows is how many, 0 where
// nobody counted to the end.
type TooManyRows struct{ Rows, Most int }

// Error implements error.
func (e *TooManyRows) Error() string {
	if e.Rows == 0 {
		return fmt.Sprintf("file: more than %d rows, want at most as many", e.Most)
	}
	return fmt.Sprintf("file: %d rows, want at most %d", e.Rows, e.Most)
}

// TooManyCells says that a row, counted from 1, is too wide.
type TooManyCells struct{ Row, Cells int }

// Error implements error.
func (e *TooManyCells) Error() string {
	return fmt.Sprintf("row %d: %d cells, want at most %d", e.Row, e.Cells, maxCells)
}

// Rows reads a file of at most so many rows. Rows that are empty at the end are
// left out. Its error is one of those above, a *csv.ParseError, or says what kind
// of file is wanted.
func Rows(file []byte, most int) ([][]string, error) {
	var rows [][]string
	var err error
	switch {
	case len(bytes.TrimSpace(file)) == 0:
		return nil, ErrEmpty
	case bytes.HasPrefix(file, []byte("PK\x03\x04")):
		rows, err = readXLSX(file)
	default:
		rows, err = readCSV(file, most)
	}
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if len(rows[i]) > maxCells {
			return nil, &TooManyCells{i + 1, len(rows[i])}
		}
		for j := range rows[i] {
			rows[i][j] = strings.TrimSpace(rows[i][j])
		}
	}
	for len(rows) > 0 && strings.Join(rows[len(rows)-1], "") == "" {
		rows = rows[:len(rows)-1]
	}
	if len(rows) > most {
		return nil, &TooManyRows{len(rows), most}
	}
	return rows, nil
}

func readXLSX(file []byte) ([][]string, error) {
	x, err := excelize.OpenReader(bytes.NewReader(file), excelize.Options{UnzipSizeLimit: maxUnzip, UnzipXMLSizeLimit: maxUnzip / 4})
	if err != nil {
		return nil, errors.New("file: it is no xlsx workbook that can be read")
	}
	defer x.Close()
	sheets := x.GetSheetList()
	if len(sheets) == 0 {
		return nil, errors.New("file: the workbook has no sheet")
	}
	rows, err := x.GetRows(sheets[0], excelize.Options{RawCellValue: true})
	if err != nil {
		return nil, fmt.Errorf("file: sheet %q: %w", sheets[0], err)
	}
	return rows, nil
}

func readCSV(file []byte, most int) ([][]string, error) {
	file = bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(file) {
		decoded, err := simplifiedchinese.GB18030.NewDecoder().Bytes(file)
		if err != nil || bytes.ContainsRune(decoded, utf8.RuneError) {
			return nil, errors.New("file: want xlsx, or CSV in UTF-8 or GB18030")
		}
		file = decoded
	}
	return readRecords(file, most)
}

// readRecords keeps the lines that are blank, which the reader passes over: rows
// are counted as people see them.
func readRecords(file []byte, most int) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(file))
	r.FieldsPerRecord = -1
	var rows [][]string
	lines, from := 0, int64(0) // before the record that comes
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("file: %w", err)
		}
		first, _ := r.FieldPos(0)
		if len(rows)+first-1-lines > most {
			return nil, &TooManyRows{Most: most}
		}
		for range first - 1 - lines {
			rows = append(rows, nil)
		}
		rows = append(rows, row)
		lines += bytes.Count(file[from:r.InputOffset()], []byte("\n"))
		from = r.InputOffset()
	}
}
