package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"batteryswap/backend/internal/spreadsheet"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func (w *Web) pageReviews(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := struct {
		Rows []swap.ReviewView
		All  bool
		Next int64
	}{All: q.Get("all") != ""}
	cursor, _ := strconv.ParseInt(q.Get("below"), 10, 64) // not a number: from the newest
	var err error
	p.Rows, p.Next, err = w.o.Staff.Reviews(r.Context(), swap.ReviewFilter{
		Open: !p.All, CabinetID: protocol.CabinetID(q.Get("cabinet_id")), RiderID: swap.RiderID(q.Get("rider_id")),
	}, cursor)
	answer(w, rw, r, "reviews", p, err)
}

// side is one slot before and after.
type side struct {
	Slot          int
	Before, After protocol.SlotState
	Differs       bool
}

type reviewPage struct {
	swap.ReviewCase
	Sides  []side
	Events []staff.Event
	Ground []swap.Ground
}

func (w *Web) pageReview(rw http.ResponseWriter, r *http.Request) {
	c, err := w.o.Staff.Review(r.Context(), reviewOf(r))
	p := reviewPage{ReviewCase: c, Ground: swap.Grounds(), Sides: sidesOf(c)}
	for _, x := range c.Records {
		e := staff.Event{Source: "record", What: x.Type.String(), Seq: x.Seq, Late: x.Late, Payload: x.Payload}
		if !x.At.IsZero() {
			at := x.At
			e.At = &at
		}
		p.Events = append(p.Events, e.Summed())
	}
	answer(w, rw, r, "review", p, err)
}

func reviewOf(r *http.Request) int64 {
	id, _ := strconv.ParseInt(r.PathValue("review_id"), 10, 64) // not a number: none
	return id
}

// sidesOf puts the cabinet before and after side by side.
func sidesOf(c swap.ReviewCase) []side {
	var out []side
	for n := 1; n <= protocol.MaxSlots; n++ {
		b, hadB := c.Before.Slot(n)
		a, hadA := c.After.Slot(n)
		if hadB || hadA {
			out = append(out, side{n, b, a, b.Presence != a.Presence || b.BatterySerial != a.BatterySerial})
		}
	}
	return out
}

func (w *Web) postDecision(rw http.ResponseWriter, r *http.Request) {
	f := r.PostForm
	err := w.o.Staff.DecideReview(r.Context(), swap.ReviewDecision{
		ReviewID: reviewOf(r), Decision: swap.Ruling(f.Get("decision")), Reason: swap.Ground(f.Get("reason")), By: staffSession(r).Login,
		Deposited: protocol.BatterySerial(strings.TrimSpace(f.Get("deposited"))), Taken: protocol.BatterySerial(strings.TrimSpace(f.Get("taken"))),
	})
	w.after(rw, r, err, "/staff/reviews/"+strconv.FormatInt(reviewOf(r), 10), "decided")
}

func (w *Web) postHardship(rw http.ResponseWriter, r *http.Request) {
	err := w.o.Staff.Hardship(r.Context(), reviewOf(r), staffSession(r).Login)
	w.after(rw, r, err, "/staff/reviews/"+strconv.FormatInt(reviewOf(r), 10), "hardship")
}

func (w *Web) pageBatteries(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := struct {
		Rows       []staff.Battery
		Find, Mark string
		CanImport  bool
	}{Find: strings.TrimSpace(q.Get("find")), Mark: q.Get("mark"), CanImport: staffSession(r).Has(deciders...)}
	var err error
	p.Rows, err = w.batteriesOf(r.Context(), p.Find, p.Mark)
	answer(w, rw, r, "batteries", p, err)
}

func (w *Web) pageBattery(rw http.ResponseWriter, r *http.Request) {
	d, err := w.batteryOf(r.Context(), serialOf(r))
	answer(w, rw, r, "battery", struct {
		staff.BatteryDetail
		SeesRiders bool
	}{d, seesPersons(staffSession(r).Actor)}, err)
}

func serialOf(r *http.Request) protocol.BatterySerial {
	return protocol.BatterySerial(r.PathValue("battery_serial"))
}

func batteryPath(r *http.Request) string {
	return "/staff/batteries/" + url.PathEscape(r.PathValue("battery_serial"))
}

func (w *Web) postMark(rw http.ResponseWriter, r *http.Request) {
	mark, on := r.PostForm.Get("mark"), r.PostForm.Get("on") == "yes"
	err := w.o.Staff.MarkBattery(r.Context(), serialOf(r), mark, on, r.PostForm.Get("reason"))
	if !on {
		mark = "unmarked"
	}
	w.after(rw, r, err, batteryPath(r), mark)
}

// postAssign books that staff have a battery: it was fetched.
func (w *Web) postAssign(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.AssignBattery(r.Context(), serialOf(r), swap.Place{}), batteryPath(r), "assigned")
}

// importPage is the form, or the report of a file.
type importPage struct {
	Sheet *staff.Sheet
	Added int
	Done  bool
	Error string
}

func (w *Web) pageImport(rw http.ResponseWriter, r *http.Request) {
	w.show(rw, r, http.StatusOK, "import", importPage{})
}

// postImport reads a whole file before anything is done, says what is wrong row
// by row, and imports all or nothing.
func (w *Web) postImport(rw http.ResponseWriter, r *http.Request) {
	rows, err := readUpload(r)
	if err != nil {
		w.show(rw, r, http.StatusUnprocessableEntity, "import", importPage{Error: err.Error()})
		return
	}
	sheet := staff.ReadBatteries(rows)
	p := importPage{Sheet: &sheet}
	if len(sheet.Mistakes) > 0 {
		w.show(rw, r, http.StatusUnprocessableEntity, "import", p)
		return
	}
	if r.FormValue("apply") == "yes" {
		if p.Added, err = w.o.Staff.ImportBatteries(r.Context(), sheet.Batteries); err != nil {
			w.staffFailed(rw, r, err)
			return
		}
		p.Done = true
	}
	w.show(rw, r, http.StatusOK, "import", p)
}

func readUpload(r *http.Request) ([][]string, error) {
	_, file, err := readFile(r, maxUpload)
	if err != nil {
		return nil, err
	}
	return spreadsheet.Rows(file, staff.MaxSheet)
}
