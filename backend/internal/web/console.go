package web

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
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

// console renders the pages of staff in every language.
type console struct {
	byLanguage map[string]*template.Template
	texts      map[string]texts
	policy     string
	script     []byte
}

// shanghai has had no daylight saving since 1991: an offset is the whole zone.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

func loadConsole() (*console, error) {
	style, err := pageFiles.ReadFile("static/staff.css")
	if err != nil {
		return nil, fmt.Errorf("style: %w", err)
	}
	script, err := pageFiles.ReadFile("static/staff.js")
	if err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	sum := sha256.Sum256(style)
	c := &console{
		byLanguage: map[string]*template.Template{}, texts: map[string]texts{}, script: script,
		policy: "default-src 'self'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
	}
	for _, lang := range languages {
		t, err := loadTexts(lang, "staff.", "figures.")
		if err != nil {
			return nil, err
		}
		c.texts[lang] = t
		c.byLanguage[lang], err = template.New("").Funcs(template.FuncMap{
			"t": t.text, "tn": t.number, "tw": t.words, "grouped": grouped, "named": t.named, "style": func() template.CSS { return template.CSS(style) },
			"time": showTime, "day": showDay, "age": t.age, "ago": t.ago, "reason": t.reason, "esc": url.PathEscape, "fates": t.fate, "rollmistake": t.rollMistake, "short": short, "key": rand.Text, "said": t.said, "celsius": celsius,
			"unanswered": func(o staff.Order) bool { return o.Unanswered(time.Now()) },
		}).ParseFS(pageFiles, "templates/staff/*.html")
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
	}
	return c, nil
}

func showTime(v any) string {
	switch at := v.(type) {
	case time.Time:
		return at.In(shanghai).Format("2006-01-02 15:04:05")
	case *time.Time:
		if at != nil {
			return showTime(*at)
		}
	}
	return "–"
}

func showDay(at time.Time) string { return at.In(shanghai).Format("2006-01-02") }

// short is the end of an identifier: enough to tell those of a page apart.
func short(id any) string {
	s := fmt.Sprint(id)
	return s[max(0, len(s)-6):]
}

// age says how old a reading is.
func (t texts) age(ms *int64) string {
	if ms == nil {
		return t.text("age.never")
	}
	return t.span(time.Duration(*ms) * time.Millisecond)
}

// ago says how long ago something was.
func (t texts) ago(at *time.Time) string {
	if at == nil {
		return t.text("age.never")
	}
	return t.span(time.Since(*at))
}

func (t texts) span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return t.number("age.s", "{n}", int(max(0, d).Seconds()))
	case d < time.Hour:
		return t.number("age.min", "{n}", int(d.Minutes()))
	case d < 48*time.Hour:
		return t.number("age.h", "{n}", int(d.Hours()))
	default:
		return t.number("age.d", "{n}", int(d.Hours()/24))
	}
}

// reason is the text of a reason; staff see its name too.
func (t texts) reason(r any) string {
	if name := fmt.Sprint(r); name != "" {
		return t.text("reason." + name)
	}
	return ""
}

// layout is what stands around every page.
type layout struct {
	Name    string // of the page
	Session staff.Session
	Menu    []menuItem
	Done    string // key of a text: what has just been done
	Lang    string // query that gives this page in the other language
	Live    bool
	Body    template.HTML
}

type menuItem struct {
	Path, Text string
	Here       bool
}

// menu is what the roles of a session open.
func menu(s staff.Session, path string) []menuItem {
	var out []menuItem
	for _, m := range []struct {
		path, text string
		roles      []staff.Role
	}{
		{"/staff/cabinets", "menu.cabinets", everyone}, {"/staff/alarms", "menu.alarms", fleetWork}, {"/staff/reviews", "menu.reviews", deciders},
		{"/staff/swaps", "menu.swaps", everyone}, {statisticsPath, "menu.statistics", figureReaders}, {"/staff/batteries", "menu.batteries", fleetWork}, {"/staff/riders", "menu.riders", riderView}, {"/staff/roll", "menu.roll", riderWork},
		{"/staff/credits", "menu.credits", riderView}, {"/staff/faults", "menu.faults", everyone}, {"/staff/accounts", "menu.accounts", []staff.Role{staff.Admin}},
		{"/staff/audit-log", "menu.audit", []staff.Role{staff.Admin}},
	} {
		if s.Has(m.roles...) {
			out = append(out, menuItem{m.path, m.text, path == m.path || strings.HasPrefix(path, m.path+"/")})
		}
	}
	return out
}

// livePages refresh themselves.
var livePages = [...]string{"cabinets", "cabinet", "swap", "alarms", "roll"}

// show answers with a page of the console in the language of the request.
func (w *Web) show(rw http.ResponseWriter, r *http.Request, status int, name string, data any) {
	lang := language(r)
	t := w.console.byLanguage[lang]
	s := staffSession(r)
	l := layout{Name: name, Session: s}
	if s.Login != "" {
		l.Menu = menu(s, r.URL.Path)
	}
	for _, live := range livePages {
		l.Live = l.Live || live == name && status == http.StatusOK
	}
	q := r.URL.Query()
	if done := "done." + q.Get("done"); w.console.texts[lang][done] != "" && r.Method == http.MethodGet {
		l.Done = done
	}
	q.Set("lang", w.console.texts[lang].text("other.lang"))
	if l.Lang = "?" + q.Encode(); r.Method != http.MethodGet {
		l.Lang = "" // what was posted is not asked for again
	}
	var b bytes.Buffer
	err := t.ExecuteTemplate(&b, name, data)
	if err == nil {
		l.Body = template.HTML(b.String()) // made by the line above, escaped
		b.Reset()
		err = t.ExecuteTemplate(&b, "layout", l)
	}
	if err != nil {
		requestFrom(r.Context()).cause = fmt.Errorf("render: %w", err)
		http.Error(rw, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", w.console.policy)
	h.Set("Vary", "Accept-Language, Cookie")
	if r.URL.Query().Get("lang") == lang {
		http.SetCookie(rw, &http.Cookie{
			Name: languageCookie, Value: lang, Path: "/", MaxAge: int(binding.SessionLife.Seconds()), Secure: w.https, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
	if (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && h.Get("Retry-After") == "" {
		h.Set("Retry-After", retryAfter)
	}
	rw.WriteHeader(status)
	_, _ = rw.Write(b.Bytes()) // the browser is gone: nobody to tell
}

// message is a page that says one thing.
type message struct {
	Text     string // key
	Detail   string
	Lines    []string
	Decided  *swap.Decided // by somebody else, before
	Possible []swap.Ruling // that the facts leave
	Asked    bool          // only for a page: there was nothing to be done
	Reason   protocol.Reason
	Back     string    // path of the page that it was asked for on
	Next     time.Time // when it can be asked for again
}

// BackText is the text of the button that leads back.
func (m message) BackText() string {
	if strings.HasPrefix(m.Back, statisticsPath) {
		return "menu.statistics"
	}
	return "back"
}

// staffFailed says why an act was not done, or a page is not there.
func (w *Web) staffFailed(rw http.ResponseWriter, r *http.Request, err error) {
	w.staffFailedOn(rw, r, err, "")
}

// staffFailedOn also leads back to a page.
func (w *Web) staffFailedOn(rw http.ResponseWriter, r *http.Request, err error, page string) {
	status, m := failureOf(err)
	m.Asked, m.Back = r.Method == http.MethodGet, page
	if !m.Next.IsZero() {
		rw.Header().Set("Retry-After", strconv.Itoa(secondsTo(m.Next)))
	}
	if status == http.StatusServiceUnavailable {
		requestFrom(r.Context()).cause = err
	}
	w.show(rw, r, status, "message", m)
}

// secondsTo is what Retry-After says of a time to come.
func secondsTo(at time.Time) int { return max(1, int(time.Until(at).Seconds())) }

func failureOf(err error) (int, message) {
	var refusal *staff.Refusal
	var mistake *staff.Mistake
	var decided *swap.AlreadyDecided
	var contradiction *swap.Contradiction
	switch {
	case errors.As(err, &refusal) && refusal.Code == staff.NotPersonal:
		return http.StatusForbidden, message{Text: "no." + refusal.Code, Detail: refusal.Detail}
	case errors.Is(err, staff.ErrNotFound), errors.Is(err, ErrNotFound):
		return http.StatusNotFound, message{Text: "notfound"}
	case errors.Is(err, staff.ErrExists):
		return http.StatusConflict, message{Text: "no.exists", Detail: err.Error()}
	case errors.As(err, &refusal) && !refusal.Next.IsZero():
		return http.StatusTooManyRequests, message{Text: "no." + refusal.Code, Next: refusal.Next}
	case errors.As(err, &refusal):
		return http.StatusConflict, message{Text: "no." + refusal.Code, Detail: refusal.Detail}
	case errors.As(err, &decided):
		return http.StatusConflict, message{Text: "no." + staff.AlreadyDecided, Decided: &decided.Decided}
	case errors.As(err, &contradiction):
		return http.StatusConflict, message{Text: "no." + staff.Contradiction, Detail: contradiction.Why, Possible: contradiction.Possible}
	case errors.As(err, &mistake):
		return http.StatusUnprocessableEntity, message{Text: "no.mistake", Lines: strings.Split(mistake.Error(), "\n")}
	default:
		return http.StatusServiceUnavailable, message{Text: "unavailable"}
	}
}

// done sends on to a page that says what was done, by GET: a reload repeats
// nothing.
func done(rw http.ResponseWriter, r *http.Request, path, what string) {
	http.Redirect(rw, r, path+"?done="+what, http.StatusSeeOther)
}
