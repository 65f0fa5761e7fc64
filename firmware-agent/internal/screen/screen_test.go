package screen

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestCodesTurn(t *testing.T) {
	var now time.Duration
	c := NewCodes(func() time.Duration { return now }, rand.Reader)
	first := c.Current()
	require.Regexp(t, "^["+alphabet+"]{6}$", first)
	require.Equal(t, []string{first}, c.Valid())
	now = codeLife - 1
	require.Equal(t, first, c.Current())
	now = codeLife
	second := c.Current()
	require.NotEqual(t, first, second)
	require.Equal(t, []string{second, first}, c.Valid(), "the one that was shown a moment ago is valid")
	now = 2*codeLife - 1
	require.Contains(t, c.Valid(), first)
	now = 2 * codeLife
	require.NotContains(t, c.Valid(), first, "two windows old")
	require.Contains(t, c.Valid(), second)
	now = 10 * codeLife
	require.NotContains(t, c.Valid(), second, "nobody looked for long")
	require.Len(t, c.Valid(), 1)
}

func TestCodesAreDrawnWithoutFavour(t *testing.T) {
	var now time.Duration
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	c := NewCodes(func() time.Duration { return now }, bytes.NewReader(bytes.Repeat(every, codeLength)))
	counts := map[rune]int{}
	for range len(alphabet) * 8 {
		for _, r := range c.Current() {
			counts[r]++
		}
		now += codeLife
	}
	for _, r := range alphabet {
		require.Equal(t, 8*codeLength, counts[r], "%c", r)
	}
	c = NewCodes(func() time.Duration { return now }, iotest.ErrReader(errors.New("no entropy")))
	require.Empty(t, c.Current())
	require.Empty(t, c.Valid(), "no code proves nothing")
}

// site is a screen and what it is told.
type site struct {
	*Screen
	scene  Scene
	online bool
	now    time.Duration
}

func newSite(t *testing.T, file string) *site {
	t.Helper()
	s := &site{online: true, now: time.Hour}
	now := func() time.Duration { return s.now }
	var err error
	s.Screen, err = New(Options{
		CabinetID: "hb-0001", Scene: func() Scene { return s.scene }, Online: func() bool { return s.online },
		Codes: NewCodes(now, rand.Reader), Now: now, GuideFile: file,
	})
	require.NoError(t, err)
	return s
}

func (s *site) get(path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8081"+path, nil)
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec
}

func guide() protocol.Guide {
	return protocol.Guide{
		PageURL: "https://swap.example/c/hb-0001", Hotline: "0571-1234", At: time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC),
		Nearest: []protocol.Neighbour{{CabinetID: "hb-0002", Station: "<b>Hubin</b>", Street: "Wensan", Metres: 1340, Charged: 5, Empty: 2}},
	}
}

// TestEachPage: what is most urgent is what is shown, in both languages.
func TestEachPage(t *testing.T) {
	s := newSite(t, filepath.Join(t.TempDir(), "guide.json"))
	require.NoError(t, s.Guide(guide()))
	soc := 31
	for name, c := range map[string]struct {
		scene   Scene
		offline bool
		keys    []string
		nearest bool
		code    bool
	}{
		"ready":               {Scene{Charged: 3, Empty: 2}, false, []string{"charged", "empty", "code"}, false, true},
		"none charged":        {Scene{Empty: 2}, false, []string{"none_charged"}, true, false},
		"deposit":             {Scene{Step: "deposit", Slot: 3, Charged: 3}, false, []string{"step.deposit"}, false, false},
		"swap, offline":       {Scene{Step: "dispense", Slot: 7, Soc: &soc}, true, []string{"step.dispense"}, false, false},
		"swap, maintenance":   {Scene{Step: "dispense", Slot: 7, Maintenance: true}, false, []string{"step.dispense"}, false, false},
		"maintenance":         {Scene{Maintenance: true, Out: protocol.ReasonOutOfService}, false, []string{"maintenance"}, false, false},
		"alarm":               {Scene{Alarm: true, Step: "dispense", Slot: 7}, false, []string{"alarm"}, true, false},
		"out":                 {Scene{Out: protocol.ReasonOutOfService}, true, []string{"out_of_service"}, true, false},
		"offline":             {Scene{Charged: 3}, true, []string{"offline"}, true, false},
		"done":                {Scene{Outcome: protocol.OutcomeSwapped, EndedAt: time.Hour - endShown + 1}, false, []string{"outcome.swapped"}, false, false},
		"owed, at once":       {Scene{Charged: 1, Outcome: protocol.OutcomeDepositedOwed, EndedAt: time.Hour - endShown}, false, []string{"outcome.deposited_owed"}, false, true},
		"owed, offline":       {Scene{Charged: 1, Outcome: protocol.OutcomeDepositedOwed, EndedAt: time.Hour - endShown}, true, []string{"outcome.deposited_owed"}, false, false},
		"done long ago":       {Scene{Charged: 1, Outcome: protocol.OutcomeSwapped, EndedAt: time.Hour - endShown}, false, []string{"charged"}, false, true},
		"done, after a cut":   {Scene{Charged: 1, Outcome: protocol.OutcomeSwapped, Reason: protocol.ReasonPowerCut, EndedAt: time.Hour}, false, []string{"outcome.swapped"}, false, true},
		"review, with reason": {Scene{Outcome: protocol.OutcomeReview, Reason: protocol.ReasonHeldBattery, EndedAt: time.Hour - endShown}, true, []string{"outcome.review", "reason.held_battery"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s.scene, s.online = c.scene, !c.offline
			body := s.get("/live").Body.String()
			for _, key := range c.keys {
				for _, lang := range languages {
					require.Contains(t, body, ">"+s.texts[lang][key]+"<", key)
				}
			}
			require.Equal(t, c.nearest, strings.Contains(body, "hb-0002"), "the nearest cabinets")
			require.Equal(t, c.code, strings.Contains(body, `id="code"`), "a code is shown where it can be used")
			require.Equal(t, strings.Contains(body, `class="code"`) || name == "none charged", strings.Contains(body, "<svg"), "the same as a picture")
			require.Equal(t, c.scene.Slot != 0 && !c.scene.Alarm, strings.Contains(body, fmt.Sprintf(`<p class="slot">%d</p>`, c.scene.Slot)))
			require.NotContains(t, body, s.texts["en"]["reason.power_cut"], "who is done need not do it again")
			require.NotContains(t, body, "<b>Hubin", "what the backend says is text")
			require.Contains(t, body, "0571-1234")
		})
	}
}

// TestEveryKeyHasAText: what a swap can end with is said in both languages.
func TestEveryKeyHasAText(t *testing.T) {
	texts, err := loadTexts()
	require.NoError(t, err)
	keys := []string{"down"}
	for _, r := range protocol.Reasons() {
		keys = append(keys, "reason."+string(r))
	}
	for _, o := range declared(t, "../../../protocol", "Outcome") {
		keys = append(keys, "outcome."+o)
	}
	for _, st := range declared(t, "../cabinet", "Step") {
		keys = append(keys, "step."+st)
	}
	for _, sh := range declared(t, ".", "show") {
		if sh != string(showStep) && sh != string(showEnd) && sh != string(showReady) {
			keys = append(keys, sh)
		}
	}
	require.Greater(t, len(keys), 50)
	for _, lang := range languages {
		for _, key := range keys {
			require.NotEmpty(t, texts[lang][key], "%s in %s", key, lang)
		}
		require.Len(t, texts[lang], len(texts[languages[0]]), lang)
	}
}

// declared are the string constants of a type in a package.
func declared(t *testing.T, dir, typeName string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var out []string
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == typeName {
				out = append(out, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			}
			return true
		})
	}
	require.NotEmpty(t, out, typeName)
	return out
}

// TestThePageLoadsNothing: one request, nothing from elsewhere, and only the
// style and script that were shipped.
func TestThePageLoadsNothing(t *testing.T) {
	s := newSite(t, filepath.Join(t.TempDir(), "guide.json"))
	rec := s.get("/")
	require.Equal(t, http.StatusOK, rec.Code)
	body := rec.Body.String()
	require.Less(t, len(body), 20<<10)
	require.NotRegexp(t, `src=|href=|@import|url\(|style="| on[a-z]+=`, body)
	policy := rec.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'", "form-action 'none'"} {
		require.Contains(t, policy, want)
	}
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
}

func TestOnlyTheCabinetsOwnScreen(t *testing.T) {
	s := newSite(t, filepath.Join(t.TempDir(), "guide.json"))
	s.scene.Charged = 1
	for host, want := range map[string]int{
		"127.0.0.1:8081": 200, "localhost:8081": 200, "[::1]:8081": 200, "127.0.0.1": 200,
		"evil.example:8081": 421, "127.0.0.1.evil.example": 421, "10.0.0.1:8081": 421, "": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/live", nil)
		r.Host = host
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		require.Equal(t, want, rec.Code, host)
		require.Equal(t, want == 200, strings.Contains(rec.Body.String(), `id="code"`), host)
	}
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/live", nil)
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	require.Equal(t, http.StatusMethodNotAllowed, rec.Code)
	require.Equal(t, http.StatusNotFound, s.get("/else").Code)
	require.Equal(t, http.StatusNoContent, s.get("/favicon.ico").Code)
}

func TestTheGuideIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "guide.json")
	s := newSite(t, file)
	s.online = false
	require.NotContains(t, s.get("/live").Body.String(), "hb-0002")
	require.NoError(t, s.Guide(guide()))
	old := guide()
	old.At, old.Hotline = old.At.Add(-time.Minute), "0"
	require.NoError(t, s.Guide(old), "a repeated old one changes nothing")
	again := newSite(t, file)
	again.online = false
	require.Contains(t, again.get("/live").Body.String(), "hb-0002")
	require.Contains(t, again.get("/live").Body.String(), "0571-1234")

	for _, bad := range []string{"{", `{"page_url":"ftp://x"}`} {
		require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
		s, err := New(Options{CabinetID: "hb-0001", Scene: again.o.Scene, Online: func() bool { return false }, Codes: again.o.Codes, Now: again.o.Now, GuideFile: file})
		require.Error(t, err)
		require.NotNil(t, s, "the screen works without")
		require.NoError(t, s.Guide(guide()), "and takes the next")
	}
	lost := newSite(t, filepath.Join(t.TempDir(), "none", "guide.json"))
	require.Error(t, lost.Guide(guide()))
	require.Contains(t, lost.get("/live").Body.String(), "0571-1234", "it is shown all the same")
}
