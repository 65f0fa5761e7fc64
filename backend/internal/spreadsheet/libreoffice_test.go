package spreadsheet

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// officeCell is a cell of a flat OpenDocument file.
type officeCell struct {
	Type string `xml:"value-type,attr"`
	Date string `xml:"date-value,attr"`
	Text string `xml:"p"`
}

// opened is what LibreOffice makes of a file; of a CSV as a person in China opens it,
// who lets it look for days and times.
func opened(t *testing.T, name string, content []byte) [][]officeCell {
	t.Helper()
	_, err := exec.LookPath("soffice")
	require.NoError(t, err, "want LibreOffice Calc: make deps")
	folder := t.TempDir()
	file := filepath.Join(folder, name)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	args := []string{"--headless", "-env:UserInstallation=file://" + folder + "/profile", "--convert-to", "fods", "--outdir", filepath.Join(folder, "out")}
	if strings.HasSuffix(name, ".csv") { // comma, quote, UTF-8, from line 1, zh-CN, quoted cells are looked at, too
		args = append(args, "--infilter=CSV:44,34,76,1,,2052,false,true")
	}
	cmd := exec.CommandContext(t.Context(), "soffice", append(args, file)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+folder, "SAL_USE_VCLPLUGIN=svp")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	converted, err := os.ReadFile(filepath.Join(folder, "out", strings.TrimSuffix(name, filepath.Ext(name))+".fods"))
	require.NoError(t, err, "%s", said)
	var book struct {
		Rows []struct {
			Cells []officeCell `xml:"table-cell"`
		} `xml:"body>spreadsheet>table>table-row"`
	}
	require.NoError(t, xml.Unmarshal(converted, &book))
	out := make([][]officeCell, len(book.Rows))
	for i, r := range book.Rows {
		out[i] = r.Cells
	}
	return out
}

// TestLibreOfficeOpensThem: identifiers and phones are text, also where they look like
// something else, days are days, Chinese is intact. In a CSV an apostrophe says so.
func TestLibreOfficeOpensThem(t *testing.T) {
	t.Parallel()
	texts := []string{
		"013800000000", "13800000000", "01920000-0000-7000-8000-00000000000a", "hb-0001", "00123", "10086", "1234567890123456", "1/3", "1/07", "3-5", "2026-1", "1:30", "1e5", "5%",
		"3月5日", "true", "=1+1", "李雷", "文一西路", "周一 07:00",
	}
	var rows [][]any
	for _, text := range texts {
		rows = append(rows, []any{Date{aMoment}, Moment{aMoment}, text, 7})
	}
	for _, f := range []Format{XLSX, CSV} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			got := opened(t, "swaps."+string(f), written(t, f, rows...))
			require.Equal(t, []string{"日期", "编号"}, []string{got[0][0].Text, got[0][1].Text})
			for i, text := range texts {
				cells := got[i+1]
				require.GreaterOrEqual(t, len(cells), 4)
				require.Equal(t, officeCell{"date", "2026-03-02", "2026-03-02"}, cells[0])
				require.Equal(t, officeCell{"date", "2026-03-02T23:59:58", "2026-03-02 23:59:58"}, cells[1])
				require.Equal(t, "string", cells[2].Type, "%s became %+v", text, cells[2])
				if f == CSV {
					text = kept(inert(text))
				}
				require.Equal(t, text, cells[2].Text)
				require.Equal(t, "float", cells[3].Type)
			}
		})
	}
}
