package web

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
)

const (
	rollPath = "/staff/roll"
	// maxRoll bounds a roll: 50,000 members in a workbook are about 4 MiB.
	maxRoll     = 20 << 20
	rollRows    = 100 // of a page of a report
	maxRollRows = 100_000
	uploadTime  = 2 * time.Minute
)

// registerRoll puts the pages of the union's roll on the mux.
func (w *Web) registerRoll(page, act func(string, access, http.HandlerFunc)) {
	work := only(riderWork...)
	page(rollPath, work, w.pageRolls)
	act(rollPath, work, w.postRoll)
	page(rollPath+"/{import_id}", work, w.pageRoll)
	page(rollPath+"/{import_id}/report.csv", work, w.rollReport)
	act(rollPath+"/{import_id}/check", work, w.postCheckRoll)
	act(rollPath+"/{import_id}/import", work.freshly(), w.postImportRoll)
	act("/staff/unions/{union_id}", work, w.postBody)
	act("/staff/riders/{rider_id}/data", only(staff.Admin, staff.Personal).freshly(), w.postRiderData)
	act("/staff/riders/{rider_id}/forget", work.freshly(), w.postForget)
}

type rollsPage struct {
	Bodies  []staff.UnionBody
	Imports []staff.RollImport
	Mistake string // as roll.ParseFileMistake reads it
}

func (w *Web) pageRolls(rw http.ResponseWriter, r *http.Request) {
	w.rolls(rw, r, http.StatusOK, "")
}

func (w *Web) rolls(rw http.ResponseWriter, r *http.Request, status int, mistake string) {
	p := rollsPage{Mistake: mistake}
	var err error
	if p.Bodies, err = w.o.Staff.UnionTree(r.Context()); err == nil {
		p.Imports, err = w.o.Staff.RollImports(r.Context())
	}
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.show(rw, r, status, "rolls", p)
}

// postRoll takes a file and keeps it, closed, until it was checked and imported.
func (w *Web) postRoll(rw http.ResponseWriter, r *http.Request) {
	// A server's time for a request is meant for pages: an office's line is slower.
	_ = http.NewResponseController(rw).SetReadDeadline(time.Now().Add(uploadTime)) // a server that cannot: its own time holds
	name, file, err := readFile(r, maxRoll)
	if err != nil {
		mistake := roll.FileMistake{Code: roll.FileCut}
		if wrong := (*uploadMistake)(nil); errors.As(err, &wrong) {
			mistake = wrong.FileMistake
		}
		w.rolls(rw, r, http.StatusUnprocessableEntity, mistake.Error())
		return
	}
	id, err := w.o.Staff.NewRollImport(r.Context(), name, file)
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	http.Redirect(rw, r, rollPath+"/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
}

// uploadMistake is a file that did not come: by the roll's code, and in words for
// pages that tell mistakes of many kinds in one list.
type uploadMistake struct {
	roll.FileMistake
	said string
}

// Error implements error.
func (m *uploadMistake) Error() string { return "file: " + m.said }

// readFile takes the file out of a form. Its error is an *uploadMistake.
func readFile(r *http.Request, most int64) (string, []byte, error) {
	wrong := func(code roll.Code, n int64, said string) (string, []byte, error) {
		return "", nil, &uploadMistake{roll.FileMistake{Code: code, N: int(n)}, said}
	}
	if err := r.ParseMultipartForm(most); err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return wrong(roll.FileTooLarge, most>>20, fmt.Sprintf("want one of at most %d MiB", most>>20))
		}
		return wrong(roll.FileCut, 0, "want a form with one, whole")
	}
	f, h, err := r.FormFile("file")
	if err != nil {
		return wrong(roll.FileMissing, 0, "want a spreadsheet")
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return wrong(roll.FileCut, 0, "it did not come whole")
	}
	if len(b) == 0 {
		return wrong(roll.FileEmpty, 0, "it is empty")
	}
	return h.Filename, b, nil
}

func importOf(r *http.Request) int64 {
	id, _ := strconv.ParseInt(r.PathValue("import_id"), 10, 64) // not a number: none
	return id
}

type rollPage struct {
	staff.RollImport
	Report  []staff.RollFate
	Fields  []roll.Field
	Choices []choice
	Fate    roll.Fate
	Next    int
	Fates   []roll.Fate
	Percent int
}

// AsksFirstRow reports whether a person has to say what the first row is.
func (p rollPage) AsksFirstRow() bool {
	return p.FirstRow != roll.FirstRowUnsaid || p.Mistake == string(roll.NoHeading)
}

// Check names the check that the page shows: what is imported is that one.
func (p rollPage) Check() string {
	if p.FinishedAt == nil {
		return ""
	}
	return p.FinishedAt.UTC().Format(time.RFC3339Nano)
}

// choice is a column and what it holds.
type choice struct {
	Cell  string
	Field roll.Field
}

// letters is what spreadsheets call a column, counted from 0: A to Z, then AA.
func letters(column int) string {
	name := string(rune('A' + column%26))
	if column >= 26 {
		name = letters(column/26-1) + name
	}
	return name
}

func (w *Web) pageRoll(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, _ := strconv.Atoi(q.Get("from")) // not a number: from the first
	from = max(0, min(from, maxRollRows))
	p := rollPage{Fields: roll.Fields(), Fate: roll.Fate(q.Get("fate")), Fates: roll.Fates()}
	var err error
	if p.RollImport, err = w.o.Staff.RollImport(r.Context(), importOf(r)); err == nil {
		p.Report, err = w.o.Staff.RollFates(r.Context(), p.ID, p.Fate, from, rollRows+1)
	}
	if len(p.Report) > rollRows {
		p.Report, p.Next = p.Report[:rollRows], from+rollRows
	}
	for i, cell := range p.Header {
		c := choice{Cell: cell}
		if cell == "" {
			c.Cell = "– (" + letters(i) + ")"
		}
		if i < len(p.Columns) {
			c.Field = p.Columns[i]
		}
		p.Choices = append(p.Choices, c)
	}
	if p.Rows > 0 {
		p.Percent = min(100, 100*p.Done/p.Rows)
	}
	answer(w, rw, r, "roll", p, err)
}

func (w *Web) postCheckRoll(rw http.ResponseWriter, r *http.Request) {
	i, err := w.o.Staff.RollImport(r.Context(), importOf(r))
	columns := make(roll.Columns, len(i.Header))
	for n := range columns {
		columns[n] = roll.Field(r.PostForm.Get("column" + strconv.Itoa(n)))
	}
	if err == nil {
		err = staff.AsMistake(columns.Validate())
	}
	if err == nil {
		err = w.o.Staff.CheckRoll(r.Context(), i.ID, columns, r.PostForm.Get("add_bodies") == "yes", roll.FirstRow(r.PostForm.Get("first_row")))
	}
	w.after(rw, r, err, rollPath+"/"+strconv.FormatInt(importOf(r), 10), "roll_check")
}

func (w *Web) postImportRoll(rw http.ResponseWriter, r *http.Request) {
	checked, _ := time.Parse(time.RFC3339Nano, r.PostForm.Get("check")) // none: it is no check's
	w.after(rw, r, w.o.Staff.ImportRoll(r.Context(), importOf(r), checked), rollPath+"/"+strconv.FormatInt(importOf(r), 10), "roll_import")
}

func (w *Web) postBody(rw http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("union_id"), 10, 64) // not a number: none
	w.after(rw, r, w.o.Staff.RenameBody(r.Context(), id, r.PostForm.Get("name")), rollPath, "renamed")
}

// rollReport is what became of every row, to be sorted and sent on. It says
// nothing of what stands in the rows.
func (w *Web) rollReport(rw http.ResponseWriter, r *http.Request) {
	i, err := w.o.Staff.RollImport(r.Context(), importOf(r))
	var fates []staff.RollFate
	if err == nil {
		fates, err = w.o.Staff.RollFates(r.Context(), i.ID, "", 0, maxRollRows)
	}
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	t := w.console.texts[language(r)]
	h := rw.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", "attachment; filename=\"roll-"+strconv.FormatInt(i.ID, 10)+".csv\"")
	_, _ = io.WriteString(rw, "\ufeff") // Excel takes it for UTF-8 then; who is gone need not be told
	c := csv.NewWriter(rw)
	c.UseCRLF = true
	_ = c.Write([]string{t.text("import.row"), t.text("fate"), t.text("audit.detail")})
	for _, f := range fates {
		_ = c.Write([]string{strconv.Itoa(f.Row), t.text("fate." + string(f.Fate)), strings.Join(t.fate(f), "; ")})
	}
	c.Flush()
}

// rollMistake is what is wrong with a roll as a whole; what an older program has
// written down is shown as it is.
func (t texts) rollMistake(kept string) string {
	m, known := roll.ParseFileMistake(kept)
	if !known {
		return t.text("import.wrong") + " " + kept
	}
	return t.number("rollcode."+string(m.Code), "{n}", m.N)
}

// fate says what changed in a row, or what is wrong with it.
func (t texts) fate(f staff.RollFate) []string {
	var out []string
	for _, x := range f.Fields {
		out = append(out, t.text("rollfield."+string(x)))
	}
	for _, m := range f.Mistakes {
		s := t.number("rollcode."+string(m.Code), "{n}", m.Other)
		if m.Field != roll.Skip {
			s = t.text("rollfield."+string(m.Field)) + ": " + s
		}
		out = append(out, s)
	}
	return out
}

// postRiderData gives a rider's data as a file, for the person who asked for it.
func (w *Web) postRiderData(rw http.ResponseWriter, r *http.Request) {
	data, err := w.o.Staff.RiderData(r.Context(), riderOf(r), r.PostForm.Get("reason"))
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.Header().Set("Content-Disposition", `attachment; filename="rider-`+string(riderOf(r))+`.json"`)
	_, _ = rw.Write(data) // the browser is gone: nobody to tell
}

func (w *Web) postForget(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.ForgetRider(r.Context(), riderOf(r), r.PostForm.Get("reason")), "/staff/riders/"+url.PathEscape(string(riderOf(r))), "forgotten")
}
