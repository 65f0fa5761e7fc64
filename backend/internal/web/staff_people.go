package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
)

func (w *Web) pageRiders(rw http.ResponseWriter, r *http.Request) {
	find := strings.TrimSpace(r.URL.Query().Get("find"))
	rows, err := w.o.Staff.Riders(r.Context(), find)
	answer(w, rw, r, "riders", struct {
		Rows    []staff.Rider
		Find    string
		Persons bool
	}{rows, find, seesPersons(staffSession(r).Actor)}, err)
}

func riderOf(r *http.Request) swap.RiderID { return swap.RiderID(r.PathValue("rider_id")) }

type staffRiderPage struct {
	staff.RiderDetail
	CanWork  bool
	Persons  bool // figures of a single rider are shown
	SeesData bool
	// Name, Phone and Code are shown once, to who asked for them.
	Name, Phone, Code string
	Until             time.Time
}

// creditList are credits; whose they are, or which swap they come from.
type creditList struct {
	Rows    []staff.Credit
	Persons bool
}

// CreditList are the rider's credits.
func (p staffRiderPage) CreditList() creditList { return creditList{p.Credits, p.Persons} }

func (w *Web) pageRider(rw http.ResponseWriter, r *http.Request) {
	w.riderWith(rw, r, staffRiderPage{})
}

// riderWith is a rider's page with what was just asked for.
func (w *Web) riderWith(rw http.ResponseWriter, r *http.Request, p staffRiderPage) {
	var err error
	p.RiderDetail, err = w.o.Staff.RiderDetail(r.Context(), riderOf(r))
	p.Persons = seesPersons(staffSession(r).Actor)
	p.SeesData = staffSession(r).Has(staff.Admin, staff.Personal)
	p.RiderDetail = impersonal(staffSession(r).Actor, p.RiderDetail)
	p.CanWork = staffSession(r).Has(riderWork...)
	answer(w, rw, r, "rider", p, err)
}

func (w *Web) postReveal(rw http.ResponseWriter, r *http.Request) {
	who, err := w.o.Staff.Reveal(r.Context(), riderOf(r), r.PostForm.Get("reason"))
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.riderWith(rw, r, staffRiderPage{Name: who.Name, Phone: who.Phone})
}

func (w *Web) postCode(rw http.ResponseWriter, r *http.Request) {
	code, until, err := w.o.Staff.NewBindingCode(r.Context(), riderOf(r))
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.riderWith(rw, r, staffRiderPage{Code: code[:4] + " " + code[4:], Until: until})
}

func (w *Web) postEndDevices(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.EndDevices(r.Context(), riderOf(r)), "/staff/riders/"+url.PathEscape(string(riderOf(r))), "devices")
}

func (w *Web) postCredit(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.StaffCredit(r.Context(), riderOf(r)), "/staff/riders/"+url.PathEscape(string(riderOf(r))), "credit")
}

func (w *Web) pageCredits(rw http.ResponseWriter, r *http.Request) {
	rows, err := w.creditsOf(r.Context())
	answer(w, rw, r, "credits", creditList{rows, seesPersons(staffSession(r).Actor)}, err)
}

func (w *Web) pageFaults(rw http.ResponseWriter, r *http.Request) {
	rows, err := w.faultsOf(r.Context())
	answer(w, rw, r, "faults", struct {
		Rows       []staff.Fault
		SeesRiders bool
	}{rows, seesPersons(staffSession(r).Actor)}, err)
}

func (w *Web) postFault(rw http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("report_id"), 10, 64) // not a number: none
	w.after(rw, r, w.o.Staff.CloseFault(r.Context(), id, r.PostForm.Get("note")), "/staff/faults", "fault")
}
