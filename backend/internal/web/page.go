package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

//go:embed templates static
var pageFiles embed.FS

// pages renders templates in every language.
type pages struct {
	byLanguage map[string]*template.Template
	policy     string // Content-Security-Policy
	script     []byte
}

func loadPages() (*pages, error) {
	style, err := pageFiles.ReadFile("static/style.css")
	if err != nil {
		return nil, fmt.Errorf("style: %w", err)
	}
	script, err := pageFiles.ReadFile("static/live.js")
	if err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	sum := sha256.Sum256(style)
	p := &pages{
		byLanguage: map[string]*template.Template{},
		policy: "default-src 'self'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
		script: script,
	}
	for _, lang := range languages {
		t, err := loadTexts(lang)
		if err != nil {
			return nil, err
		}
		p.byLanguage[lang], err = template.New("").Funcs(template.FuncMap{
			"t": t.text, "tn": t.number, "wait": t.wait, "seen": seen, "tail": tail,
			"style": func() template.CSS { return template.CSS(style) },
		}).ParseFS(pageFiles, "templates/*.html")
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
	}
	return p, nil
}

// What a page shows.
const (
	showSignIn  = "signin"
	showCabinet = "cabinet"
	showSwap    = "swap"
	showMessage = "message"
	showNearby  = "nearby"
	showHistory = "history"
	showReport  = "report"
	showDevices = "devices"
	showPrivacy = "privacy"
)

// messageHome is the text for who has scanned nothing.
const messageHome = "home"

// page is what the templates need.
type page struct {
	Show      string
	CabinetID protocol.CabinetID
	Cabinet   swap.CabinetView
	Rider     swap.RiderView
	OpenSwap  string // where the rider's open swap is shown
	Key       string // idempotency key of the forms of this page

	Bind        bindView
	SignInWrong bool // with the development code
	SignInRider string
	Devices     []binding.Device
	Retention   int // months

	Swap    *swap.View
	Events  string // where the event stream is
	Refresh int    // s; 0: never
	CanWish bool
	Wished  bool

	Message string // key of a text
	// NeedsCode: the refusal asks for the code on the cabinet's screen.
	NeedsCode bool
	// HangsAt is where the rider's open swap hangs, when its cabinet is silent:
	// then this cabinet may be used all the same.
	HangsAt   protocol.CabinetID
	Elsewhere []neighbour
	History   []swap.View
	Hotline   string // whom to call
	Wait      *wait  // at a busy cabinet

	OtherLang string // the same page in the other language
	FaultPath string // where a fault is reported
	Fault     staff.Fault
	Reported  int64 // number of the report that was sent
}

// FaultKinds are what a rider can choose from.
func (page) FaultKinds() []string { return faultKinds[:] }

// Way is where the swap of the page stands.
func (p page) Way() []stage { return stages(*p.Swap) }

// Serves reports whether a scan of this cabinet is likely to be granted.
func (p page) Serves() bool {
	return p.Cabinet.Reachable && p.Cabinet.OutOfService == "" && p.Cabinet.Charged > 0
}

// DoorOpen asks for the door that has been open for long.
func (p page) DoorOpen() bool { return doorOpen(*p.Swap, time.Now()) }

// seen is when something was last heard of, short: the time of today, else the
// day too; "" for never.
func seen(at time.Time) string {
	switch {
	case at.IsZero():
		return ""
	case time.Since(at) < 12*time.Hour:
		return at.In(china).Format("15:04")
	default:
		return at.In(china).Format("01-02 15:04")
	}
}

// tail is the end of an identifier, which tells two of them apart.
func tail(id protocol.SwapID) string { return string(id[max(len(id)-6, 0):]) }

// Day is when a swap was begun, as the rider's clock showed it.
func (page) Day(at time.Time) string { return at.In(china).Format("01-02 15:04") }

// china is the time of all cabinets: China has one time and no summer time.
var china = time.FixedZone("CST", 8*60*60)

// The tones of a page's panel: what is to be done, and how it ended. Each has its
// own icon as well: a colour alone says nothing to many.
const (
	tonePut  = "put"
	toneTake = "take"
	toneWait = "wait"
	toneGood = "good"
	toneBad  = "bad"
	toneStop = "alarm"
	toneHome = "home"
)

// asText asks for a sign as a letter in the colour of the text, not as a picture.
const asText = "\uFE0E"

// Icon says by shape what the text says in words.
func (p page) Icon() string {
	switch p.Tone() {
	case tonePut:
		return "⬇" + asText
	case toneTake:
		return "⬆" + asText
	case toneWait:
		return "•••"
	case toneGood:
		return "✔" + asText
	}
	if p.Message == messageHome {
		return "▣"
	}
	if p.Swap != nil && p.Swap.Outcome == protocol.OutcomeReview {
		return "☎" + asText
	}
	return "⚠" + asText
}

// Tone is the panel's.
func (p page) Tone() string {
	switch {
	case p.Message == "reason."+string(protocol.ReasonAlarm):
		return toneStop
	case p.Message == messageHome:
		return toneHome
	case p.Swap == nil && (p.Wait != nil || p.Message == "reason."+string(protocol.ReasonBusy)):
		return toneWait
	case p.Swap == nil:
		return toneBad
	case p.Swap.State == swap.StateClosed && good(p.Swap.Outcome):
		return toneGood
	case p.Swap.State == swap.StateClosed:
		return toneBad
	}
	switch p.Swap.Step {
	case swap.StepDeposit, swap.StepReopen:
		return tonePut
	case swap.StepDispense, swap.StepReturn:
		return toneTake
	default:
		return toneWait
	}
}

// render answers with a template in the language of the request.
func (w *Web) render(rw http.ResponseWriter, r *http.Request, status int, name string, p page) {
	lang := language(r)
	p.Hotline = w.hotline(r.Context(), p)
	p.OtherLang = otherLanguage(r, lang, p.CabinetID)
	if p.CabinetID != "" {
		p.FaultPath = faultPath(p.CabinetID, p.Swap)
	}
	var b bytes.Buffer
	if err := w.pages.byLanguage[lang].ExecuteTemplate(&b, name, p); err != nil {
		requestFrom(r.Context()).cause = fmt.Errorf("render: %w", err)
		http.Error(rw, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", w.pages.policy)
	h.Set("Vary", "Accept-Language, Accept-Encoding, Cookie")
	if asked := r.URL.Query().Get("lang"); asked == lang {
		http.SetCookie(rw, &http.Cookie{
			Name: languageCookie, Value: lang, Path: "/", MaxAge: int(binding.SessionLife.Seconds()),
			Secure: w.https, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
	switch {
	case p.Bind.Wait > 0 && status == http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.Itoa(inSeconds(p.Bind.Wait)))
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		h.Set("Retry-After", retryAfter)
	}
	body := pack(r, h, b.Bytes())
	rw.WriteHeader(status)
	_, _ = rw.Write(body) // the phone is gone: nobody to tell
}

// otherLanguage is where a page is shown in the other language. What answers a
// form cannot be asked for once more: there it is the cabinet's page.
func otherLanguage(r *http.Request, lang string, cabinet protocol.CabinetID) string {
	q, path := r.URL.Query(), ""
	if r.Method != http.MethodGet {
		q, path = url.Values{}, "/"
		if cabinet != "" {
			path = "/c/" + string(cabinet)
		}
	}
	for _, l := range languages {
		if l != lang {
			q.Set("lang", l)
		}
	}
	return path + "?" + q.Encode()
}

// worthPacking is about what fits into one packet anyway, in bytes.
const worthPacking = 1400

// pack compresses an answer for who can read it. Nothing on these pages is both
// secret and the same from page to page, so its length gives nothing away.
func pack(r *http.Request, h http.Header, body []byte) []byte {
	if len(body) < worthPacking || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return body
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(body) // a buffer takes everything
	_ = z.Close()
	h.Set("Content-Encoding", "gzip")
	return b.Bytes()
}

// hotline is whom the riders of a page's cabinet call.
func (w *Web) hotline(ctx context.Context, p page) string {
	if p.CabinetID != "" && p.Cabinet.CabinetID == "" {
		if c, err := w.o.Books.Cabinet(ctx, p.CabinetID); err == nil {
			p.Cabinet = c
		}
	}
	if p.Cabinet.Hotline != "" {
		return p.Cabinet.Hotline
	}
	return w.o.Hotline
}

func (w *Web) message(rw http.ResponseWriter, r *http.Request, status int, cabinet protocol.CabinetID, text string) {
	w.render(rw, r, status, "page", page{Show: showMessage, CabinetID: cabinet, Message: text})
}
