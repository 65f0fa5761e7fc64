package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// registerPages puts the rider's pages on the mux.
func (w *Web) registerPages(mux *http.ServeMux) {
	w.handle(mux, "GET /c/{cabinet_id}", riders(), w.pageCabinet)
	w.registerBinding(mux)
	w.handle(mux, "POST /c/{cabinet_id}/swaps", riders(), w.postSwap)
	w.handle(mux, "GET /c/{cabinet_id}/swaps/{swap_id}", riders(), w.pageSwap)
	w.handle(mux, "GET /c/{cabinet_id}/swaps/{swap_id}/live", riders(), w.pageLive)
	w.handle(mux, "POST /c/{cabinet_id}/swaps/{swap_id}/wish", riders(), w.postWish)
	w.handle(mux, "GET /c/{cabinet_id}/history", riders(), w.pageHistory)
	w.registerReport(mux)
	w.handle(mux, "GET /nearby", anybody(), w.pageNearby)
	w.handle(mux, "GET /static/live.js", anybody(), func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		rw.Header().Set("Cache-Control", "public, max-age=300")
		rw.Header().Set("Vary", "Accept-Encoding")
		_, _ = rw.Write(pack(r, rw.Header(), w.pages.script)) // the phone is gone: nobody to tell
	})
	w.handle(mux, "GET /favicon.ico", anybody(), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Cache-Control", "public, max-age=86400")
		rw.WriteHeader(http.StatusNoContent)
	})
	w.handle(mux, "GET /{$}", anybody(), func(rw http.ResponseWriter, r *http.Request) { w.message(rw, r, http.StatusOK, "", messageHome) })
	w.handle(mux, "/", anybody(), func(rw http.ResponseWriter, r *http.Request) { w.message(rw, r, http.StatusNotFound, "", "notfound") })
}

// pageFailed shows why there is no page.
func (w *Web) pageFailed(rw http.ResponseWriter, r *http.Request, cabinet protocol.CabinetID, err error) {
	if errors.Is(err, ErrNotFound) {
		w.message(rw, r, http.StatusNotFound, "", "notfound")
		return
	}
	requestFrom(r.Context()).cause = err
	w.message(rw, r, http.StatusServiceUnavailable, cabinet, "unavailable")
}

// signedIn is the rider of a page, or answers with the sign-in form.
func (w *Web) signedIn(rw http.ResponseWriter, r *http.Request, status int) (swap.RiderID, bool) {
	rider, err := w.rider(r.Context())
	switch {
	case errors.Is(err, ErrNotFound):
		w.pageSignIn(rw, r, status, page{})
		return "", false
	case err != nil:
		w.pageFailed(rw, r, cabinetOf(r), err)
		return "", false
	}
	return rider, true
}

func cabinetOf(r *http.Request) protocol.CabinetID {
	return protocol.CabinetID(r.PathValue("cabinet_id"))
}

// knownCabinet is the cabinet of the path, or answers that there is none.
func (w *Web) knownCabinet(rw http.ResponseWriter, r *http.Request) (swap.CabinetView, bool) {
	id := cabinetOf(r)
	err := ErrNotFound
	var c swap.CabinetView
	if id.Validate() == nil {
		c, err = w.o.Books.Cabinet(r.Context(), id)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		w.message(rw, r, http.StatusNotFound, "", "reason."+string(protocol.ReasonCabinetUnknown))
		return c, false
	case err != nil:
		w.pageFailed(rw, r, id, err)
		return c, false
	}
	return c, true
}

func (w *Web) pageCabinet(rw http.ResponseWriter, r *http.Request) {
	rider, ok := w.signedIn(rw, r, http.StatusOK)
	if !ok {
		return
	}
	c, ok := w.knownCabinet(rw, r)
	if !ok {
		return
	}
	v, err := w.o.Books.Rider(r.Context(), rider)
	if err != nil {
		w.pageFailed(rw, r, c.CabinetID, err)
		return
	}
	p := page{Show: showCabinet, CabinetID: c.CabinetID, Cabinet: c, Rider: v, Key: rand.Text()}
	w.showOpen(r.Context(), &p, rider, v.OpenSwap)
	w.await(r.Context(), &p)
	if c.Charged == 0 || !c.Reachable || c.OutOfService != "" {
		w.offer(r.Context(), &p, maxOffered, serves)
	}
	w.render(rw, r, http.StatusOK, "page", p)
}

// showOpen puts the rider's open swap on a page, at whichever cabinet it is. One
// that hangs at a cabinet that is silent does not stand in the way of another.
func (w *Web) showOpen(ctx context.Context, p *page, rider swap.RiderID, id protocol.SwapID) {
	if id == "" {
		return
	}
	v, err := w.o.Books.Swap(ctx, rider, id)
	if err != nil || v.State == swap.StateClosed {
		return
	}
	p.OpenSwap = swapPath(v.CabinetID, v.SwapID)
	if !v.Reachable && v.CabinetID != p.CabinetID {
		p.HangsAt = v.CabinetID
	}
}

func swapPath(cabinet protocol.CabinetID, id protocol.SwapID) string {
	return fmt.Sprintf("/c/%s/swaps/%s", cabinet, id)
}

// toCabinet sends the browser on by GET, so that a reload repeats nothing.
func (w *Web) toCabinet(rw http.ResponseWriter, r *http.Request) {
	id := cabinetOf(r)
	if id.Validate() != nil {
		w.message(rw, r, http.StatusNotFound, "", "notfound")
		return
	}
	http.Redirect(rw, r, "/c/"+string(id), http.StatusSeeOther)
}

func (w *Web) parseForm(rw http.ResponseWriter, r *http.Request) bool {
	err := r.ParseForm()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		writeProblem(rw, r, problem(http.StatusRequestEntityTooLarge, "body-too-large", "Body too large", "want at most 16 KiB"))
	case err != nil:
		writeProblem(rw, r, problem(http.StatusBadRequest, "invalid-request", "Invalid request", "want a form: "+err.Error()))
	}
	return err == nil
}

func (w *Web) postSwap(rw http.ResponseWriter, r *http.Request) {
	rider, ok := w.signedIn(rw, r, http.StatusUnauthorized)
	if !ok || !w.parseForm(rw, r) {
		return
	}
	id := cabinetOf(r)
	if id.Validate() != nil {
		w.message(rw, r, http.StatusNotFound, "", "reason."+string(protocol.ReasonCabinetUnknown))
		return
	}
	key := r.PostForm.Get("key")
	if !validKey(key) {
		w.toCabinet(rw, r) // an old or mangled page: show a fresh one
		return
	}
	v, refusal, err := w.scan(r.Context(), swap.Scan{
		RiderID: rider, CabinetID: id, HandBack: r.PostForm.Get("hand_back") == "yes", IdempotencyKey: key,
		Presence: cutCode(r.PostForm.Get("presence")),
	})
	switch {
	case errors.Is(err, ErrKeyReused):
		w.toCabinet(rw, r) // a page of the browser's history: show a fresh one
	case err != nil:
		w.pageFailed(rw, r, id, err)
	case refusal != nil:
		w.pageRefused(rw, r, rider, *refusal)
	default:
		http.Redirect(rw, r, swapPath(v.CabinetID, v.SwapID), http.StatusSeeOther)
	}
}

// cutCode keeps what a person may have typed within the bound of the protocol.
func cutCode(typed string) string { return typed[:min(len(typed), maxCode)] }

// maxCode is the longest presence code that a message carries, in bytes.
const maxCode = 32

// validKey mirrors the bound of the API's Idempotency-Key.
func validKey(key string) bool {
	if len(key) < 1 || len(key) > 64 {
		return false
	}
	for _, c := range []byte(key) {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

func (w *Web) pageRefused(rw http.ResponseWriter, r *http.Request, rider swap.RiderID, refusal swap.Refusal) {
	p := page{Show: showMessage, CabinetID: cabinetOf(r), Message: "reason." + string(refusal.Reason)}
	if refusal.Reason == protocol.ReasonCabinetUnknown {
		p.CabinetID = ""
	}
	w.showOpen(r.Context(), &p, rider, refusal.SwapID)
	p.NeedsCode, p.Key = refusal.Reason == protocol.ReasonPresence, rand.Text()
	if leadsElsewhere(refusal.Reason) {
		if c, err := w.o.Books.Cabinet(r.Context(), p.CabinetID); err == nil {
			p.Cabinet = c
		}
		w.offer(r.Context(), &p, maxOffered, serves)
	}
	if refusal.Reason == protocol.ReasonBusy {
		w.await(r.Context(), &p)
	}
	requestFrom(r.Context()).problem = problemRefused(refusal)
	w.render(rw, r, refusalStatus(refusal.Reason), "page", p)
}

// riderSwap is the rider's swap of the path with all that its page needs.
func (w *Web) riderSwap(rw http.ResponseWriter, r *http.Request) (page, bool) {
	rider, ok := w.signedIn(rw, r, http.StatusUnauthorized)
	if !ok {
		return page{}, false
	}
	id := protocol.SwapID(r.PathValue("swap_id"))
	err := ErrNotFound
	var v swap.View
	if id.Validate() == nil {
		v, err = w.o.Books.Swap(r.Context(), rider, id)
	}
	if err == nil && v.CabinetID != cabinetOf(r) {
		err = ErrNotFound
	}
	if err != nil {
		w.pageFailed(rw, r, cabinetOf(r), err)
		return page{}, false
	}
	p := page{Show: showSwap, CabinetID: v.CabinetID, Swap: &v, Wished: r.URL.Query().Get("wished") != ""}
	if v.State == swap.StateClosed {
		if p.Rider, err = w.o.Books.Rider(r.Context(), rider); err != nil {
			w.pageFailed(rw, r, v.CabinetID, err)
			return page{}, false
		}
		return p, true
	}
	p.Events, p.Refresh = "/api/v1/swaps/"+string(v.SwapID)+eventsSuffix, 2
	p.CanWish = v.Slot != 0
	if !v.Reachable {
		if c, err := w.o.Books.Cabinet(r.Context(), v.CabinetID); err == nil {
			p.Cabinet = c
		}
		w.offer(r.Context(), &p, maxOffered, serves)
	}
	return p, true
}

func (w *Web) pageSwap(rw http.ResponseWriter, r *http.Request) {
	if p, ok := w.riderSwap(rw, r); ok {
		w.render(rw, r, http.StatusOK, "page", p)
	}
}

func (w *Web) pageLive(rw http.ResponseWriter, r *http.Request) {
	if p, ok := w.riderSwap(rw, r); ok {
		w.render(rw, r, http.StatusOK, "live", p)
	}
}

func (w *Web) postWish(rw http.ResponseWriter, r *http.Request) {
	p, ok := w.riderSwap(rw, r)
	if !ok {
		return
	}
	if p.Swap.State != swap.StateClosed {
		if err := w.o.Books.Wish(r.Context(), p.CabinetID, p.Swap.SwapID); err != nil {
			w.pageFailed(rw, r, p.CabinetID, err)
			return
		}
	}
	http.Redirect(rw, r, swapPath(p.CabinetID, p.Swap.SwapID)+"?wished=1", http.StatusSeeOther)
}
