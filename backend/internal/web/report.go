package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// ErrTooMany says that somebody does something more often than people do.
var ErrTooMany = errors.New("too many")

// maxFaultText bounds what a rider writes of a fault, in characters.
const maxFaultText = 300

// faultKinds is the table's closed list.
var faultKinds = [...]string{"door", "battery", "screen", "other"}

// registerReport puts the page on the mux that reports a fault.
func (w *Web) registerReport(mux *http.ServeMux) {
	w.handle(mux, "GET /c/{cabinet_id}/fault", riders(), w.pageFault)
	w.handle(mux, "POST /c/{cabinet_id}/fault", riders(), w.postFaultReport)
}

// faultPath is the form with cabinet, swap and slot filled in.
func faultPath(cabinet protocol.CabinetID, v *swap.View) string {
	q := url.Values{}
	if v != nil {
		q.Set("swap_id", string(v.SwapID))
		if v.Slot != 0 {
			q.Set("slot", strconv.Itoa(v.Slot))
		}
	}
	path := "/c/" + string(cabinet) + "/fault"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// faultOf is a report of what was filled in. A swap of somebody else is left
// out, and so is a slot that is none.
func (w *Web) faultOf(ctx context.Context, c swap.CabinetView, rider swap.RiderID, in url.Values) staff.Fault {
	f := staff.Fault{CabinetID: c.CabinetID, RiderID: rider}
	if id := protocol.SwapID(in.Get("swap_id")); id.Validate() == nil {
		if v, err := w.o.Books.Swap(ctx, rider, id); err == nil && v.CabinetID == c.CabinetID {
			f.SwapID = id
		}
	}
	if n, err := strconv.Atoi(strings.TrimSpace(in.Get("slot"))); err == nil && n > 0 && n <= c.Slots {
		f.Slot = n
	}
	return f
}

// pageFault asks what is broken, or thanks for the answer.
func (w *Web) pageFault(rw http.ResponseWriter, r *http.Request) {
	rider, ok := w.signedIn(rw, r, http.StatusUnauthorized)
	if !ok {
		return
	}
	c, ok := w.knownCabinet(rw, r)
	if !ok {
		return
	}
	in := r.URL.Query()
	p := page{Show: showReport, CabinetID: c.CabinetID, Cabinet: c, Fault: w.faultOf(r.Context(), c, rider, in)}
	if p.Fault.SwapID != "" {
		p.OpenSwap = swapPath(c.CabinetID, p.Fault.SwapID)
	}
	if n, err := strconv.ParseInt(in.Get("sent"), 10, 64); err == nil && n > 0 {
		p.Reported = n
	}
	w.render(rw, r, http.StatusOK, "page", p)
}

func (w *Web) postFaultReport(rw http.ResponseWriter, r *http.Request) {
	rider, ok := w.signedIn(rw, r, http.StatusUnauthorized)
	if !ok || !w.parseForm(rw, r) {
		return
	}
	c, ok := w.knownCabinet(rw, r)
	if !ok {
		return
	}
	f := w.faultOf(r.Context(), c, rider, r.PostForm)
	f.Kind = "other"
	for _, k := range faultKinds {
		if r.PostForm.Get("kind") == k {
			f.Kind = k
		}
	}
	f.Text = cutText(strings.TrimSpace(r.PostForm.Get("text")), maxFaultText)
	id, err := w.o.Books.ReportFault(r.Context(), f)
	switch {
	case errors.Is(err, ErrTooMany):
		w.message(rw, r, http.StatusTooManyRequests, c.CabinetID, "fault.many")
		return
	case err != nil:
		w.pageFailed(rw, r, c.CabinetID, err)
		return
	}
	w.o.Log.Info("fault reported", "cabinet_id", c.CabinetID, "slot", f.Slot, "swap_id", f.SwapID, "rider_id", rider, "event", "fault."+f.Kind)
	q := url.Values{"sent": {strconv.FormatInt(id, 10)}}
	if f.SwapID != "" {
		q.Set("swap_id", string(f.SwapID))
	}
	http.Redirect(rw, r, "/c/"+string(c.CabinetID)+"/fault?"+q.Encode(), http.StatusSeeOther)
}

// cutText keeps the first characters of a text.
func cutText(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}
