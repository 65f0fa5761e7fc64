package spreadsheet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// Format is a kind of file.
type Format string

// The formats.
const (
	XLSX Format = "xlsx"
	CSV  Format = "csv"
)

// ContentType is what a browser is told.
func (f Format) ContentType() string {
	if f == XLSX {
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	}
	return "text/csv; charset=utf-8"
}

// Date is a cell that holds a calendar day, as its own clock shows it.
type Date struct{ time.Time }

// Moment is a cell that holds a day and a time of day, likewise.
type Moment struct{ time.Time }

// MaxSheetRows bounds a sheet; more does not open in Excel.
const MaxSheetRows = 1_048_576

// Sheet is written row by row. Cells are text (string), numbers (int), Date and
// Moment; nil is empty.
type Sheet interface {
	Row(cells ...any) error
	// Close writes what is left. A sheet that is not closed is no file.
	Close() error
}

// NewSheet begins a sheet with its header. widths are of its columns, in characters.
func NewSheet(w io.Writer, f Format, name string, header []string, widths []int) (Sheet, error) {
	cells := make([]any, len(header))
	for i, h := range header {
		cells[i] = h
	}
	if f == CSV {
		s := &csvSheet{w: bufio.NewWriterSize(w, 64<<10)}
		if _, err := s.w.WriteString("\ufeff"); err != nil { // Excel takes it for UTF-8 then
			return nil, err
		}
		return s, s.Row(cells...)
	}
	return newXLSX(w, name, cells, widths)
}

// csvSheet writes RFC 4180: every text in quotes, lines end with CR LF.
type csvSheet struct {
	w   *bufio.Writer
	row []byte
}

// Row implements Sheet.
func (s *csvSheet) Row(cells ...any) error {
	b := s.row[:0]
	for i, c := range cells {
		if i > 0 {
			b = append(b, ',')
		}
		switch v := c.(type) {
		case nil:
		case string:
			b = append(b, '"')
			b = append(b, strings.ReplaceAll(kept(inert(v)), `"`, `""`)...)
			b = append(b, '"')
		case int:
			b = strconv.AppendInt(b, int64(v), 10)
		case Date:
			b = v.AppendFormat(b, time.DateOnly)
		case Moment:
			b = v.AppendFormat(b, time.DateTime)
		default:
			return fmt.Errorf("cell %d: %T is no cell", i+1, c)
		}
	}
	b = append(b, '\r', '\n')
	s.row = b
	_, err := s.w.Write(b)
	return err
}

// Close implements Sheet.
func (s *csvSheet) Close() error { return s.w.Flush() }

// inert keeps a spreadsheet from taking a text for a formula (security.md, T20).
// What begins like one gets an apostrophe; blanks before it do not help it.
func inert(s string) string {
	for _, r := range s {
		switch r {
		case '=', '+', '-', '@', '\t', '\r', '\n', 0, '＝', '＋', '－', '＠':
			return "'" + s
		case ' ', '\u00a0', '\u3000', '\ufeff', '\u200b':
		default:
			return s
		}
	}
	return s
}

// longDigits is from when on digits are a name, and no number: spreadsheets round
// what is longer than 15, and write what is longer than 11 with an exponent.
const longDigits = 10

// kept keeps a spreadsheet from taking an identifier for a number: phones and
// membership numbers, which would lose their zeros.
func kept(s string) string {
	if s == "" || len(s) < longDigits && s[0] != '0' {
		return s
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return s
		}
	}
	return "'" + s
}

// xlsxSheet streams rows into a workbook, which is written when it is whole: what
// is too much for memory waits in a temporary file.
type xlsxSheet struct {
	w            io.Writer
	book         *excelize.File
	stream       *excelize.StreamWriter
	row          int
	cells        []any
	date, moment int // styles
}

func newXLSX(w io.Writer, name string, header []any, widths []int) (Sheet, error) {
	s := &xlsxSheet{w: w, book: excelize.NewFile()}
	err := s.begin(name, header, widths)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("workbook: %w", err), s.book.Close())
	}
	return s, nil
}

func (s *xlsxSheet) begin(name string, header []any, widths []int) error {
	if err := s.book.SetSheetName("Sheet1", name); err != nil {
		return err
	}
	var err error
	day, second := "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss"
	if s.date, err = s.book.NewStyle(&excelize.Style{CustomNumFmt: &day}); err != nil {
		return err
	}
	if s.moment, err = s.book.NewStyle(&excelize.Style{CustomNumFmt: &second}); err != nil {
		return err
	}
	bold, err := s.book.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}})
	if err != nil {
		return err
	}
	if s.stream, err = s.book.NewStreamWriter(name); err != nil {
		return err
	}
	for i, width := range widths {
		if err := s.stream.SetColWidth(i+1, i+1, float64(width)); err != nil {
			return err
		}
	}
	if err := s.stream.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}); err != nil {
		return err
	}
	s.row = 1
	return s.stream.SetRow("A1", header, excelize.RowOpts{StyleID: bold})
}

// Row implements Sheet.
func (s *xlsxSheet) Row(cells ...any) error {
	s.row++
	s.cells = s.cells[:0]
	for i, c := range cells {
		switch v := c.(type) {
		case nil, int:
			s.cells = append(s.cells, v)
		case string:
			s.cells = append(s.cells, printable(v))
		case Date:
			s.cells = append(s.cells, excelize.Cell{StyleID: s.date, Value: day(v.Time)})
		case Moment:
			s.cells = append(s.cells, excelize.Cell{StyleID: s.moment, Value: day(v.Time) + ofDay(v.Time)})
		default:
			return fmt.Errorf("cell %d: %T is no cell", i+1, c)
		}
	}
	return s.stream.SetRow("A"+strconv.Itoa(s.row), s.cells)
}

// day is how a workbook keeps a day: from 1899-12-30 on, by the clock that shows it.
func day(t time.Time) float64 {
	y, m, d := t.Date()
	return float64(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Sub(time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)) / (24 * time.Hour))
}

// ofDay is the time of day, as a part of it.
func ofDay(t time.Time) float64 {
	return float64(t.Hour()*3600+t.Minute()*60+t.Second()) / (24 * 60 * 60)
}

// printable is what XML can say of a text.
func printable(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r == '\ufffe' || r == '\uffff' {
			return -1
		}
		return r
	}, s)
}

// Close implements Sheet.
func (s *xlsxSheet) Close() error {
	err := s.stream.Flush()
	if err == nil {
		_, err = s.book.WriteTo(s.w)
	}
	return errors.Join(err, s.book.Close())
}

// FileName is the header that names a download: in ASCII for those who know no
// other, and as it is (RFC 6266).
func FileName(ascii, name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, ascii, b.String())
}
