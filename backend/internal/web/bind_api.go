package web

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"batteryswap/backend/internal/binding"
	numbers "batteryswap/backend/internal/phone"
)

// registerBindingAPI puts what binds phones, and what riders see of it, on the API.
func (w *Web) registerBindingAPI(api huma.API) {
	register(w, api, http.MethodPost, "/api/v1/codes", "send-code",
		"Have a code sent to a phone, if it is a rider's: the answer is the same if it is not", anybody(), http.StatusAccepted, w.createCode)
	register(w, api, http.MethodPost, "/api/v1/sessions", "create-session", "Bind a phone: sign in", anybody(), http.StatusCreated, w.createSession)
	register(w, api, http.MethodGet, "/api/v1/privacy", "get-privacy", "Which privacy notice binding accepts", anybody(), http.StatusOK, w.getPrivacy)
	register(w, api, http.MethodGet, "/api/v1/riders/me/devices", "list-devices", "What speaks for oneself", riders(), http.StatusOK, w.listDevices)
	register(w, api, http.MethodDelete, "/api/v1/riders/me/devices", "end-other-devices", "End all devices but the one that asks", riders(), http.StatusNoContent, w.endOtherDevices)
	register(w, api, http.MethodDelete, "/api/v1/riders/me/devices/{device_id}", "end-device", "End one of one's devices", riders(), http.StatusNoContent, w.endDevice)
}

// caller is where a request of the API comes from.
type caller struct {
	address, userAgent, language string
}

// Resolve is called by huma before a handler.
func (c *caller) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	c.address, _ = r.Context().Value(addressKey{}).(string)
	c.userAgent, c.language = r.UserAgent(), language(r)
	return nil
}

type addressKey struct{}

type createCodeInput struct {
	caller
	Body struct {
		Phone string `json:"phone" minLength:"1" maxLength:"40" doc:"A mobile number of mainland China"`
	}
}

type createCodeOutput struct {
	Body struct {
		ExpiresIn int `json:"expires_in_s" doc:"For how long a code holds"`
		Wait      int `json:"wait_s" doc:"Until the next may be asked for"`
	}
}

func (w *Web) createCode(ctx context.Context, in *createCodeInput) (*createCodeOutput, error) {
	if w.o.SignIn == nil || !w.o.SignIn.SendsCodes() {
		return nil, problemNotSent()
	}
	n, err := numbers.Parse(in.Body.Phone)
	if err != nil {
		p := problem(http.StatusUnprocessableEntity, "invalid-request", "Invalid request", "validation failed")
		p.Errors = []FieldError{{Location: "body.phone", Message: "want a mobile number of 11 digits that starts with 13 to 19"}}
		return nil, p
	}
	if err := w.sendCode(ctx, n, in.address, in.language); err != nil {
		return nil, bindingProblem(err)
	}
	out := &createCodeOutput{}
	out.Body.ExpiresIn, out.Body.Wait = inSeconds(binding.CodeLife), inSeconds(binding.CodePause)
	return out, nil
}

func problemNotSent() *Problem {
	return problem(http.StatusForbidden, "codes-not-sent", "Codes not sent", "this backend sends no codes to phones: staff hand them out")
}

// bindingProblem turns what binding answers into a problem.
func bindingProblem(err error) error {
	var many *binding.TooMany
	switch {
	case errors.As(err, &many):
		p := problem(http.StatusTooManyRequests, "too-many-tries", "Too many tries", tooManyDetail(many.Bound))
		p.wait = inSeconds(many.Wait)
		return p
	case errors.Is(err, binding.ErrWrong):
		return problem(http.StatusForbidden, "sign-in-refused", "Sign-in refused", "the code is wrong, too old, used, or was tried too often: ask for a new one")
	case errors.Is(err, binding.ErrNotSent):
		return problemNotSent()
	}
	return asProblem(err)
}

// tooManyDetail says which bound it is, and what is possible meanwhile.
func tooManyDetail(b binding.Bound) string {
	what := map[binding.Bound]string{
		binding.OfAsking:   "codes for this phone or from this address; one that came before still works",
		binding.OfTrying:   "wrong codes from this address; from another one it can be tried at once",
		binding.OfMessages: "codes to all phones; one that came before still works",
		binding.OfGuessing: "wrong codes of all phones: none works now; one that staff hand out does",
	}[b]
	return "too many " + what + ". Wait as long as Retry-After says"
}

type createSessionInput struct {
	caller
	IdempotencyKey string `header:"Idempotency-Key" minLength:"16" maxLength:"64" pattern:"^[!-~]+$" doc:"Random, and not to be guessed: who did not hear the answer asks again with the same key and code, and gets the same session"`
	Body           struct {
		Phone        string `json:"phone,omitempty" maxLength:"40" doc:"The rider's phone; or membership_no"`
		MembershipNo string `json:"membership_no,omitempty" maxLength:"40"`
		RiderID      string `json:"rider_id,omitempty" maxLength:"64" doc:"With the development code only"`
		Code         string `json:"code" minLength:"1" maxLength:"64" doc:"That was sent to the phone, or that staff handed out"`
		Privacy      string `json:"privacy_version,omitempty" maxLength:"20" doc:"Of GET /api/v1/privacy: the notice that the rider accepts. Required but for the development code"`
	}
}

type createSessionOutput struct {
	SetCookie string `header:"Set-Cookie"`
	Body      struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
}

func (w *Web) createSession(ctx context.Context, in *createSessionInput) (*createSessionOutput, error) {
	var s session
	var err error
	if in.Body.RiderID != "" {
		s, err = w.signInForDevelopment(ctx, in)
	} else {
		s, err = w.bindByAPI(ctx, in)
	}
	if err != nil {
		return nil, err
	}
	out := &createSessionOutput{SetCookie: w.cookie(s).String()}
	out.Body.Token, out.Body.Expires = s.token, s.expires.UTC().Truncate(time.Second)
	return out, nil
}

func (w *Web) signInForDevelopment(ctx context.Context, in *createSessionInput) (session, error) {
	if w.o.DevelopmentCode == "" {
		return session{}, problem(http.StatusForbidden, "sign-in-closed", "Sign-in closed", "this backend has no development code: want phone or membership_no")
	}
	s, ok, err := w.developmentSession(ctx, in.Body.RiderID, in.Body.Code, in.userAgent)
	switch {
	case err != nil:
		return s, asProblem(err)
	case !ok:
		return s, problem(http.StatusForbidden, "sign-in-refused", "Sign-in refused", "rider_id or code is wrong")
	}
	return s, nil
}

func (w *Web) bindByAPI(ctx context.Context, in *createSessionInput) (session, error) {
	switch {
	case w.o.SignIn == nil:
		return session{}, problem(http.StatusForbidden, "sign-in-closed", "Sign-in closed", "riders cannot sign in at this backend yet")
	case in.Body.Privacy != privacyVersion:
		p := problem(http.StatusUnprocessableEntity, "privacy", "Privacy notice", "want the version of the notice that the rider has accepted: see GET /api/v1/privacy")
		p.Errors = []FieldError{{Location: "body.privacy_version", Message: "want " + privacyVersion}}
		return session{}, p
	}
	key := in.IdempotencyKey
	if key == "" {
		key = rand.Text()
	}
	who := in.Body.Phone
	if who == "" {
		who = in.Body.MembershipNo
	}
	proof := proofOf(who, in.Body.Code, in.address)
	if in.Body.Phone == "" {
		proof.Phone = "" // it is said to be none
	} else if proof.Phone != "" {
		proof.MembershipNo = ""
	}
	s := w.newToken("api "+key, who)
	_, err := w.bind(ctx, proof,
		binding.Session{TokenHash: hashToken(s.token), Browser: binding.BrowserOf(in.userAgent), Privacy: privacyVersion})
	if err != nil {
		return session{}, bindingProblem(err)
	}
	return s, nil
}

type privacyOutput struct {
	Body struct {
		Version string `json:"version"`
		URL     string `json:"url" doc:"Where its text is"`
	}
}

func (w *Web) getPrivacy(context.Context, *struct{}) (*privacyOutput, error) {
	out := &privacyOutput{}
	out.Body.Version, out.Body.URL = privacyVersion, w.o.PublicURL.Scheme+"://"+w.o.PublicURL.Host+"/privacy"
	return out, nil
}

// deviceBody is a device as its rider sees it.
type deviceBody struct {
	DeviceID  string    `json:"device_id"`
	App       string    `json:"app" doc:"wechat, alipay, chrome and others; other"`
	System    string    `json:"system,omitempty" doc:"Android, iPhone, HarmonyOS and others"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen" doc:"To ten minutes"`
	Here      bool      `json:"here,omitempty" doc:"It is the one that asks"`
}

type devicesOutput struct {
	Body struct {
		Devices []deviceBody `json:"devices"`
	}
}

func (w *Web) listDevices(ctx context.Context, _ *struct{}) (*devicesOutput, error) {
	rider, err := w.apiRider(ctx)
	if err != nil {
		return nil, err
	}
	all, err := w.o.Books.Devices(ctx, rider, tokenOf(ctx))
	if err != nil {
		return nil, asProblem(err)
	}
	out := &devicesOutput{}
	out.Body.Devices = []deviceBody{}
	for _, d := range all {
		out.Body.Devices = append(out.Body.Devices, deviceBody{
			DeviceID: d.ID, App: d.Browser.App, System: d.Browser.System, FirstSeen: d.FirstSeen.UTC(), LastSeen: d.LastSeen.UTC(), Here: d.Here,
		})
	}
	return out, nil
}

func (w *Web) endOtherDevices(ctx context.Context, _ *struct{}) (*struct{}, error) {
	rider, err := w.apiRider(ctx)
	if err != nil {
		return nil, err
	}
	return nil, asProblem(w.o.Books.EndOtherDevices(ctx, rider, tokenOf(ctx)))
}

type deviceInput struct {
	DeviceID string `path:"device_id" maxLength:"16"`
}

func (w *Web) endDevice(ctx context.Context, in *deviceInput) (*struct{}, error) {
	rider, err := w.apiRider(ctx)
	if err != nil {
		return nil, err
	}
	return nil, asProblem(w.o.Books.EndDevice(ctx, rider, in.DeviceID))
}
