package fleet

import (
	"bytes"
	"html"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
)

// send uploads a file by the console and waits until it was tried; it gives the
// page of the import and its path.
func (o *office) send(file []byte) (page, path string) {
	o.t.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	part, err := m.CreateFormFile("file", "名册.csv")
	require.NoError(o.t, err)
	_, err = part.Write(file)
	require.NoError(o.t, err)
	require.NoError(o.t, m.Close())
	cookie := o.session("union", 0)
	status, answer, header := o.ask(http.MethodPost, "/staff/roll", nil, func(r *http.Request) {
		r.AddCookie(cookie)
		r.Header.Set("Content-Type", m.FormDataContentType())
		r.Body, r.ContentLength = io.NopCloser(&body), int64(body.Len())
	})
	require.Equal(o.t, http.StatusSeeOther, status, answer)
	return o.rollSettles(header.Get("Location")), header.Get("Location")
}

// rollSettles waits until nothing is being done with a roll.
func (o *office) rollSettles(path string) (page string) {
	o.t.Helper()
	cookie := o.session("union", 0)
	require.Eventually(o.t, func() bool {
		var status int
		status, page, _ = o.ask(http.MethodGet, path, nil, func(r *http.Request) { r.AddCookie(cookie) })
		require.Equal(o.t, http.StatusOK, status)
		return !strings.Contains(page, "<progress")
	}, 20*time.Second, 50*time.Millisecond)
	return page
}

func (o *office) post(path string, form url.Values, confirmed time.Duration) (int, string) {
	o.t.Helper()
	cookie := o.session("union", confirmed)
	status, body, _ := o.ask(http.MethodPost, path, form, func(r *http.Request) { r.AddCookie(cookie) })
	return status, body
}

// checkOf is what the form of a page says which check it is about.
func checkOf(t *testing.T, page string) url.Values {
	t.Helper()
	m := regexp.MustCompile(`name="check" value="([^"]+)"`).FindStringSubmatch(page)
	require.Len(t, m, 2)
	return url.Values{"check": {html.UnescapeString(m[1])}}
}

// TestRollByTheConsole: a file as Excel saves it in China, tried, corrected,
// imported, and a second time without an effect.
func TestRollByTheConsole(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	text := "东新街道名册,,,\r\n\r\n姓名,联系方式,分会,备用电话\r\n李伟,13800001234,一分会,\r\n王芳,139-0000-1234,二分会,\r\n赵六,12345,一分会,\r\n"
	file, err := simplifiedchinese.GB18030.NewEncoder().String(text)
	require.NoError(t, err)
	page, path := o.send([]byte(file))
	require.Contains(t, page, "no such body of the union")
	require.Contains(t, page, "3 refused")
	require.Contains(t, page, "not a mobile number")

	status, _ := o.post(path+"/check", url.Values{"column0": {"name"}, "column1": {"phone"}, "column2": {"branch"}, "column3": {""}, "add_bodies": {"yes"}}, 0)
	require.Equal(t, http.StatusSeeOther, status)
	page = o.rollSettles(path)
	require.Contains(t, page, "2 new")
	require.Contains(t, page, "1 refused")
	require.Contains(t, page, "2 union bodies")
	require.NotContains(t, page, "1380000", "nothing of the file is shown")
	status, body := o.post(path+"/check", url.Values{"column0": {"nonsense"}}, 0)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, body, "is no field")

	status, body = o.post(path+"/import", checkOf(t, page), staff.Fresh+time.Minute)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "confirm_code")
	status, body = o.post(path+"/import", nil, 0)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "Since you looked", "of no check that anybody has read")
	status, _ = o.post(path+"/import", checkOf(t, page), 0)
	require.Equal(t, http.StatusSeeOther, status)
	page = o.rollSettles(path)
	require.Contains(t, page, "Imported")
	require.NotContains(t, page, "/import\"", "it is not imported twice")
	again, path2 := o.send([]byte(text))
	require.Contains(t, again, "2 unchanged")
	require.NotEqual(t, path, path2)

	cookie := o.session("union", 0)
	_, report, header := o.ask(http.MethodGet, path+"/report.csv", nil, func(r *http.Request) { r.AddCookie(cookie) })
	require.Contains(t, header.Get("Content-Disposition"), "roll-")
	require.Regexp(t, `(?m)^6,refused,"?Phone: not a mobile`, report)
}

// TestRollAsAWorkbook: with a title over all columns, a blank row, a phone as a
// number and a date as a date.
func TestRollAsAWorkbook(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := excelize.NewFile()
	defer x.Close()
	require.NoError(t, x.SetCellValue("Sheet1", "A1", "名册"))
	require.NoError(t, x.MergeCell("Sheet1", "A1", "D1"))
	for cell, v := range map[string]any{
		"A3": "姓名", "B3": "手机号", "C3": "会员号", "D3": "入会日期",
		"A4": "李伟", "B4": 13800001234, "C4": "0007", "D4": time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		"A6": "王芳", "B6": "13900001234", "C6": "0008", "D6": "2026年2月1日",
	} {
		require.NoError(t, x.SetCellValue("Sheet1", cell, v))
	}
	var b bytes.Buffer
	require.NoError(t, x.Write(&b))
	page, path := o.send(b.Bytes())
	require.Contains(t, page, "2 new")
	require.NotContains(t, page, "✘")
	status, _ := o.post(path+"/import", checkOf(t, page), 0)
	require.Equal(t, http.StatusSeeOther, status)
	o.rollSettles(path)
	var got string
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT string_agg(membership_no || ' ' || member_from, ', ' ORDER BY membership_no) FROM rider`).Scan(&got))
	require.Equal(t, "0007 2026-01-31, 0008 2026-02-01", got)
}

// TestRollWithAHeadingOfTwoRows: the group of three columns stands over their names, in
// cells that are merged. Each name is taken, also of the columns that the upper row has
// no cell of; no district becomes a branch, and no heading a member.
func TestRollWithAHeadingOfTwoRows(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := excelize.NewFile()
	defer x.Close()
	for cell, v := range map[string]any{
		"A1": "名册", "A2": "姓名", "B2": "手机号", "C2": "所属工会", "C3": "区", "D3": "街道工会", "E3": "分会",
		"A4": "李伟", "B4": 13800001234, "C4": "拱墅区总工会", "D4": "东新街道总工会", "E4": "一分会", "F4": "顺达",
		"A5": "王芳", "B5": 13900001234, "C5": "拱墅区总工会", "D5": "东新街道总工会", "E5": "二分会", "F5": "顺达",
	} {
		require.NoError(t, x.SetCellValue("Sheet1", cell, v))
	}
	for from, to := range map[string]string{"A1": "F1", "A2": "A3", "B2": "B3", "C2": "E2"} {
		require.NoError(t, x.MergeCell("Sheet1", from, to))
	}
	var b bytes.Buffer
	require.NoError(t, x.Write(&b))
	page, path := o.send(b.Bytes())
	require.Contains(t, page, "2 refused", "the bodies are not known, and nothing else is wrong")
	require.Contains(t, page, `<td data-l="Row">1</td><td data-l="Result">above the heading</td>`, "the title")
	require.Contains(t, page, `<label>– (F)<select name="column5">`, "a column without a heading can be chosen")
	status, _ := o.post(path+"/check", url.Values{
		"column0": {"name"}, "column1": {"phone"}, "column2": {"district"}, "column3": {"union_street"}, "column4": {"branch"}, "column5": {"platform"}, "add_bodies": {"yes"},
	}, 0)
	require.Equal(t, http.StatusSeeOther, status)
	page = o.rollSettles(path)
	require.Contains(t, page, "2 new")
	require.Contains(t, page, "0 refused")
	require.Contains(t, page, "4 union bodies")
	status, _ = o.post(path+"/import", checkOf(t, page), 0)
	require.Equal(t, http.StatusSeeOther, status)
	o.rollSettles(path)
	var got string
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT string_agg(level || ' ' || name, ', ' ORDER BY level, name) FROM union_body`).Scan(&got))
	require.Equal(t, "branch 一分会, branch 二分会, district 拱墅区总工会, street 东新街道总工会", got)
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT string_agg(name || ' ' || platform, ', ' ORDER BY name) FROM rider`).Scan(&got))
	require.Equal(t, "李伟 顺达, 王芳 顺达", got)
}

// TestRollFilesThatAreNone: told, and nothing is kept.
func TestRollFilesThatAreNone(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	page, _ := o.send([]byte("姓名全称,b\nc,d\n"))
	require.Contains(t, page, "There is no heading")
	require.Contains(t, page, `name="first_row" value="member" required`)
	page, _ = o.send([]byte("name,remark\nc,d\n"))
	require.Contains(t, page, "No column holds phones")
	page, _ = o.send([]byte(",\n"))
	require.Contains(t, page, "there is not one row in it")
	page, path := o.send([]byte("\xff\xfe\x00nonsense"))
	require.Contains(t, page, "This is no file that can be read")
	cookie := o.session("union", 0)
	_, page, _ = o.ask(http.MethodGet, path+"?lang=zh", nil, func(r *http.Request) { r.AddCookie(cookie) })
	require.Contains(t, page, "这不是能读的文件")
	require.NotContains(t, page, "want ")
	status, body := o.post("/staff/roll", url.Values{"file": {"x"}}, 0)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, body, "did not come whole")
	require.Contains(t, o.rows(), " 4 ", "four files were sent")
}

// TestEveryFileThatCannotBeReadIsTold with its own code, whatever reads it.
func TestEveryFileThatCannotBeReadIsTold(t *testing.T) {
	x := excelize.NewFile()
	t.Cleanup(func() { _ = x.Close() })
	require.NoError(t, x.SetCellValue("Sheet1", "A1", "姓名"))
	var workbook bytes.Buffer
	require.NoError(t, x.Write(&workbook))
	for name, c := range map[string]struct {
		file []byte
		want roll.FileMistake
	}{
		"empty":           {[]byte(" \n"), roll.FileMistake{Code: roll.FileEmpty}},
		"an old workbook": {[]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\xff"), roll.FileMistake{Code: roll.FileUnknown}},
		"half a workbook": {workbook.Bytes()[:workbook.Len()/2], roll.FileMistake{Code: roll.WorkbookUnread}},
		"a quote":         {[]byte("姓名,手机\nx,1\n\"a,2\n"), roll.FileMistake{Code: roll.CSVUnread, N: 3}},
		"rows of text":    {bytes.Repeat([]byte("a,b\n"), postgres.MaxRollRows+1), roll.FileMistake{Code: roll.TooManyRows, N: postgres.MaxRollRows}},
		"columns":         {[]byte("a\n" + strings.Repeat("b,", 60)), roll.FileMistake{Code: roll.TooManyColumns, N: 2}},
	} {
		_, err := ReadRoll(c.file)
		var m *roll.FileMistake
		require.ErrorAs(t, err, &m, name)
		require.Equal(t, c.want, *m, "%s: %v", name, err)
	}
	rows, err := ReadRoll(workbook.Bytes())
	require.NoError(t, err)
	require.Equal(t, [][]string{{"姓名"}}, rows)
}
