package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"batteryswap/backend/internal/spreadsheet"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

const (
	exportPath = statisticsPath + "/export"
	// exportTimeout bounds an export: a million rows over a slow line.
	exportTimeout = 10 * time.Minute
)

// download begins the answer with its first byte: whatever is refused before that
// is a page of its own.
type download struct {
	rw      http.ResponseWriter
	headers func(http.Header)
	begun   bool
}

// Write implements io.Writer.
func (d *download) Write(b []byte) (int, error) {
	if !d.begun {
		d.begun = true
		d.headers(d.rw.Header())
		d.rw.WriteHeader(http.StatusOK)
	}
	return d.rw.Write(b)
}

// postExport sends the figures of the page, or each take behind them, as a file.
// Who takes what along, and why, is written down before the first row.
func (w *Web) postExport(rw http.ResponseWriter, r *http.Request) {
	q, err := w.questionOf(r)
	format := spreadsheet.Format(r.PostForm.Get("format"))
	if err == nil && format != spreadsheet.XLSX && format != spreadsheet.CSV {
		err = fmt.Errorf("format: %.10q, want xlsx or csv", format)
	}
	if err != nil {
		w.staffFailed(rw, r, staff.AsMistake(err))
		return
	}
	e := statistics.Export{Question: q, Format: string(format), Personal: r.PostForm.Get("personal") == "yes", Reason: r.PostForm.Get("reason")}
	t := w.console.texts[language(r)]
	name := fmt.Sprintf("%s %s %s.%s", t.text("export.file"), q.From, q.To, format)
	d := &download{rw: rw, headers: func(h http.Header) {
		h.Set("Content-Type", format.ContentType())
		h.Set("Content-Disposition", spreadsheet.FileName(fmt.Sprintf("swaps-%s-%s.%s", q.From, q.To, format), name))
	}}
	_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(exportTimeout)) // or the server's own holds
	if r.PostForm.Get("what") == "takes" {
		err = w.exportTakes(r.Context(), d, t, e)
	} else {
		err = w.exportFigure(r.Context(), d, t, e)
	}
	switch {
	case err == nil:
	case !d.begun:
		w.staffFailed(rw, r, err)
	default: // half a file: the browser has to see that it broke off
		requestFrom(r.Context()).cause = err
		panic(http.ErrAbortHandler)
	}
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
	line := func(label, key any, swaps, riders any, note string) {
		if err == nil {
			err = s.Row(label, key, swaps, riders, note)
		}
	}
	for _, g := range f.Groups {
		var label, swaps, riders any = t.group(e.By, g), g.Swaps, nil
		if d, bad := statistics.ParseDay(g.Key); e.By == statistics.ByDay && bad == nil {
			label = spreadsheet.Date{Time: d.Date()}
		}
		note := ""
		if g.Hidden {
			swaps, note = nil, t.text("figures.hidden")
		}
		if g.Riders != nil {
			riders = *g.Riders
		}
		line(label, g.Key, swaps, riders, note)
	}
	line(t.text("export.total"), nil, f.Swaps, optional(f.Riders), fmt.Sprintf("%s–%s", f.From, f.To))
	line(t.text("figures.per_day"), nil, f.PerDay, nil, t.number("export.days", "{n}", f.Days()))
	line(t.text("figures.as_of"), nil, int(f.AsOf), nil, strings.TrimSpace(t.text("figures.definition")))
	if err != nil {
		return err
	}
	return s.Close()
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
	var s spreadsheet.Sheet
	begin := func() (err error) {
		if s == nil {
			s, err = spreadsheet.NewSheet(out, spreadsheet.Format(e.Format), t.text("export.sheet"), header, widths)
		}
		return err
	}
	kinds := map[bool]string{false: t.text("kind.swap"), true: t.text("kind.owed")}
	row := make([]any, 0, len(header))
	rows := 1
	err := w.o.Staff.ExportTakes(ctx, e, func(x statistics.Take) error {
		if err := begin(); err != nil {
			return err
		}
		if rows++; rows > spreadsheet.MaxSheetRows && e.Format == string(spreadsheet.XLSX) {
			return staff.Mistakef("more than %d rows, which no xlsx file holds: export CSV, or fewer days", spreadsheet.MaxSheetRows-1)
		}
		row = append(row[:0], spreadsheet.Date{Time: x.Day.Date()}, spreadsheet.Moment{Time: x.At.In(shanghai)}, x.CabinetID, x.Street, kinds[x.Owed], x.SwapID, int(x.Position))
		if e.Personal {
			row = append(row, x.RiderID, x.Name, x.Phone, x.MembershipNo, x.Union, x.Platform)
		}
		return s.Row(row...)
	})
	if err == nil {
		err = begin() // there may be no row
	}
	if err != nil {
		return err
	}
	return s.Close()
}
