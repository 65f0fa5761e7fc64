package web

import (
	"errors"
	"net/http"

	"batteryswap/backend/internal/staff"
)

// mePage is one's own account.
type mePage struct {
	Session  staff.Session
	Sessions []staff.OpenSession
	Codes    []string // new recovery codes, shown once
	Left     int      // recovery codes that are left
	Error    string   // key of a text
}

func (w *Web) pageMe(rw http.ResponseWriter, r *http.Request) {
	w.meWith(rw, r, http.StatusOK, mePage{})
}

func (w *Web) meWith(rw http.ResponseWriter, r *http.Request, status int, p mePage) {
	var err error
	p.Session = staffSession(r)
	p.Sessions, p.Left, err = w.o.Staff.OwnAccount(r.Context(), p.Session.Login, staff.HashToken(w.staffToken(r)))
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.show(rw, r, status, "me", p)
}

// postPassword changes one's own password: whoever finds a desk left alone knows
// the old one not.
func (w *Web) postPassword(rw http.ResponseWriter, r *http.Request) {
	s := staffSession(r)
	f := r.PostForm
	w.hashing <- struct{}{}
	hash, err := staff.HashPassword(f.Get("new"))
	<-w.hashing
	if err == nil && f.Get("new") != f.Get("again") {
		err = staff.Mistakef("again: the two new passwords differ")
	}
	var try staff.Try
	if err == nil {
		try, err = w.o.Staff.BeginTry(r.Context(), s.Login, w.address(r))
	}
	if err == nil {
		w.hashing <- struct{}{}
		if !try.Secrets.HasPassword(f.Get("old")) {
			err = staff.ErrWrong
		}
		<-w.hashing
	}
	if err == nil {
		err = w.o.Staff.SetPassword(r.Context(), try, hash, staff.HashToken(w.staffToken(r)))
	}
	switch {
	case errors.Is(err, staff.ErrTooManyTries):
		w.meWith(rw, r, http.StatusTooManyRequests, mePage{Error: "no.tries"})
	case errors.Is(err, staff.ErrWrong):
		w.meWith(rw, r, http.StatusForbidden, mePage{Error: "no.password"})
	default:
		w.after(rw, r, err, "/staff/me", "password")
	}
}

// postRecovery makes new recovery codes; the old ones work no more.
func (w *Web) postRecovery(rw http.ResponseWriter, r *http.Request) {
	var hashes [][]byte
	var p mePage
	for _, code := range staff.NewRecoveryCodes() {
		hashes = append(hashes, staff.HashRecovery(code))
		p.Codes = append(p.Codes, staff.ShowRecovery(code))
	}
	if err := w.o.Staff.SetRecovery(r.Context(), staffSession(r).Login, hashes); err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.meWith(rw, r, http.StatusOK, p)
}

// postEndSession signs one of one's own sessions out: a phone that was left
// somewhere.
func (w *Web) postEndSession(rw http.ResponseWriter, r *http.Request) {
	err := w.o.Staff.EndOwnSession(r.Context(), staffSession(r).Login, r.PathValue("session_id"))
	w.after(rw, r, err, "/staff/me", "session_ended")
}
