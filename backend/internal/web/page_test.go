package web

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// phone is a browser without JavaScript: it follows links and posts forms.
type phone struct {
	t      *testing.T
	site   *site
	client *http.Client
	at     string // path and query
	status int
	html   string
	header http.Header
}

func newPhone(t *testing.T, s *site) *phone {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &phone{t: t, site: s, client: &http.Client{Jar: jar}}
}

func (p *phone) do(r *http.Request) {
	p.t.Helper()
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := p.client.Do(r)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	p.at, p.status, p.html, p.header = resp.Request.URL.RequestURI(), resp.StatusCode, string(b), resp.Header
}

func (p *phone) open(path string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.site.URL+path, nil)
	require.NoError(p.t, err)
	p.do(r)
}

var (
	forms  = regexp.MustCompile(`(?s)<form method="post" action="([^"]+)">(.*?)</form>`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
)

// submit posts the form whose action ends so, with its hidden fields and these.
func (p *phone) submit(action string, fields ...string) {
	p.t.Helper()
	for _, f := range forms.FindAllStringSubmatch(p.html, -1) {
		if !strings.HasSuffix(f[1], action) {
			continue
		}
		v := url.Values{}
		for _, h := range hidden.FindAllStringSubmatch(f[2], -1) {
			v.Set(h[1], h[2])
		}
		for i := 0; i < len(fields); i += 2 {
			v.Set(fields[i], fields[i+1])
		}
		r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.site.URL+f[1], strings.NewReader(v.Encode()))
		require.NoError(p.t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		p.do(r)
		return
	}
	require.Failf(p.t, "no such form", "%s in %s", action, p.html)
}

func TestPageWithoutJavaScript(t *testing.T) {
	for _, c := range []struct{ lang, query, signIn, swap, deposit, done, month string }{
		{"zh-CN", "", "登录", "换电", "把电池放进这个仓", "换电完成", "本月换电 41 次"},
		{"en", "?lang=en", "Sign in", "Swap", "Put your battery into this slot", "Ride safely", "Swaps this month: 41"},
	} {
		t.Run(c.lang, func(t *testing.T) {
			s := newSite(t)
			p := newPhone(t, s)
			p.open("/c/hb-0001" + c.query)
			require.Equal(t, 200, p.status)
			require.Contains(t, p.html, `<html lang="`+c.lang+`">`)
			require.Contains(t, p.html, c.signIn)
			require.Contains(t, p.html, "Wensan Road")
			require.Contains(t, p.html, "<dd>7</dd>")

			p.submit("/sign-in", "rider_id", string(riderA), "code", "guess")
			require.Equal(t, 403, p.status)
			require.Contains(t, p.html, string(riderA), "what was typed is kept")
			require.NotContains(t, p.html, "guess")
			p.submit("/sign-in", "rider_id", string(riderA), "code", "letmein")
			require.Equal(t, "/c/hb-0001", p.at)
			require.Contains(t, p.html, c.swap)
			require.Contains(t, p.html, c.month)

			s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
			p.submit("/swaps")
			require.Equal(t, "/c/hb-0001/swaps/"+string(swapA), p.at)
			require.Contains(t, p.html, `<p class="panel slot put"><span aria-hidden="true">⬇`)
			require.Contains(t, p.html, c.deposit)
			require.Contains(t, p.html, `<noscript><meta http-equiv="refresh" content="2"></noscript>`)
			p.submit("/wish")
			require.Contains(t, s.books.did(), "wish hb-0001 "+string(swapA))
			require.Contains(t, p.html, "✔")

			s.books.change(func(v *swap.View) { v.Reachable = false })
			p.open("/c/hb-0001/swaps/" + string(swapA))
			require.Contains(t, p.html, `class="note">? `)
			soc := 31
			s.books.change(func(v *swap.View) { v.Reachable, v.Step, v.Slot, v.Soc = true, swap.StepDispense, 7, &soc })
			p.open("/c/hb-0001/swaps/" + string(swapA))
			require.Contains(t, p.html, `</span>7<small>`)
			require.Contains(t, p.html, "31")

			s.books.change(func(v *swap.View) {
				v.State, v.Step, v.Slot, v.Outcome, v.Reason = swap.StateClosed, swap.StepClosed, 0, protocol.OutcomeSwapped, protocol.ReasonPowerCut
			})
			p.open("/c/hb-0001/swaps/" + string(swapA))
			require.Contains(t, p.html, c.done)
			require.Contains(t, p.html, c.month)
			require.NotContains(t, p.html, `<p class="note">`, "who is done need not do anything about a cut")
			require.NotContains(t, p.html, "refresh")
			require.NotContains(t, p.html, "<script")
			p.open("/c/hb-0001/swaps/" + string(swapA) + "/live")
			require.Contains(t, p.html, "data-closed")
			require.NotContains(t, p.html, "<html")

			p.open("/c/hb-0001")
			p.submit("/sign-out")
			require.Contains(t, p.html, c.signIn)
		})
	}
}

// TestTheOtherLanguageIsTheSamePage: what was filled in stays, and a page that
// answered a form, which nobody can ask for again, leads back to its cabinet.
func TestTheOtherLanguageIsTheSamePage(t *testing.T) {
	s := newSite(t).placed()
	p := newPhone(t, s)
	p.open("/nearby?from=hb-0001&lang=en")
	require.Contains(t, unescape(p.html), `href="?from=hb-0001&lang=zh"`)
	p.signIn(home, riderA)
	s.refuse(swap.Refusal{Reason: protocol.ReasonBusy})
	p.submit("/swaps")
	require.Contains(t, p.html, `<a href="/c/hb-0001?lang=zh"`)
}

func TestDoubleTapCarriesOneKey(t *testing.T) {
	s := newSite(t)
	s.books.change(func(v *swap.View) { v.State = swap.StateActive })
	p := newPhone(t, s)
	p.open("/c/hb-0001")
	p.submit("/sign-in", "rider_id", string(riderA), "code", "letmein")
	page := p.html
	p.submit("/swaps")
	p.html = page
	p.submit("/swaps")
	var keys []string
	for _, a := range s.books.did() {
		if k, ok := strings.CutPrefix(a, "scan "); ok {
			keys = append(keys, k)
		}
	}
	require.Len(t, keys, 2)
	require.Equal(t, keys[0], keys[1])
	p.open("/c/hb-0001")
	require.NotContains(t, p.html, keys[0], "the next page has its own key")
}

func TestPageHints(t *testing.T) {
	s := newSite(t)
	p := newPhone(t, s)
	p.open("/c/hb-0002")
	require.Contains(t, p.html, "没有联网")
	p.submit("/sign-in", "rider_id", string(riderB), "code", "letmein")
	require.Contains(t, p.html, "/c/hb-0001/swaps/"+string(swapB), "an open swap is shown, wherever it is")
	v := s.books.swaps[swapB]
	v.State = swap.StateClosed
	s.books.swaps[swapB] = v
	p.open("/c/hb-0002?lang=en")
	require.Contains(t, p.html, "You are owed 1: scan the code on the cabinet")

	s.books.onScan = func(swap.Scan) (swap.View, *swap.Refusal, error) {
		return swap.View{}, &swap.Refusal{Reason: protocol.ReasonPresence}, nil
	}
	p.submit("/swaps")
	require.Equal(t, 403, p.status)
	require.Contains(t, p.html, "type the code on its screen")
	require.Contains(t, p.html, `href="/c/hb-0002"`)

	p.open("/c/hb-9999")
	require.Equal(t, 404, p.status)
	require.Contains(t, p.html, "no such cabinet")
	p.open("/c/hb-0001/swaps/" + string(swapA))
	require.Equal(t, 404, p.status, "a swap of another rider")
	p.open("/c/hb-0002/swaps/" + string(swapB))
	require.Equal(t, 404, p.status, "a swap of another cabinet")
	p.open("/c/hb-0002/swaps/<script>")
	require.Equal(t, 404, p.status)
	require.NotContains(t, p.html, "<script")
}

func TestSignInClosed(t *testing.T) {
	s := newSite(t)
	s.web.o.DevelopmentCode = ""
	p := newPhone(t, s)
	p.open("/c/hb-0001")
	require.Contains(t, p.html, "现在还不能登录")
	require.NotContains(t, p.html, "<form")
	resp, body := s.ask(t, "POST", "/api/v1/sessions", "", `{"rider_id":"a","code":"b"}`)
	require.Equal(t, 403, resp.StatusCode)
	require.Contains(t, body, "sign-in-closed")
}

func TestCrossSiteAndGet(t *testing.T) {
	s := newSite(t)
	a := s.token(t, riderA)
	before := len(s.books.did())
	for _, h := range []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"} {
		for _, path := range []string{"/c/hb-0001/swaps", "/c/hb-0001/sign-in", "/api/v1/swaps", "/api/v1/sessions"} {
			resp, body := s.ask(t, "POST", path, a, "key=k", h, "Content-Type: application/x-www-form-urlencoded")
			require.Equal(t, 403, resp.StatusCode, path)
			require.Contains(t, body, "cross-origin")
		}
	}
	for _, path := range []string{
		"/c/hb-0001", "/c/hb-0001/swaps", "/c/hb-0001/sign-in", "/c/hb-0001/sign-out", "/c/hb-0001/swaps/" + string(swapA),
		"/c/hb-0001/bind", "/c/hb-0001/bind/code", "/privacy", "/devices", "/devices/x/end", "/devices/end-others", "/api/v1/codes", "/api/v1/riders/me/devices",
		"/c/hb-0001/swaps/" + string(swapA) + "/wish", "/c/hb-0001/swaps/" + string(swapA) + "/live", "/api/v1/swaps",
		"/api/v1/sessions", "/api/v1/swaps/" + string(swapA), "/api/v1/swaps/" + string(swapA) + "/wish", "/api/v1/riders/me",
		"/api/v1/cabinets", "/", "/favicon.ico", "/static/live.js", "/healthz", "/readyz",
	} {
		s.ask(t, "GET", path, a, "")
	}
	require.Len(t, s.books.did(), before, "a GET of everything changes nothing")
}

func TestPageIsSmallAndOwnsItself(t *testing.T) {
	s := newSite(t).placed()
	s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
	for n := range 40 { // more than a page lists
		id := protocol.CabinetID(fmt.Sprintf("hz-xihu-%04d", n))
		c := s.books.cabinets["hb-0003"]
		lat := 30.25 + float64(n)/1000
		c.CabinetID, c.Latitude, c.Station, c.Street = id, &lat, fmt.Sprint("湖滨银泰东门地铁站 ", n), "文三路与学院路交叉口"
		s.books.cabinets[id] = c
	}
	token := s.token(t, riderA)
	_, script := s.ask(t, "GET", "/static/live.js", "", "")
	require.LessOrEqual(t, len(script), 5<<10)
	sent := func(path string) (reply, int) {
		resp, packed := s.ask(t, "GET", path, token, "", "Accept-Encoding: gzip") // asked for by name: not unpacked
		require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"), path)
		return resp, len(packed)
	}
	_, scriptSent := sent("/static/live.js")
	for _, path := range []string{"/c/hb-0001", "/c/hb-0002", "/nearby?from=hb-0001", "/c/hb-0001/history", "/c/hb-0001/fault", "/c/hb-0001/swaps/" + string(swapA)} {
		_, size := sent(path)
		t.Logf("%s: %d bytes, and %d of script", path, size, scriptSent)
		require.LessOrEqual(t, size, 14<<10, path)
		require.LessOrEqual(t, size+scriptSent, 30<<10, path)
	}
	resp, html := s.ask(t, "GET", "/c/hb-0001/swaps/"+string(swapA), token, "")
	policy := resp.Header.Get("Content-Security-Policy")
	require.True(t, strings.HasPrefix(policy, "default-src 'self'; style-src 'sha256-"))
	require.NotContains(t, policy, "unsafe")
	require.NotRegexp(t, `(?i)(src|href)="(https?:)?//`, html)
	require.NotRegexp(t, `(?i)<[^>]+ (style|on[a-z]+)=`, html, "the policy would forbid it")
	size := regexp.MustCompile(`\.slot\{font-size:(\d+)px`).FindStringSubmatch(html)
	require.NotNil(t, size)
	require.GreaterOrEqual(t, len(size[1]), 3, "at least 96 px")
}

func TestLanguageOfRequest(t *testing.T) {
	for _, c := range []struct{ query, cookie, accept, want string }{
		{"", "", "", "zh"},
		{"", "", "en-GB,en;q=0.9,zh;q=0.8", "en"},
		{"", "", "fr,zh-CN;q=0.9", "zh"},
		{"", "", "fr", "zh"},
		{"", "en", "zh", "en"},
		{"zh", "en", "en", "zh"},
		{"xx", "", "en", "en"},
	} {
		r, err := http.NewRequest(http.MethodGet, "/?lang="+c.query, nil)
		require.NoError(t, err)
		r.Header.Set("Accept-Language", c.accept)
		if c.cookie != "" {
			r.AddCookie(&http.Cookie{Name: languageCookie, Value: c.cookie})
		}
		require.Equal(t, c.want, language(r), "%+v", c)
	}
}

func TestEverythingHasATextInBothLanguages(t *testing.T) {
	keys := map[string]bool{"home": true, "notfound": true, "unavailable": true}
	for _, r := range protocol.Reasons() {
		keys["reason."+string(r)] = true
	}
	for _, o := range outcomes() {
		keys["outcome."+string(o)] = true
	}
	for _, st := range declared("../swap", "Step") {
		keys["step."+st] = true
	}
	for _, k := range faultKinds {
		keys["fault."+k] = true
	}
	for _, kind := range []protocol.Kind{protocol.KindSwap, protocol.KindOwed, protocol.KindHandBack} {
		for _, part := range stages(swap.View{Kind: kind}) {
			keys[part.Text] = true
		}
	}
	require.Greater(t, len(keys), 3+len(protocol.Reasons())+11+8, "what is declared was found")
	used := regexp.MustCompile(`\btn? "([a-z_.]+)"`)
	require.NoError(t, fs.WalkDir(pageFiles, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.Contains(path, "/staff/") {
			return nil // TestConsoleHasATextForEverything
		}
		b, err := pageFiles.ReadFile(path)
		for _, m := range used.FindAllStringSubmatch(string(b), -1) {
			keys[m[1]] = true
		}
		return err
	}))
	all := map[string]texts{}
	for _, lang := range languages {
		var err error
		all[lang], err = loadTexts(lang)
		require.NoError(t, err)
		for k := range keys {
			require.NotEmpty(t, all[lang][k], "%s has no text for %s", lang, k)
		}
	}
	for k := range all["zh"] {
		require.Contains(t, all["en"], k)
		require.Equal(t, strings.Contains(all["zh"][k], "{"), strings.Contains(all["en"][k], "{"), k)
	}
	require.Len(t, all["en"], len(all["zh"]))
}

// TestChineseBreaksAtStops: what is said in large letters is broken after a stop
// only (word-break: keep-all), so that no line begins with one: between two stops
// there is room for 13 signs on the smallest phone.
func TestChineseBreaksAtStops(t *testing.T) {
	const room = 13
	zh, err := loadTexts("zh")
	require.NoError(t, err)
	parts := regexp.MustCompile(`[（“]?[^，。；：！？（“]*[，。；：！？）”]*`)
	for key, text := range zh {
		if !strings.HasPrefix(key, "step.") && !strings.HasPrefix(key, "outcome.") && !strings.HasPrefix(key, "reason.") {
			continue
		}
		for _, part := range parts.FindAllString(text, -1) {
			require.LessOrEqual(t, utf8.RuneCountInString(part), room, "%s: %q", key, part)
		}
	}
}
