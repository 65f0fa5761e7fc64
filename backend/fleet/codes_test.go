package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/notify"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/postgres"
)

// sms is the union's, which does not always answer.
type sms struct {
	mu    sync.Mutex
	down  int // so many tries fail first
	tries int
	came  chan notify.Code
}

func (g *sms) SendCode(_ context.Context, c notify.Code) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tries++; g.tries <= g.down {
		return errors.New("gateway: no answer")
	}
	g.came <- c
	return nil
}

const (
	testNumber = phone.Number("15400000001")
	nobodys    = phone.Number("15400000002")
)

// member adds a rider of the roll, with a battery.
func (w *town) member(n phone.Number, no string) *handset {
	w.t.Helper()
	id, err := w.store.AddRider(w.t.Context(), postgres.NewRider{Name: "Zhang", Phone: n, MembershipNo: no})
	require.NoError(w.t, err)
	return &handset{t: w.t, id: id}
}

// privacy is the version of the notice.
func (p *handset) privacy(at *replica) string {
	p.t.Helper()
	var v struct{ Version string }
	p.do(at, "GET", "/api/v1/privacy", nil, 200, &v)
	return v.Version
}

// TestBindingThroughTheGateway: asked for at one replica, sent at the third try by
// whichever, bound at the other; and no log has the number or the code (T21).
func TestBindingThroughTheGateway(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	g := &sms{down: 2, came: make(chan notify.Code, 10)}
	with := func(o *Options) { o.CodeSender, o.RiderCode = g, "" }
	both := []*replica{w.start(with).ready(), w.start(with).ready()}
	p := w.member(testNumber, "HZ-1")
	status, b := p.ask(both[0], "POST", "/api/v1/codes", map[string]any{"phone": "+86 154 0000 0001"})
	require.Equal(t, 202, status, "%s", b)
	c := receive(t, g.came)
	require.Equal(t, testNumber, c.Phone)
	require.Regexp(t, `^[0-9]{6}$`, c.Code)
	require.Equal(t, 3, c.Try)
	require.Equal(t, notify.KindCode, c.Kind)
	require.Equal(t, "zh", c.Language)

	status, b = p.ask(both[1], "POST", "/api/v1/codes", map[string]any{"phone": testNumber})
	require.Equal(t, http.StatusTooManyRequests, status, "another replica counts the same: %s", b)
	status, other := p.ask(both[1], "POST", "/api/v1/codes", map[string]any{"phone": nobodys})
	require.Equal(t, 202, status)
	require.NotContains(t, string(other), "phone")
	var s struct{ Token string }
	p.do(both[1], "POST", "/api/v1/sessions", map[string]any{"phone": testNumber, "code": c.Code, "privacy_version": p.privacy(both[1])}, 201, &s)
	p.token = s.Token
	require.Equal(t, 0, p.me(both[0]).SwapsTotal)
	status, b = p.ask(both[0], "POST", "/api/v1/sessions", map[string]any{"phone": testNumber, "code": c.Code, "privacy_version": p.privacy(both[1])})
	require.Equal(t, 403, status, "%s", b)
	require.Contains(t, string(b), "sign-in-refused")
	require.Empty(t, g.came, "nobody's phone gets no message")
	for _, r := range both {
		require.NotRegexp(t, `1[3-9][0-9]{9}`, r.log.String())
		require.NotContains(t, r.log.String(), c.Code)
		require.NotContains(t, r.log.String(), s.Token)
	}
}

// TestT13GuessersAreNoticed: a bound of all phones together is counted at each refusal
// and told in the log once in a while, below what wakes somebody up for a request.
func TestT13GuessersAreNoticed(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	g := &sms{came: make(chan notify.Code, 10)}
	r := w.start(func(o *Options) { o.CodeSender, o.RiderCode, o.WrongPerHour = g, "", 2 }).ready()
	p := w.member(testNumber, "HZ-1")
	page, _, _ := r.scrape(t)
	for _, series := range []string{`swap_rider_codes_total{result="sent"} 0`, `swap_rider_codes_total{result="failed"} 0`,
		`swap_rider_codes_stopped_total{bound="wrong"} 0`, `swap_rider_codes_stopped_total{bound="messages"} 0`} {
		require.Contains(t, page, series, "the first is a rise that a rate sees")
	}
	status, b := p.ask(r, "POST", "/api/v1/codes", map[string]any{"phone": testNumber})
	require.Equal(t, 202, status, "%s", b)
	wrong := "999999"
	if receive(t, g.came).Code == wrong {
		wrong = "888888"
	}
	try := func() (int, string) {
		status, b := p.ask(r, "POST", "/api/v1/sessions", map[string]any{"phone": testNumber, "code": wrong, "privacy_version": p.privacy(r)})
		return status, string(b)
	}
	for range 2 {
		status, _ := try()
		require.Equal(t, 403, status)
	}
	for range 3 {
		status, body := try()
		require.Equal(t, 429, status, body)
		require.Contains(t, body, "one that staff hand out does")
	}
	page, _, _ = r.scrape(t)
	require.Contains(t, page, `swap_rider_codes_stopped_total{bound="wrong"} 3`)
	require.Equal(t, 1, strings.Count(r.log.String(), "codes_stopped"))
	for line := range strings.Lines(r.log.String()) {
		require.False(t, strings.Contains(line, "codes_stopped") && !strings.Contains(line, `"level":"WARN"`), line)
	}
	now := time.Now()
	require.False(t, r.stops.may("wrong", now))
	require.True(t, r.stops.may("messages", now))
	require.True(t, r.stops.may("wrong", now.Add(sayEvery)))
}

// TestCodesInTheLog is for demonstrations: the code is there, the number is not, and
// the server says what that means.
func TestCodesInTheLog(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	sent := &journal{}
	r := w.start(func(o *Options) {
		o.CodeSender, o.RiderCode = notify.Log{Log: slog.New(slog.NewJSONHandler(sent, nil))}, ""
	}).ready()
	p := w.member(testNumber, "HZ-1")
	status, _ := p.ask(r, "POST", "/api/v1/codes", map[string]any{"phone": testNumber})
	require.Equal(t, 202, status)
	var line struct{ Phone, Code string }
	require.Eventually(t, func() bool { return json.Unmarshal([]byte(sent.String()), &line) == nil }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "154****0001", line.Phone)
	var s struct{ Token string }
	p.do(r, "POST", "/api/v1/sessions", map[string]any{"phone": testNumber, "code": line.Code, "privacy_version": p.privacy(r)}, 201, &s)
	require.Contains(t, r.log.String(), "CODES IN THE LOG")
	require.NotContains(t, r.log.String()+sent.String(), string(testNumber))
}

// TestStaffEndDevices: by the console's button, and with the code that staff hand out
// the rider binds again; no gateway is needed.
func TestStaffEndDevices(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	r := o.start(func(o *Options) { o.RiderCode = "" }).ready()
	p := o.member(testNumber, "HZ-1")
	cookie := o.session("union", 0)
	press := func(path string) string {
		status, body, _ := o.ask(http.MethodPost, "/staff/riders/"+string(p.id)+path, nil, func(r *http.Request) { r.AddCookie(cookie) })
		require.Less(t, status, 400, body)
		return body
	}
	bind := func() {
		_, after, ok := strings.Cut(press("/code"), `<p class="secret">`)
		require.True(t, ok)
		code, _, _ := strings.Cut(after, "<")
		var s struct{ Token string }
		p.do(r, "POST", "/api/v1/sessions", map[string]any{"membership_no": "HZ-1", "code": code, "privacy_version": p.privacy(r)}, 201, &s)
		p.token = s.Token
	}
	bind()
	status, _ := p.ask(r, "GET", "/api/v1/riders/me", nil)
	require.Equal(t, 200, status)
	press("/end-devices")
	status, _ = p.ask(r, "GET", "/api/v1/riders/me", nil)
	require.Equal(t, 401, status)
	bind()
	status, b := p.ask(r, "GET", "/api/v1/riders/me/devices", nil)
	require.Equal(t, 200, status)
	require.Equal(t, 1, strings.Count(string(b), "device_id"), "%s", b)
	status, b = p.ask(r, "POST", "/api/v1/codes", map[string]any{"phone": testNumber})
	require.Equal(t, 403, status, "%s", b)
	require.Contains(t, string(b), "codes-not-sent")
}
