package pilot

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"batteryswap/simulator/authenticator"
)

// office is who reads the figures: a union's staff member at a browser, and a
// machine with a token.
type office struct {
	url      string
	token    string
	client   *http.Client
	from, to string
}

// openOffice makes an account and a token, and signs in.
func (s *stage) openOffice(ctx context.Context, from, to string) (*office, error) {
	printed, err := s.tools.Run(ctx, "", "backend", "staff", "add", "pilot", "--name", "Pilot", "--role", "union", "--key-dir", s.keys())
	if err != nil {
		return nil, err
	}
	secrets := map[string]string{}
	for line := range strings.Lines(printed) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			secrets[name] = strings.TrimSpace(value)
		}
	}
	token, err := s.tools.Run(ctx, "", "backend", "staff", "token", "add", "pilot", "--role", "union", "--days", "1")
	if err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	o := &office{
		url: s.url, token: strings.TrimSpace(token), from: from, to: to,
		client: &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	code, err := authenticator.Code(secrets["secret"], time.Now())
	if err != nil {
		return nil, err
	}
	_, err = o.ask(ctx, "/staff/sign-in", url.Values{"login": {"pilot"}, "password": {secrets["password"]}, "code": {code}}, http.StatusSeeOther)
	return o, err
}

// ask sends a request, a form by POST, and reads the answer.
func (o *office) ask(ctx context.Context, path string, form url.Values, want int) ([]byte, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, o.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Language", "zh")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if strings.HasPrefix(path, "/api/") {
		req.Header.Set("Authorization", "Bearer "+o.token)
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s: status %d, want %d: %.300s", path, resp.StatusCode, want, answer)
	}
	return answer, err
}

func (o *office) days() string { return url.Values{"from": {o.from}, "to": {o.to}}.Encode() }

// sources are what everybody reads who asks for the pilot's days.
func (o *office) sources(ctx context.Context) ([]Source, error) {
	var out []Source
	for _, x := range []struct {
		name string
		read func(context.Context) (Source, error)
	}{{"page", o.page}, {"api", o.api}, {"xlsx", o.xlsx}, {"csv", o.csv}} {
		s, err := x.read(ctx)
		if err != nil {
			return nil, fmt.Errorf("figure of the %s: %w", x.name, err)
		}
		s.Name = x.name
		out = append(out, s)
	}
	return out, nil
}

// sentence is the one that stands in the newspaper.
var sentence = regexp.MustCompile(`累计换电 ([\d,]+) 次，日均 ([\d,]+) 次`)

func (o *office) page(ctx context.Context) (s Source, err error) {
	page, err := o.ask(ctx, "/staff/statistics?"+o.days(), nil, http.StatusOK)
	if err != nil {
		return s, err
	}
	m := sentence.FindSubmatch(page)
	if m == nil {
		return s, errors.New("the sentence is not there")
	}
	s.Swaps, err = strconv.Atoi(strings.ReplaceAll(string(m[1]), ",", ""))
	if err == nil {
		s.PerDay, err = strconv.Atoi(strings.ReplaceAll(string(m[2]), ",", ""))
	}
	return s, err
}

func (o *office) api(ctx context.Context) (s Source, err error) {
	answer, err := o.ask(ctx, "/api/v1/statistics/swaps?by=day&"+o.days(), nil, http.StatusOK)
	if err != nil {
		return s, err
	}
	var f struct {
		Swaps  int `json:"swaps"`
		PerDay int `json:"per_day"`
		Groups []struct {
			Swaps int `json:"swaps"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(answer, &f); err != nil {
		return s, err
	}
	sum := 0
	for _, g := range f.Groups {
		sum += g.Swaps
	}
	if sum != f.Swaps {
		return s, fmt.Errorf("%d swaps, and %d when its days are added up", f.Swaps, sum)
	}
	return Source{Swaps: f.Swaps, PerDay: f.PerDay}, nil
}

func (o *office) export(ctx context.Context, what, format string) ([]byte, error) {
	return o.ask(ctx, "/staff/statistics/export", url.Values{"from": {o.from}, "to": {o.to}, "by": {"day"}, "what": {what}, "format": {format}}, http.StatusOK)
}

// xlsx reads the workbook of the days: its total, and its average.
func (o *office) xlsx(ctx context.Context) (s Source, err error) {
	file, err := o.export(ctx, "figure", "xlsx")
	if err != nil {
		return s, err
	}
	rows, err := workbook(file)
	if err != nil {
		return s, err
	}
	sum := 0
	for i, row := range rows {
		if len(row) < 3 || i == 0 {
			continue
		}
		n, err := strconv.Atoi(row[2])
		switch {
		case err != nil:
			return s, fmt.Errorf("row %d: %w", i+1, err)
		case row[0] == "合计":
			s.Swaps = n
		case row[0] == "日均":
			s.PerDay = n
		case row[1] != "":
			sum += n
		}
	}
	if sum != s.Swaps {
		return s, fmt.Errorf("%d swaps, and %d when its days are added up", s.Swaps, sum)
	}
	return s, nil
}

// workbook is the first sheet of an xlsx file, as text; what it needs of the
// format is little.
func workbook(file []byte) ([][]string, error) {
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	f, err := z.Open("xl/worksheets/sheet1.xml")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var sheet struct {
		Rows []struct {
			Cells []struct {
				At     string `xml:"r,attr"`
				Value  string `xml:"v"`
				Inline string `xml:"is>t"`
			} `xml:"c"`
		} `xml:"sheetData>row"`
	}
	if err := xml.NewDecoder(f).Decode(&sheet); err != nil {
		return nil, err
	}
	var out [][]string
	for _, r := range sheet.Rows {
		var row []string
		for _, c := range r.Cells {
			for c.At != "" && len(row) < int(c.At[0]-'A') {
				row = append(row, "")
			}
			row = append(row, c.Value+c.Inline)
		}
		out = append(out, row)
	}
	return out, nil
}

// csv counts the rows of the file that has one for each swap.
func (o *office) csv(ctx context.Context) (s Source, err error) {
	file, err := o.export(ctx, "takes", "csv")
	if err != nil {
		return s, err
	}
	rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\ufeff")))).ReadAll()
	if err != nil {
		return s, err
	}
	s.Swaps = max(0, len(rows)-1)
	first, err := time.Parse(time.DateOnly, o.from)
	if err != nil {
		return s, err
	}
	last, err := time.Parse(time.DateOnly, o.to)
	if err != nil {
		return s, err
	}
	s.PerDay = perDay(s.Swaps, int(last.Sub(first)/(24*time.Hour))+1)
	return s, nil
}
