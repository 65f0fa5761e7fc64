package web

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"batteryswap/backend/internal/staff"
)

// maxHashing bounds the passwords that are checked at once: each takes 19 MiB.
const maxHashing = 4

// liveHeader marks a page that refreshes itself: it keeps no session alive.
const liveHeader = "X-Live"

func (w *Web) staffCookieName() string {
	if w.https {
		return "__Host-staff"
	}
	return "staff"
}

// staffCookie is a session's cookie; "" takes it away. It ends with the browser.
func (w *Web) staffCookie(token string) *http.Cookie {
	c := &http.Cookie{Name: w.staffCookieName(), Value: token, Path: "/", Secure: w.https, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	return c
}

func (w *Web) staffToken(r *http.Request) string {
	c, err := r.Cookie(w.staffCookieName())
	if err != nil || len(c.Value) > maxToken {
		return ""
	}
	return c.Value
}

type sessionKey struct{}

// session is the staff member's of a guarded page.
func staffSession(r *http.Request) staff.Session {
	s, _ := r.Context().Value(sessionKey{}).(staff.Session)
	return s
}

// guard lets only the roles of a route through, and asks for a fresh code where
// the route wants one. What is refused has not happened.
func (w *Web) guard(a access, h http.HandlerFunc) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		token := w.staffToken(r)
		err := staff.ErrNotFound
		var s staff.Session
		if token != "" {
			s, err = w.o.Staff.StaffSession(r.Context(), staff.HashToken(token), r.Header.Get(liveHeader) == "")
		}
		switch {
		case errors.Is(err, staff.ErrNotFound):
			w.askSignIn(rw, r, token != "")
			return
		case err != nil:
			w.staffFailed(rw, r, err)
			return
		}
		r = r.WithContext(staff.As(context.WithValue(r.Context(), sessionKey{}, s), s.Actor))
		if !s.Has(a.roles...) {
			w.show(rw, r, http.StatusForbidden, "message", message{Text: "no.role", Detail: roleNames(a.roles)})
			return
		}
		if r.Method == http.MethodPost && bodyLimit(r) == maxBody && !w.parseForm(rw, r) {
			return
		}
		if a.fresh && r.Method == http.MethodPost && !s.IsFresh(time.Now()) && !w.confirm(rw, r, s, token) {
			return
		}
		h(rw, r)
	}
}

// askSignIn sends to the sign-in page. lost: a session has ended, and what was
// posted with it was not done.
func (w *Web) askSignIn(rw http.ResponseWriter, r *http.Request, lost bool) {
	next := ""
	if r.Method == http.MethodGet {
		next = r.URL.RequestURI()
	}
	if r.Method == http.MethodGet && !lost && r.Header.Get(liveHeader) == "" {
		to := url.Values{"next": {next}}
		if lang := r.URL.Query().Get("lang"); lang != "" { // whoever asks for a language means this page, too
			to.Set("lang", lang)
		}
		http.Redirect(rw, r, "/staff/sign-in?"+to.Encode(), http.StatusSeeOther)
		return
	}
	w.show(rw, r, http.StatusUnauthorized, "sign-in", signInPage{Next: next, Lost: lost, Posted: r.Method != http.MethodGet})
}

// safeNext keeps a link from leading elsewhere after a sign-in.
func safeNext(next string) string {
	if !strings.HasPrefix(next, "/staff/") || strings.HasPrefix(next, "/staff/sign-in") || strings.ContainsAny(next, "\\\r\n") {
		return "/staff/cabinets"
	}
	return next
}

type signInPage struct {
	Next, Login  string
	Lost, Posted bool
	Error        string // key of a text
}

func (w *Web) pageStaffSignIn(rw http.ResponseWriter, r *http.Request) {
	w.show(rw, r, http.StatusOK, "sign-in", signInPage{Next: r.URL.Query().Get("next")})
}

func (w *Web) postStaffSignIn(rw http.ResponseWriter, r *http.Request) {
	if !w.parseForm(rw, r) {
		return
	}
	p := signInPage{Next: r.PostForm.Get("next"), Login: strings.ToLower(strings.TrimSpace(r.PostForm.Get("login")))}
	try, err := w.o.Staff.BeginTry(r.Context(), p.Login, w.address(r))
	var proof staff.Proof
	if err == nil {
		w.hashing <- struct{}{}
		proof, err = try.Secrets.SignIn(r.PostForm.Get("password"), r.PostForm.Get("code"), time.Now())
		<-w.hashing
	}
	b := make([]byte, tokenBytes)
	rand.Read(b) // never fails
	token := base64.RawURLEncoding.EncodeToString(b)
	if err == nil {
		err = w.o.Staff.OpenSession(r.Context(), try, proof, staff.HashToken(token), w.address(r))
	}
	switch {
	case errors.Is(err, staff.ErrTooManyTries):
		p.Error = "no.tries"
		w.show(rw, r, http.StatusTooManyRequests, "sign-in", p)
	case errors.Is(err, staff.ErrWrong):
		p.Error = "no.sign_in"
		w.show(rw, r, http.StatusForbidden, "sign-in", p)
	case err != nil:
		w.staffFailed(rw, r, err)
	default:
		http.SetCookie(rw, w.staffCookie(token))
		http.Redirect(rw, r, safeNext(p.Next), http.StatusSeeOther)
	}
}

func (w *Web) postStaffSignOut(rw http.ResponseWriter, r *http.Request) {
	if err := w.o.Staff.EndSession(r.Context(), staff.HashToken(w.staffToken(r))); err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	http.SetCookie(rw, w.staffCookie(""))
	http.Redirect(rw, r, "/staff/sign-in", http.StatusSeeOther)
}

// field is one that a form brought along.
type field struct{ Name, Value string }

// confirmPage asks for a code and brings the form along.
type confirmPage struct {
	Fields []field
	Error  string
}

const codeField = "confirm_code"

// confirm asks for a fresh code, and takes the one that came with the form. It
// reports whether the act may go on.
func (w *Web) confirm(rw http.ResponseWriter, r *http.Request, s staff.Session, token string) bool {
	p := confirmPage{}
	names := make([]string, 0, len(r.PostForm))
	for name := range r.PostForm {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range r.PostForm[name] {
			if name != codeField {
				p.Fields = append(p.Fields, field{name, v})
			}
		}
	}
	code := r.PostForm.Get(codeField)
	if code == "" {
		w.show(rw, r, http.StatusForbidden, "confirm", p)
		return false
	}
	try, err := w.o.Staff.BeginTry(r.Context(), s.Login, w.address(r))
	var proof staff.Proof
	if err == nil {
		proof, err = try.Secrets.Confirm(code, time.Now())
	}
	if err == nil {
		err = w.o.Staff.ConfirmSession(r.Context(), try, proof, staff.HashToken(token))
	}
	switch {
	case errors.Is(err, staff.ErrTooManyTries):
		p.Error = "no.tries"
		w.show(rw, r, http.StatusTooManyRequests, "confirm", p)
	case errors.Is(err, staff.ErrWrong):
		p.Error = "no.code"
		w.show(rw, r, http.StatusForbidden, "confirm", p)
	case errors.Is(err, staff.ErrNotFound):
		w.askSignIn(rw, r, true)
	case err != nil:
		w.staffFailed(rw, r, err)
	}
	return err == nil
}

// machine lets a token with one of the roles through. Cookies open no API of
// staff: a page of another site could send them.
func (w *Web) machine(a access) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		token, ok := strings.CutPrefix(c.Header("Authorization"), "Bearer "+staff.TokenPrefix)
		err := staff.ErrNotFound
		var who staff.Actor
		if ok && len(token) <= maxToken && w.o.Staff != nil {
			who, err = w.o.Staff.TokenActor(c.Context(), staff.HashToken(staff.TokenPrefix+token))
		}
		refuse := func(p *Problem) {
			r, rw := humago.Unwrap(c)
			writeProblem(rw, r, p)
		}
		switch {
		case errors.Is(err, staff.ErrNotFound):
			p := problemUnauthorized()
			p.Detail = "want Authorization: Bearer TOKEN, of a machine"
			refuse(p)
		case err != nil:
			requestFrom(c.Context()).cause = err
			refuse(problemUnavailable())
		case !who.Has(a.roles...):
			refuse(problem(http.StatusForbidden, "role", "Role needed", "this token has not the role: "+roleNames(a.roles)))
		default:
			next(huma.WithContext(c, staff.As(c.Context(), who)))
		}
	}
}
