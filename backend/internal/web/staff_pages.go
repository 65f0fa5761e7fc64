package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const importPath = "/staff/batteries/import"

// registerConsole puts the pages of staff on the mux, each with its roles.
func (w *Web) registerConsole(mux *http.ServeMux) {
	page := func(path string, a access, h http.HandlerFunc) { w.handle(mux, "GET "+path, a, h) }
	act := func(path string, a access, h http.HandlerFunc) { w.handle(mux, "POST "+path, a, h) }
	admin := only(staff.Admin)

	page("/staff/{$}", only(everyone...), func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/staff/cabinets", http.StatusSeeOther)
	})
	page("/staff/sign-in", anybody(), w.pageStaffSignIn)
	act("/staff/sign-in", anybody(), w.postStaffSignIn)
	act("/staff/sign-out", only(everyone...), w.postStaffSignOut)
	page("/staff/me", only(everyone...), w.pageMe)
	act("/staff/me/password", only(everyone...).freshly(), w.postPassword)
	act("/staff/me/recovery-codes", only(everyone...).freshly(), w.postRecovery)
	act("/staff/me/sessions/{session_id}/end", only(everyone...), w.postEndSession)
	page("/static/staff.js", anybody(), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		rw.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = rw.Write(w.console.script) // the browser is gone: nobody to tell
	})

	page("/staff/cabinets", only(everyone...), w.pageFleet)
	page("/staff/cabinets/new", admin, w.pageEnrol)
	act("/staff/cabinets", admin.freshly(), w.postEnrol)
	page("/staff/cabinets/{cabinet_id}", only(everyone...), w.pageStaffCabinet)
	page("/staff/cabinets/{cabinet_id}/sticker", only(fleetWork...), w.pageSticker)
	act("/staff/cabinets/{cabinet_id}/slots/{slot}", only(fleetWork...), w.postSlot)
	act("/staff/cabinets/{cabinet_id}/service", only(fleetWork...), w.postService)
	act("/staff/cabinets/{cabinet_id}/maintenance", only(onSite...).freshly(), w.postMaintenance)
	act("/staff/cabinets/{cabinet_id}/move", admin, w.postMove)
	act("/staff/cabinets/{cabinet_id}/replace", admin.freshly(), w.postReplace)
	act("/staff/cabinets/{cabinet_id}/epoch", admin.freshly(), w.postEpoch)
	act("/staff/cabinets/{cabinet_id}/retire", admin.freshly(), w.postRetire)

	page("/staff/alarms", only(fleetWork...), w.pageAlarms)
	page("/staff/swaps", only(everyone...), w.pageSwaps)
	page("/staff/swaps/{swap_id}", only(everyone...), w.pageStory)
	act("/staff/swaps/{swap_id}/review", only(deciders...), w.postMoveToReview)
	page("/staff/reviews", only(deciders...), w.pageReviews)
	page("/staff/reviews/{review_id}", only(deciders...), w.pageReview)
	act("/staff/reviews/{review_id}", only(deciders...), w.postDecision)
	act("/staff/reviews/{review_id}/hardship", only(deciders...), w.postHardship)

	page("/staff/batteries", only(fleetWork...), w.pageBatteries)
	page(importPath, only(staff.Operator, staff.Admin), w.pageImport)
	act(importPath, only(staff.Operator, staff.Admin), w.postImport)
	page("/staff/batteries/{battery_serial}", only(fleetWork...), w.pageBattery)
	act("/staff/batteries/{battery_serial}/mark", only(fleetWork...), w.postMark)
	act("/staff/batteries/{battery_serial}/assign", only(fleetWork...), w.postAssign)

	page("/staff/riders", only(riderView...), w.pageRiders)
	page("/staff/riders/{rider_id}", only(riderView...), w.pageRider)
	act("/staff/riders/{rider_id}/reveal", only(riderWork...).freshly(), w.postReveal)
	act("/staff/riders/{rider_id}/code", only(riderWork...).freshly(), w.postCode)
	act("/staff/riders/{rider_id}/end-devices", only(riderWork...), w.postEndDevices)
	act("/staff/riders/{rider_id}/credit", only(riderWork...).freshly(), w.postCredit)
	page("/staff/credits", only(riderView...), w.pageCredits)
	page("/staff/faults", only(everyone...), w.pageFaults)
	act("/staff/faults/{report_id}", only(everyone...), w.postFault)

	w.registerRoll(page, act)
	w.registerStatistics(mux)
	page("/staff/accounts", admin, w.pageAccounts)
	act("/staff/accounts", admin.freshly(), w.postAccount)
	act("/staff/accounts/{login}", admin.freshly(), w.postAccountAct)
	act("/staff/tokens", admin.freshly(), w.postToken)
	act("/staff/tokens/{name}/revoke", admin.freshly(), w.postRevoke)
	page("/staff/audit-log", admin, w.pageAuditLog)
	page("/staff/", only(everyone...), func(rw http.ResponseWriter, r *http.Request) { w.staffFailed(rw, r, staff.ErrNotFound) })
}

// answer shows a page, or why there is none.
func answer[T any](w *Web, rw http.ResponseWriter, r *http.Request, name string, v T, err error) {
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.show(rw, r, http.StatusOK, name, v)
}

// after sends on from an act, or says why it was not done.
func (w *Web) after(rw http.ResponseWriter, r *http.Request, err error, path, what string) {
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	done(rw, r, path, what)
}

type fleetPage struct {
	Cabinets, Quiet []staff.Cabinet // who needs somebody, and who does not
	Streets         []string
	Street, Find    string
	State           string
	All             int
	CanEnrol        bool
}

func (w *Web) pageFleet(rw http.ResponseWriter, r *http.Request) {
	all, err := w.o.Staff.Fleet(r.Context())
	q := r.URL.Query()
	p := fleetPage{Street: q.Get("street"), Find: strings.TrimSpace(q.Get("find")), State: q.Get("state"), All: len(all), CanEnrol: staffSession(r).Has(staff.Admin)}
	for _, c := range all {
		if !slices.Contains(p.Streets, c.Street) {
			p.Streets = append(p.Streets, c.Street)
		}
		if p.Street != "" && c.Street != p.Street || !matches(c, p.State) || p.Find != "" && !strings.Contains(string(c.CabinetID)+" "+c.Station, p.Find) {
			continue
		}
		if len(c.Needs) > 0 {
			p.Cabinets = append(p.Cabinets, c)
		} else {
			p.Quiet = append(p.Quiet, c)
		}
	}
	slices.Sort(p.Streets)
	answer(w, rw, r, "cabinets", p, err)
}

// matches says whether a cabinet is in a state that the list is filtered by.
func matches(c staff.Cabinet, state string) bool {
	switch state {
	case "now":
		return len(c.Needs) > 0 && c.Needs[0].Urgency == staff.Now
	case "offline":
		return !c.Reachable
	case "out":
		return c.Off || c.OutOfService != ""
	case "alarm":
		return len(c.Alarms) > 0
	default:
		return true
	}
}

type staffCabinetPage struct {
	staff.CabinetDetail
	Who     staff.Session
	CanWork bool
	OnSite  bool
	IsAdmin bool
}

func (w *Web) pageStaffCabinet(rw http.ResponseWriter, r *http.Request) {
	d, err := w.cabinetFor(r.Context(), cabinetOf(r))
	for i := range d.Records {
		d.Records[i].CabinetID = "" // the page's own
	}
	s := staffSession(r)
	answer(w, rw, r, "cabinet", staffCabinetPage{CabinetDetail: d, Who: s, CanWork: s.Has(fleetWork...), OnSite: s.Has(onSite...), IsAdmin: s.Has(staff.Admin)}, err)
}

func cabinetPath(r *http.Request) string {
	return "/staff/cabinets/" + url.PathEscape(r.PathValue("cabinet_id"))
}

func (w *Web) postSlot(rw http.ResponseWriter, r *http.Request) {
	slot, err := strconv.Atoi(r.PathValue("slot"))
	out := r.PostForm.Get("to") == "out"
	if err != nil {
		err = staff.ErrNotFound
	} else {
		err = w.o.Staff.SetSlot(r.Context(), cabinetOf(r), slot, out, r.PostForm.Get("reason"))
	}
	w.after(rw, r, err, cabinetPath(r), outOrIn("slot", out))
}

func outOrIn(what string, out bool) string {
	if out {
		return what + "_out"
	}
	return what + "_in"
}

func (w *Web) postService(rw http.ResponseWriter, r *http.Request) {
	out := r.PostForm.Get("to") == "out"
	err := w.o.Staff.SetService(r.Context(), cabinetOf(r), out, r.PostForm.Get("reason"))
	w.after(rw, r, err, cabinetPath(r), outOrIn("cabinet", out))
}

func (w *Web) pageAlarms(rw http.ResponseWriter, r *http.Request) {
	fleet, err := w.o.Staff.Fleet(r.Context())
	p := struct {
		Now  []staff.Cabinet
		Past []staff.Event
	}{}
	for _, c := range fleet {
		if len(c.Alarms) > 0 {
			p.Now = append(p.Now, c)
		}
	}
	if err == nil {
		p.Past, err = w.o.Staff.Alarms(r.Context())
	}
	answer(w, rw, r, "alarms", p, err)
}

func (w *Web) pageSwaps(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := struct {
		Rows                   []staff.SwapRow
		Cabinet, Rider, Find   string
		Next                   protocol.SwapID
		SeesRiders, SeesSerial bool
	}{Cabinet: q.Get("cabinet_id"), Rider: q.Get("rider_id"), Find: strings.TrimSpace(q.Get("find")), SeesRiders: seesPersons(staffSession(r).Actor), SeesSerial: seesBatteries(staffSession(r).Actor)}
	if id := protocol.SwapID(strings.ToLower(p.Find)); id.Validate() == nil {
		http.Redirect(rw, r, "/staff/swaps/"+string(id), http.StatusSeeOther)
		return
	}
	var err error
	p.Rows, err = w.swapsOf(r.Context(), protocol.CabinetID(p.Cabinet), swap.RiderID(p.Rider), protocol.SwapID(q.Get("below")))
	if len(p.Rows) == 100 {
		p.Next = p.Rows[99].SwapID
	}
	answer(w, rw, r, "swaps", p, err)
}

func (w *Web) pageStory(rw http.ResponseWriter, r *http.Request) {
	st, err := w.storyOf(r.Context(), protocol.SwapID(r.PathValue("swap_id")))
	for i := range st.Events {
		e := &st.Events[i]
		if e.SwapID = ""; e.CabinetID == st.CabinetID {
			e.CabinetID = "" // both are the page's own
		}
	}
	s := staffSession(r)
	answer(w, rw, r, "swap", struct {
		staff.Story
		SeesRiders, SeesSerial, Decides bool
	}{st, seesPersons(s.Actor), seesBatteries(s.Actor), s.Has(deciders...)}, err)
}

func (w *Web) postMoveToReview(rw http.ResponseWriter, r *http.Request) {
	id := r.PathValue("swap_id")
	err := w.o.Staff.MoveToReview(r.Context(), protocol.SwapID(id))
	w.after(rw, r, err, "/staff/swaps/"+url.PathEscape(id), "moved")
}
