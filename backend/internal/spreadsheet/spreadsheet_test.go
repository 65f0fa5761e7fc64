package spreadsheet

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"
)

const most = 1000

func TestRows(t *testing.T) {
	want := [][]string{{"battery_serial", "type"}, {"B-1", "电池"}}
	x := excelize.NewFile()
	defer x.Close()
	for cell, v := range map[string]string{"A1": "battery_serial", "B1": " type", "A2": "B-1", "B2": "电池", "A9": " "} {
		require.NoError(t, x.SetCellStr("Sheet1", cell, v))
	}
	var b bytes.Buffer
	require.NoError(t, x.Write(&b))
	gb, err := simplifiedchinese.GB18030.NewEncoder().String("battery_serial,type\r\nB-1,电池\r\n")
	require.NoError(t, err)
	for name, file := range map[string]string{
		"xlsx": b.String(), "gb18030": gb, "utf-8": "battery_serial,type\nB-1,电池\n\n", "bom": "\ufeffbattery_serial,type\nB-1 , 电池",
	} {
		got, err := Rows([]byte(file), most)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}

// What a cell shows may be rounded or in the order of another country.
func TestNumbersAndDatesAreAsKept(t *testing.T) {
	x := excelize.NewFile()
	defer x.Close()
	require.NoError(t, x.SetCellValue("Sheet1", "A1", time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)))
	require.NoError(t, x.SetCellValue("Sheet1", "B1", 13800001234))
	var b bytes.Buffer
	require.NoError(t, x.Write(&b))
	got, err := Rows(b.Bytes(), most)
	require.NoError(t, err)
	require.Equal(t, [][]string{{"46053", "13800001234"}}, got)
}

// Blank lines count, as they do in a spreadsheet; a cell of two lines is one row.
func TestRowsAreCountedAsPeopleSeeThem(t *testing.T) {
	got, err := Rows([]byte("\r\ntitle\r\n\r\n\r\n\"a\nb\",c\r\n\r\nd"), most)
	require.NoError(t, err)
	require.Equal(t, [][]string{nil, {"title"}, nil, nil, {"a\nb", "c"}, nil, {"d"}}, got)
}

func TestWrongFiles(t *testing.T) {
	for want, file := range map[string]string{
		"it is empty": " \n", "no xlsx workbook": "PK\x03\x04nonsense", "want xlsx, or CSV": "\xff\xfe\x00\x01\xff", "quote": "a,\"b\n",
		"more than 1000 rows": strings.Repeat("a\n", most+2) + "b", "1001 rows": strings.Repeat("a\n", most+1), "more than 1000 rows, want": strings.Repeat("\n", 5*most) + "b", "want at most 50": strings.Repeat("a,", 60),
	} {
		_, err := Rows([]byte(file), most)
		require.ErrorContains(t, err, want)
	}
}

func FuzzRows(f *testing.F) {
	f.Add([]byte("battery_serial,type\nB-1,x\n"))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, file []byte) {
		rows, err := Rows(file, most)
		if err == nil {
			require.LessOrEqual(t, len(rows), most)
		}
	})
}
