package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"batteryswap/backend/internal/spreadsheet"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

const (
	exportPath = statisticsPath + "/export"
	// exportTimeout bounds an export, made and sent: a million rows over a slow line.
	exportTimeout = 10 * time.Minute
	// stalledAfter ends the sending to a browser that takes nothing.
	stalledAfter = time.Minute
	// maxExports bounds the exports at once, until they are sent: each has a snapshot
	// of the books, some 70 MB of memory for a workbook, and a file.
	maxExports = 2
)

// errExports says that there are as many exports as can be at once.
var errExports = errors.New("as many exports are being made or sent as can be at once: try again in a few minutes")

// newDraft is a file for an export while it is made: one without a name, which goes
// with its last reader, also when the process is killed.
func newDraft() (*os.File, error) {
	f, err := os.CreateTemp("", "swap-export-")
	if err != nil {
		return nil, fmt.Errorf("file of an export: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("file of an export: %w", err), f.Close())
	}
	return f, nil
}

// rewound is the size of a file, which is read from its beginning.
func rewound(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	return size, err
}

// exportOf reads what is asked for.
func (w *Web) exportOf(r *http.Request) (e statistics.Export, err error) {
	get := r.PostForm.Get
	e = statistics.Export{Format: get("format"), Personal: get("personal") == "yes", Reason: get("reason")}
	if e.Question, err = w.questionOf(r); err != nil {
		return e, err
	}
	if f := spreadsheet.Format(e.Format); f != spreadsheet.XLSX && f != spreadsheet.CSV {
		return e, fmt.Errorf("format: %.10q, want xlsx or csv", f)
	}
	return e, nil
}

// postExport sends the figures of the page, or each take behind them, as a file.
// Who takes what along, and why, is written down before the first row. The file is
// sent when it is whole: what fails before that is a page that says so, and no slow
// browser keeps a snapshot of the books open.
func (w *Web) postExport(rw http.ResponseWriter, r *http.Request) {
	e, err := w.exportOf(r)
	if err != nil {
		w.exportFailed(rw, r, staff.AsMistake(err))
		return
	}
	select {
	case w.exports <- struct{}{}:
		defer func() { <-w.exports }()
	default:
		w.exportFailed(rw, r, errExports)
		return
	}
	_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(exportTimeout + stalledAfter)) // or the server's own holds
	file, err := newDraft()
	if err != nil {
		w.exportFailed(rw, r, err)
		return
	}
	defer file.Close()
	t := w.console.texts[language(r)]
	if r.PostForm.Get("what") == "takes" {
		err = w.exportTakes(r.Context(), file, t, e)
	} else {
		err = w.exportFigure(r.Context(), file, t, e)
	}
	var size int64
	if err == nil {
		size, err = rewound(file)
	}
	if err != nil {
		w.exportFailed(rw, r, err)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", spreadsheet.Format(e.Format).ContentType())
	h.Set("Content-Disposition", spreadsheet.FileName(fmt.Sprintf("swaps-%s-%s.%s", e.From, e.To, e.Format), fmt.Sprintf("%s %s %s.%s", t.text("export.file"), e.From, e.To, e.Format)))
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	rw.WriteHeader(http.StatusOK)
	if _, err := io.Copy(patient{rw, r.Context()}, file); err != nil {
		requestFrom(r.Context()).cause = err
		panic(http.ErrAbortHandler) // the browser sees that it broke off
	}
}

// patient writes to a browser as long as it takes something.
type patient struct {
	http.ResponseWriter
	ctx context.Context //nolint:containedctx // of one answer
}

// Write implements io.Writer.
func (p patient) Write(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(stalledAfter)) // or the server's own holds
	return p.ResponseWriter.Write(b)
}

// exportFailed says why there is no file.
func (w *Web) exportFailed(rw http.ResponseWriter, r *http.Request, err error) {
	machine := strings.Contains(r.Header.Get("Accept"), "json") && !strings.Contains(r.Header.Get("Accept"), "html")
	text := ""
	var p *Problem
	switch {
	case errors.Is(err, errExports):
		text, p = "export.busy", problem(http.StatusServiceUnavailable, "too-many-exports", "Too many exports", err.Error())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		text, p = "export.space", problem(http.StatusInsufficientStorage, "no-space", "No space", "the server has no space for the file: ask for fewer days, and tell who runs it")
	case !machine:
		w.staffFailedOn(rw, r, err, statisticsPath+"?"+asked(r).Encode())
		return
	case !errors.As(asStaffProblem(err), &p):
		p = problemUnavailable()
	}
	requestFrom(r.Context()).cause = err
	if machine {
		writeProblem(rw, r, p)
		return
	}
	w.show(rw, r, p.Status, "message", message{Text: text, Back: statisticsPath + "?" + asked(r).Encode()})
}

// exportFigure writes the table of a figure. Single riders are personal.
func (w *Web) exportFigure(ctx context.Context, out io.Writer, t texts, e statistics.Export) error {
	if e.By == statistics.Total {
		e.By = statistics.ByDay
	}
	e.Personal = e.By == statistics.ByRider
	f, err := w.o.Staff.Figure(ctx, e.Question)
	if err != nil {
		return err
	}
	e.AsOf = f.AsOf
	if err := w.o.Staff.NoteExport(ctx, e, "figure"); err != nil {
		return err
	}
	s, err := spreadsheet.NewSheet(out, spreadsheet.Format(e.Format), t.text("export.sheet"),
		[]string{t.text("by." + string(e.By)), t.text("export.key"), t.text("swaps.count"), t.text("figures.riders"), t.text("export.note")}, []int{32, 24, 12, 12, 48})
	if err != nil {
		return err
	}
	defer s.Close()
	line := func(label, key any, swaps, riders any, note string) {
		if err == nil {
			err = s.Row(label, key, swaps, riders, note)
		}
	}
	for _, g := range f.Groups {
		var label, key, swaps, riders any = t.group(e.By, g), g.Key, g.Swaps, nil
		if d, bad := statistics.ParseDay(g.Key); e.By == statistics.ByDay && bad == nil {
			label, key = spreadsheet.Date{Time: d.Date()}, spreadsheet.Date{Time: d.Date()}
		}
		note := ""
		if g.Hidden {
			swaps, note = nil, t.text("figures.hidden")
		}
		if g.Riders != nil {
			riders = *g.Riders
		}
		line(label, key, swaps, riders, note)
	}
	if f.Ungrouped > 0 {
		line(t.text("export.ungrouped"), nil, f.Ungrouped, nil, t.text("figures.months"))
	}
	line(strings.TrimSpace(t.text("export.total")+" "+f.Street), nil, f.Swaps, optional(f.Riders), fmt.Sprintf("%s–%s", f.From, f.To))
	line(t.text("figures.per_day"), nil, f.PerDay, nil, t.number("export.days", "{n}", f.Days()))
	line(t.text("figures.as_of"), nil, int(f.AsOf), nil, strings.TrimSpace(t.text("figures.definition")))
	if err != nil {
		return err
	}
	return s.Finish()
}

func optional(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

// exportTakes writes each take as a row.
func (w *Web) exportTakes(ctx context.Context, out io.Writer, t texts, e statistics.Export) error {
	header := []string{"export.day", "export.time", "cabinet", "field.street", "export.kind", "export.swap", "export.position"}
	widths := []int{12, 20, 16, 24, 12, 38, 12}
	if e.Personal {
		header = append(header, "export.rider", "name", "export.phone", "export.membership", "union", "by.platform")
		widths = append(widths, 38, 16, 16, 20, 24, 16)
	}
	for i, key := range header {
		header[i] = t.text(key)
	}
	s, err := spreadsheet.NewSheet(out, spreadsheet.Format(e.Format), t.text("export.sheet"), header, widths)
	if err != nil {
		return err
	}
	defer s.Close()
	kinds := map[bool]string{false: t.text("kind.swap"), true: t.text("kind.owed")}
	row := make([]any, 0, len(header))
	rows := 1
	err = w.o.Staff.ExportTakes(ctx, e, func(x statistics.Take) error {
		if rows++; rows > spreadsheet.MaxSheetRows && e.Format == string(spreadsheet.XLSX) {
			return staff.Mistakef("more than %d rows, which no xlsx file holds: export CSV, or fewer days", spreadsheet.MaxSheetRows-1)
		}
		row = append(row[:0], spreadsheet.Date{Time: x.Day.Date()}, spreadsheet.Moment{Time: x.At.In(shanghai)}, x.CabinetID, x.Street, kinds[x.Owed], x.SwapID, int(x.Position))
		if e.Personal {
			row = append(row, x.RiderID, x.Name, x.Phone, x.MembershipNo, x.Union, x.Platform)
		}
		return s.Row(row...)
	})
	if err != nil {
		return err
	}
	return s.Finish()
}
