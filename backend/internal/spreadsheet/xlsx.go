package spreadsheet

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// hideEvery is after how many rows the names of temporary files are taken away.
const hideEvery = 256

// xlsxSheet streams rows into a workbook, which is written when it is whole: what
// is too much for memory waits in a temporary file, in a folder of its own.
type xlsxSheet struct {
	book         *excelize.File
	folder       string
	stream       *excelize.StreamWriter
	row          int
	cells        []any
	date, moment int // styles
}

func newXLSX(w io.Writer, name string, header []any, widths []int) (Sheet, error) {
	folder, err := os.MkdirTemp("", "swap-sheet-")
	if err != nil {
		return nil, fmt.Errorf("workbook: %w", err)
	}
	s := &xlsxSheet{folder: folder, book: excelize.NewFile(excelize.Options{TmpDir: folder})}
	// The library would make the whole workbook in memory and write it then.
	s.book.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(w) })
	if err := s.begin(name, header, widths); err != nil {
		return nil, errors.Join(fmt.Errorf("workbook: %w", err), s.Close())
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
	if err := s.stream.SetRow("A"+strconv.Itoa(s.row), s.cells); err != nil {
		return err
	}
	if s.row%hideEvery == 0 {
		return s.hide()
	}
	return nil
}

// hide takes the names of temporary files away, which stay open: what stands in
// them goes with this process, also when it is killed.
func (s *xlsxSheet) hide() error {
	files, err := filepath.Glob(filepath.Join(s.folder, "*"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
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

// Finish implements Sheet.
func (s *xlsxSheet) Finish() error {
	err := s.stream.Flush()
	if err == nil {
		err = s.book.Write(nil) // to where its zip goes
	}
	return err
}

// Close implements Sheet.
func (s *xlsxSheet) Close() error {
	return errors.Join(s.book.Close(), os.RemoveAll(s.folder))
}
