package spreadsheet

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"
)

var aMoment = time.Date(2026, 3, 2, 23, 59, 58, 0, time.FixedZone("Asia/Shanghai", 8*60*60))

func written(t testing.TB, f Format, rows ...[]any) []byte {
	t.Helper()
	var b bytes.Buffer
	s, err := NewSheet(&b, f, "换电", []string{"日期", "编号"}, []int{12, 40})
	require.NoError(t, err)
	for _, r := range rows {
		require.NoError(t, s.Row(r...))
	}
	require.NoError(t, s.Finish())
	require.NoError(t, s.Close())
	return b.Bytes()
}

// TestCSVForExcel: what Chinese Excel needs to read it right.
func TestCSVForExcel(t *testing.T) {
	t.Parallel()
	require.Equal(t, "\ufeff\"日期\",\"编号\"\r\n2026-03-02,\"'013800000000\"\r\n2026-03-02 23:59:58,\"say \"\"hi\"\", you\"\r\n,7\r\n",
		string(written(t, CSV, []any{Date{aMoment}, "013800000000"}, []any{Moment{aMoment}, `say "hi", you`}, []any{nil, 7})))
	s, err := NewSheet(&bytes.Buffer{}, CSV, "x", nil, nil)
	require.NoError(t, err)
	require.ErrorContains(t, s.Row(3.5), "is no cell")
}

// TestFormulasAreInert (T20).
func TestFormulasAreInert(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{
		"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\x00=1", "＝1", "＋1", "－1", "＠x", " =1", "\u3000=1", "\u00a0-1", "\ufeff=1", "\u200b@x",
		`=HYPERLINK("http://x","y")`, "=cmd|' /C calc'!A0",
	} {
		require.Equal(t, "'"+evil, inert(evil), "%q", evil)
		rows, err := csv.NewReader(bytes.NewReader(written(t, CSV, []any{evil, "a"})[3:])).ReadAll()
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(rows[1][0], "'"), "%q", rows[1][0])
	}
	for _, fine := range []string{"", "a=1", "1-2", "李雷", "'=1", "138-0000", " a", ";=1"} {
		require.Equal(t, fine, inert(fine), "%q", fine)
	}
}

// TestTextsStayAsTheyAreWritten: what a spreadsheet would take for a number, a day
// or a time when it opens a CSV is kept from that, and nothing else is touched.
func TestTextsStayAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"1/3", "1/07", "1/2/999", "3-5", "2026-1", "2026-03-02", "2026/3/2", "3.5", "1:30", "1:30:59", "2026-03-02 23:59", "1:30 PM", "1:30 p", "0:0A", "１：３０Ｐ", "2026-03-02T23:59Z",
		"1e5", "1E5", "12e04", "00123", "01", "0", "7", "10086", "1234567890", "1234567890123456", "13800000000", "1,234", "5%", "(5)", "$5", "¥5", "1 1/2", ".5", " 1/3 ", "\u00a01/3",
		"3 Mar", "mar-0001", "DEC-2026", "may1", "3月5日", "2026年3月", "下午3点", "true", "FALSE", "１２３", "１／３",
	} {
		require.Equal(t, "'"+text, kept(text), "%q", text)
		rows, err := csv.NewReader(bytes.NewReader(written(t, CSV, []any{text, "a"})[3:])).ReadAll()
		require.NoError(t, err)
		require.Equal(t, "'"+text, rows[1][0])
	}
	for _, text := range []string{
		"", "hb-0001", "李雷", "文一西路", "骑手1", "3号楼", "周一 07:00", "÷ 38 个自然日", "2026-02-05–2026-03-14", "a1", "e5", "maria", "March", "-", "A/B",
		"01920000-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-00000000000e", "Trueman", "'1/3",
	} {
		require.Equal(t, text, kept(text), "%q", text)
	}
}

// value is what a text must not look like in a cell, said apart from the code that
// prevents it.
func value(cell string) bool { return anyValue.MatchString(cell) }

var anyValue = regexp.MustCompile(`(?i)^\s*(\d+|\d*[.,]\d+|\d+(\.\d*)?e\d+|\d+[-/.]\d+([-/.]\d+)?|\d+:\d+(:\d+)?( ?[ap]m?)?|\d+ ?%|true|false)\s*$`)

// dangerous is what T20 names, said apart from the code that prevents it.
func dangerous(cell string) bool {
	cell = strings.TrimLeft(cell, " \u00a0\u3000\ufeff\u200b")
	return cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r\n\x00") || strings.HasPrefix(cell, "＝") || strings.HasPrefix(cell, "＋") ||
		strings.HasPrefix(cell, "－") || strings.HasPrefix(cell, "＠")
}

// FuzzCSVIsInert: no text becomes a formula, another cell or another row.
func FuzzCSVIsInert(f *testing.F) {
	for _, s := range []string{"=1", " =1", "a\r\n=1", `","=1`, "＝", "\x00", "a", "", "1/3", "1e5", "00123", "1:30 pm"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		raw := written(t, CSV, []any{a, b})
		require.True(t, bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")))
		rows, err := csv.NewReader(bytes.NewReader(raw[3:])).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 2)
		require.Len(t, rows[1], 2)
		for i, given := range []string{a, b} {
			cell := rows[1][i]
			require.False(t, dangerous(cell), "%q", cell)
			require.False(t, value(cell), "%q", cell)
			same := strings.ReplaceAll(given, "\r\n", "\n") // the reader makes one of them
			require.Contains(t, []string{same, "'" + same}, cell)
		}
	})
}

// TestXLSXHasTypes: texts stay texts, dates are dates, the header stays in sight.
func TestXLSXHasTypes(t *testing.T) {
	t.Parallel()
	raw := written(t, XLSX, []any{Date{aMoment}, "013800000000"}, []any{Moment{aMoment}, "=1+1\x01"}, []any{nil, 7})
	x, err := excelize.OpenReader(bytes.NewReader(raw))
	require.NoError(t, err)
	defer x.Close()
	require.Equal(t, []string{"换电"}, x.GetSheetList())
	cell := func(at string) (string, excelize.CellType) {
		v, err := x.GetCellValue("换电", at)
		require.NoError(t, err)
		typ, err := x.GetCellType("换电", at)
		require.NoError(t, err)
		return v, typ
	}
	for at, want := range map[string]string{"A1": "日期", "A2": "2026-03-02", "A3": "2026-03-02 23:59:58", "B2": "013800000000", "B3": "=1+1", "A4": "", "B4": "7"} {
		v, _ := cell(at)
		require.Equal(t, want, v, at)
	}
	for _, at := range []string{"B2", "B3"} {
		_, typ := cell(at)
		require.Equal(t, excelize.CellTypeInlineString, typ, at)
		formula, err := x.GetCellFormula("换电", at)
		require.NoError(t, err)
		require.Empty(t, formula)
	}
	serial, err := x.GetCellValue("换电", "A2", excelize.Options{RawCellValue: true})
	require.NoError(t, err)
	require.Equal(t, "46083", serial)
	panes, err := x.GetPanes("换电")
	require.NoError(t, err)
	require.True(t, panes.Freeze)
	require.Equal(t, 1, panes.YSplit)
	rows, err := Rows(raw, 100)
	require.NoError(t, err, "our own reader takes it")
	require.Equal(t, "013800000000", rows[1][1])
}

func TestFileName(t *testing.T) {
	t.Parallel()
	require.Equal(t, `attachment; filename="swaps.csv"; filename*=UTF-8''%E6%8D%A2%E7%94%B5%202026.csv`, FileName("swaps.csv", "换电 2026.csv"))
	require.True(t, utf8.ValidString(FileName("a", "\xff")))
}
