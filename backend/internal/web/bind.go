package web

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"batteryswap/backend/internal/binding"
	numbers "batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// maxBinding bounds the bindings that are under way at once: whoever floods them
// leaves the database to those who swap.
const maxBinding = 4

// Steps of binding, as its page shows them.
const (
	bindPhone = "phone" // which phone is it
	bindCode  = "code"  // a code is on its way
	bindStaff = "staff" // with a code that staff handed out
)

// bindView is what the page of binding needs.
type bindView struct {
	Step    string
	Who     string        // as it was typed: a phone, or a membership number
	Masked  string        // the phone, as it is shown
	Key     string        // of the session that the form makes
	Version string        // of the privacy notice
	Agreed  bool          // it was accepted on the page before
	Sends   bool          // codes are sent to phones here
	Error   string        // key of a text
	Wait    time.Duration // until a bound is over, for the text
	// Development: everybody may sign in with one code.
	Development bool
	Closed      bool
}

// registerBinding puts the pages of binding on the mux.
func (w *Web) registerBinding(mux *http.ServeMux) {
	w.handle(mux, "POST /c/{cabinet_id}/sign-in", anybody(), w.postSignIn)
	w.handle(mux, "POST /c/{cabinet_id}/sign-out", anybody(), w.postSignOut)
	w.handle(mux, "GET /c/{cabinet_id}/bind", anybody(), w.pageBind)
	w.handle(mux, "POST /c/{cabinet_id}/bind/code", anybody(), w.postBindCode)
	w.handle(mux, "POST /c/{cabinet_id}/bind", anybody(), w.postBind)
	w.handle(mux, "GET /privacy", anybody(), w.pagePrivacy)
	w.handle(mux, "GET /devices", riders(), w.pageDevices)
	w.handle(mux, "POST /devices/{device_id}/end", riders(), w.postEndDevice)
	w.handle(mux, "POST /devices/end-others", riders(), w.postEndOthers)
}

// pageSignIn shows a cabinet, and how to bind this browser.
func (w *Web) pageSignIn(rw http.ResponseWriter, r *http.Request, status int, p page) {
	c, ok := w.knownCabinet(rw, r)
	if !ok {
		return
	}
	p.Show, p.CabinetID, p.Cabinet = showSignIn, c.CabinetID, c
	p.Bind.Version, p.Bind.Development = privacyVersion, w.o.DevelopmentCode != ""
	p.Bind.Closed = w.o.SignIn == nil && !p.Bind.Development
	p.Bind.Sends = w.o.SignIn != nil && w.o.SignIn.SendsCodes()
	if w.o.SignIn != nil && p.Bind.Step == "" {
		p.Bind.Step = bindPhone
		if !p.Bind.Sends {
			p.Bind.Step = bindStaff
		}
	}
	if p.Bind.Key == "" {
		p.Bind.Key = rand.Text()
	}
	if p.SignInRider == "" {
		p.SignInRider = r.URL.Query().Get("rider_id") // a link may fill in who, never the code
	}
	w.render(rw, r, status, "page", p)
}

// pageBind is the form for a code that staff handed out.
func (w *Web) pageBind(rw http.ResponseWriter, r *http.Request) {
	w.pageSignIn(rw, r, http.StatusOK, page{Bind: bindView{Step: bindStaff}})
}

// postSignIn signs in with the development code.
func (w *Web) postSignIn(rw http.ResponseWriter, r *http.Request) {
	if w.o.DevelopmentCode == "" {
		w.pageSignIn(rw, r, http.StatusForbidden, page{})
		return
	}
	if !w.parseForm(rw, r) {
		return
	}
	id := r.PostForm.Get("rider_id")
	s, ok, err := w.developmentSession(r.Context(), id, r.PostForm.Get("code"), r.UserAgent())
	if err != nil {
		w.pageFailed(rw, r, cabinetOf(r), err)
		return
	}
	if !ok {
		w.pageSignIn(rw, r, http.StatusForbidden, page{SignInWrong: true, SignInRider: id})
		return
	}
	http.SetCookie(rw, w.cookie(s))
	w.toCabinet(rw, r)
}

// postSignOut ends the session itself: a copy of the cookie is worth nothing then.
func (w *Web) postSignOut(rw http.ResponseWriter, r *http.Request) {
	if token, _ := r.Context().Value(tokenKey{}).(string); token != "" {
		if err := w.o.Books.EndSession(r.Context(), tokenOf(r.Context())); err != nil {
			w.pageFailed(rw, r, cabinetOf(r), err)
			return
		}
	}
	http.SetCookie(rw, w.noCookie())
	w.toCabinet(rw, r)
}

// bindForm is what the forms of binding have in common, or the page says why not.
func (w *Web) bindForm(rw http.ResponseWriter, r *http.Request) (bindView, bool) {
	if w.o.SignIn == nil {
		w.pageSignIn(rw, r, http.StatusForbidden, page{})
		return bindView{}, false
	}
	if !w.parseForm(rw, r) {
		return bindView{}, false
	}
	v := bindView{
		Step: r.PostForm.Get("step"), Who: cutTyped(r.PostForm.Get("who")), Key: r.PostForm.Get("key"),
		Agreed: r.PostForm.Get("privacy") == privacyVersion,
	}
	if v.Step != bindCode && v.Step != bindStaff {
		v.Step = bindPhone
	}
	if !validKey(v.Key) {
		v.Key = rand.Text()
	}
	return v, true
}

// maxTyped bounds what is shown again of what was typed, in bytes.
const maxTyped = 64

func cutTyped(typed string) string { return strings.TrimSpace(typed[:min(len(typed), maxTyped)]) }

// postBindCode has a code sent, and asks for it. The page is the same for a phone
// that is nobody's.
func (w *Web) postBindCode(rw http.ResponseWriter, r *http.Request) {
	v, ok := w.bindForm(rw, r)
	if !ok {
		return
	}
	v.Step = bindPhone
	n, err := numbers.Parse(v.Who)
	switch {
	case err != nil:
		v.Error = "bind.phone.wrong"
		w.pageSignIn(rw, r, http.StatusUnprocessableEntity, page{Bind: v})
		return
	case !v.Agreed:
		v.Error = "bind.privacy.missing"
		w.pageSignIn(rw, r, http.StatusUnprocessableEntity, page{Bind: v})
		return
	}
	v.Step, v.Masked = bindCode, n.Mask()
	err = w.sendCode(r.Context(), n, w.address(r), language(r))
	var many *binding.TooMany
	switch {
	case errors.As(err, &many): // a code may be there already: it can be typed
		w.pageSignIn(rw, r, http.StatusTooManyRequests, page{Bind: v.bounded(many, false)})
	case errors.Is(err, binding.ErrNotSent):
		w.pageSignIn(rw, r, http.StatusForbidden, page{Bind: bindView{Step: bindStaff, Who: v.Who}})
	case err != nil:
		w.pageFailed(rw, r, cabinetOf(r), err)
	default:
		w.pageSignIn(rw, r, http.StatusOK, page{Bind: v})
	}
}

// bounded is what somebody is told who came upon a bound; handed: with a code that
// staff had handed out.
func (v bindView) bounded(many *binding.TooMany, handed bool) bindView {
	v.Error, v.Wait = "bind.wait."+string(many.Bound), many.Wait
	switch {
	case many.Bound == binding.OfTrying && handed:
		v.Error = "bind.wait.handed"
	case many.Bound == binding.OfGuessing: // only such a code works now
		v.Step = bindStaff
	}
	return v
}

func inSeconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }

// postBind binds this browser, and goes on where the rider was.
func (w *Web) postBind(rw http.ResponseWriter, r *http.Request) {
	v, ok := w.bindForm(rw, r)
	if !ok {
		return
	}
	proof := proofOf(v.Who, r.PostForm.Get("code"), w.address(r))
	v.Masked = proof.Phone.Mask()
	if !v.Agreed {
		v.Error = "bind.privacy.missing"
		w.pageSignIn(rw, r, http.StatusUnprocessableEntity, page{Bind: v})
		return
	}
	s := w.newToken("page "+v.Key, v.Who)
	rider, err := w.bind(r.Context(), proof, binding.Session{TokenHash: hashToken(s.token), Browser: binding.BrowserOf(r.UserAgent()), Privacy: privacyVersion})
	var many *binding.TooMany
	switch {
	case errors.As(err, &many):
		w.pageSignIn(rw, r, http.StatusTooManyRequests, page{Bind: v.bounded(many, proof.Handed())})
	case errors.Is(err, binding.ErrWrong):
		v.Error = "bind.wrong"
		w.pageSignIn(rw, r, http.StatusForbidden, page{Bind: v})
	case err != nil:
		w.pageFailed(rw, r, cabinetOf(r), err)
	default:
		http.SetCookie(rw, w.cookie(s))
		if own, err := w.o.Books.Rider(r.Context(), rider); err == nil && own.OpenSwap != "" {
			if open, err := w.o.Books.Swap(r.Context(), rider, own.OpenSwap); err == nil && open.CabinetID == cabinetOf(r) {
				http.Redirect(rw, r, swapPath(open.CabinetID, open.SwapID), http.StatusSeeOther)
				return
			}
		}
		w.toCabinet(rw, r)
	}
}

// proofOf reads who somebody says to be: a membership number, and a phone if it could
// be one. Unions that number their members with eleven digits have numbers that
// look like phones.
func proofOf(who, code, address string) binding.Proof {
	p := binding.Proof{MembershipNo: strings.TrimSpace(who), Code: code, Address: address}
	if n, err := numbers.Parse(who); err == nil {
		p.Phone = n
	}
	return p
}

// sendCode and bind wait for their turn.
func (w *Web) sendCode(ctx context.Context, n numbers.Number, address, lang string) error {
	if err := w.takeTurn(ctx); err != nil {
		return err
	}
	defer func() { <-w.binding }()
	return w.o.SignIn.SendCode(ctx, n, address, lang)
}

func (w *Web) bind(ctx context.Context, p binding.Proof, s binding.Session) (swap.RiderID, error) {
	if err := w.takeTurn(ctx); err != nil {
		return "", err
	}
	defer func() { <-w.binding }()
	return w.o.SignIn.Bind(ctx, p, s)
}

func (w *Web) takeTurn(ctx context.Context) error {
	select {
	case w.binding <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// from is the cabinet that a page without one goes back to, if it is one.
func from(r *http.Request) protocol.CabinetID {
	if id := protocol.CabinetID(r.FormValue("from")); id.Validate() == nil {
		return id
	}
	return ""
}
