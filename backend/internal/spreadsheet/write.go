package spreadsheet

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
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
	// Finish writes what is left. A sheet that is not finished is no file.
	Finish() error
	// Close gives back what the sheet holds, whatever has become of it: memory, and
	// temporary files.
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

// Finish implements Sheet.
func (s *csvSheet) Finish() error { return s.w.Flush() }

// Close implements Sheet.
func (*csvSheet) Close() error { return nil }

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
