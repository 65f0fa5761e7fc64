package web

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// What every page must keep on every phone.
const (
	minTarget   = 48.0 // CSS px, of what a gloved finger must hit
	minDigits   = 96.0 // CSS px, of a slot's number
	minContrast = 7.0
	maxRequests = 3
	maxBytes    = 30 << 10
)

// tab is a browser with the size of a phone and a rider's session.
type tab struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // it is the tab
	site *site
	dir  string
}

func newTab(t *testing.T, s *site, width, height int) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, //nolint:gocritic // a copy
		chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(width, height))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(int64(width), int64(height), chromedp.EmulateMobile, chromedp.EmulateTouch)))
	dir := ""
	if keep := os.Getenv("SCREENSHOTS"); keep != "" { // to be looked at
		dir = filepath.Join(keep, fmt.Sprintf("%dx%d", width, height))
		require.NoError(t, os.MkdirAll(dir, 0o755)) //nolint:gosec // pictures
	}
	return &tab{t: t, ctx: ctx, site: s, dir: dir}
}

// as gives the tab a rider's session.
func (b *tab) as(rider swap.RiderID) {
	b.t.Helper()
	u, err := url.Parse(b.site.URL)
	require.NoError(b.t, err)
	_, err = chromedp.Call(b.ctx, network.SetCookie, network.SetCookieParams{
		Name: "swap_session", Value: b.site.token(b.t, rider), Domain: u.Hostname(), Path: "/",
	})
	require.NoError(b.t, err)
}

func (b *tab) open(path string) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, chromedp.Navigate(b.site.URL+path)))
}

// measures are what a browser says of a page, in CSS px.
type measures struct {
	Width    float64
	Small    []string // targets too small
	Faint    []string // texts with too little contrast
	Over     []string // things that lie on one another
	Cut      []string // texts that do not fit into their place
	Unnamed  []string // controls without a name
	Digits   float64
	Requests int
	Bytes    int // of the page, its style and its script, as they came over the line
	Foreign  []string
	Lang     string
	Roles    int
	Text     string
}

const measure = `((minTarget, minContrast) => {
	const light = c => { const p = c.match(/[\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); }); return .2126 * p[0] + .7152 * p[1] + .0722 * p[2]; };
	const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
	const contrast = e => { const a = light(getComputedStyle(e).color), b = light(ground(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); };
	const shown = [...document.body.querySelectorAll("*")].filter(e => e.getClientRects().length);
	const words = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
	const targets = shown.filter(e => e.matches("button, a, input, textarea"));
	const places = shown.filter(e => targets.includes(e) || words(e) && !getComputedStyle(e).display.startsWith("inline")).map(e => [e, e.getBoundingClientRect()]);
	const over = [];
	places.forEach(([a, p], i) => places.slice(i + 1).forEach(([b, q]) => {
		if (!a.contains(b) && !b.contains(a) && Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 1)
			over.push(a.outerHTML + " and " + b.outerHTML);
	}));
	const digits = document.querySelector(".slot");
	const loaded = performance.getEntriesByType("resource").map(e => e.name);
	return {
		Width: document.documentElement.scrollWidth,
		Small: targets.filter(e => { const r = e.getBoundingClientRect(); return r.height < minTarget || r.width < minTarget; }).map(e => e.outerHTML),
		Faint: shown.filter(e => words(e) && contrast(e) < minContrast).map(e => e.outerHTML),
		Unnamed: targets.filter(e => !(e.innerText || (e.labels && e.labels.length && e.labels[0].innerText))).map(e => e.outerHTML),
		Over: over,
		Cut: shown.filter(e => words(e) && e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML),
		Digits: digits ? parseFloat(getComputedStyle(digits).fontSize) : 0,
		Requests: 1 + performance.getEntriesByType("resource").filter(e => ["script", "link", "css", "img"].includes(e.initiatorType)).length,
		Bytes: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource").filter(e => e.initiatorType === "script")].reduce((n, e) => n + e.encodedBodySize, 0),
		Foreign: loaded.filter(n => !n.startsWith(location.origin)),
		Lang: document.documentElement.lang,
		Roles: document.querySelectorAll("[role=status], [role=alert], h1").length,
		Text: document.body.innerText,
	};
})(%f, %f)`

// look takes a picture and measures.
func (b *tab) look(name, lang string) measures {
	b.t.Helper()
	if b.dir != "" {
		picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		require.NoError(b.t, err)
		require.NoError(b.t, os.WriteFile(filepath.Join(b.dir, name+"-"+lang+".png"), picture, 0o644)) //nolint:gosec // a picture
	}
	m, err := chromedp.Run(b.ctx, chromedp.Evaluate[measures](fmt.Sprintf(measure, minTarget, minContrast)))
	require.NoError(b.t, err)
	return m
}

// state is one thing that a rider's phone can show.
type state struct {
	name    string
	rider   swap.RiderID // "": nobody is signed in
	set     func(*site)
	path    string
	tap     string // a selector that is pressed first
	says    string // key of the text that must be there
	digits  bool
	hotline bool
	alike   bool // but for the words it is like another: the rules of accessibility need not be run
}

// states is every reason, every outcome, every step, and every page.
func states() []state { return append(pageStates(), swapStates()...) }

// pageStates are the pages beside a swap, and what a cabinet can be.
func pageStates() []state {
	cabinet := func(change func(*swap.CabinetView)) func(*site) {
		return func(s *site) {
			s.books.mu.Lock()
			defer s.books.mu.Unlock()
			c := s.books.cabinets[home]
			c.SwapOpen, c.SwapSince, c.OutOfService, c.Charged, c.Inventory = false, time.Time{}, "", 7, nil
			change(&c)
			s.books.cabinets[home] = c
		}
	}
	plain := func(*swap.CabinetView) {}
	return []state{
		{name: "signin", path: "/c/hb-0001", says: "signin"},
		{name: "cabinet", rider: riderA, path: "/c/hb-0001", says: "swap"},
		{name: "cabinet-owed", rider: riderC, path: "/c/hb-0001", says: "collect"},
		{name: "cabinet-dead", rider: riderA, path: "/c/hb-0002", says: "offline", hotline: true},
		{name: "cabinet-open-swap", rider: riderB, path: "/c/hb-0003", says: "open_swap"},
		{name: "cabinet-none-charged", rider: riderA, path: "/c/hb-0001", says: "none_charged", set: cabinet(func(c *swap.CabinetView) { c.Charged = 0 })},
		{name: "cabinet-out", rider: riderA, path: "/c/hb-0001", says: "out_of_service", hotline: true, set: cabinet(func(c *swap.CabinetView) {
			c.OutOfService = protocol.ReasonOutOfService
		})},
		{name: "cabinet-door", rider: riderA, path: "/c/hb-0001", says: "wait.door", set: cabinet(func(c *swap.CabinetView) {
			c.Inventory = protocol.Inventory{{Slot: 4, Door: protocol.DoorOpen}}
		})},
		{name: "cabinet-busy", rider: riderA, path: "/c/hb-0001", says: "wait.seconds", set: cabinet(func(c *swap.CabinetView) {
			c.SwapOpen, c.SwapSince = true, time.Now().Add(-20*time.Second)
		})},
		{name: "cabinet-busy-long", rider: riderA, path: "/c/hb-0001", tap: "form[action$='/swaps'] button.go", says: "wait.minutes", hotline: true, set: func(s *site) {
			cabinet(func(c *swap.CabinetView) { c.SwapOpen, c.SwapSince = true, time.Now().Add(-4*time.Minute) })(s)
			s.refuse(swap.Refusal{Reason: protocol.ReasonBusy})
		}},
		{name: "nearby", path: "/nearby?from=hb-0001", says: "nearby", set: cabinet(plain)},
		{name: "history", rider: riderA, path: "/c/hb-0001/history", says: "history"},
		{name: "fault", rider: riderA, path: "/c/hb-0001/fault?slot=4&swap_id=" + string(swapA), says: "fault.ask", hotline: true},
		{name: "fault-sent", rider: riderA, path: "/c/hb-0001/fault?sent=17", says: "fault.sent", hotline: true},
		{name: "home", path: "/", says: "home", hotline: true},
		{name: "notfound", path: "/nothing", says: "notfound", hotline: true},
	}
}

// swapStates are all that a swap, or the wish for one, can come to.
func swapStates() []state {
	swapPage := "/c/hb-0001/swaps/" + string(swapA)
	view := func(change func(*swap.View)) func(*site) {
		return func(s *site) {
			s.books.change(func(v *swap.View) {
				v.State, v.Step, v.Slot, v.Door, v.Reason, v.Outcome, v.Soc, v.Reachable = swap.StateActive, swap.StepGranted, 0, "", "", "", nil, true
				change(v)
			})
		}
	}
	all := []state{
		{name: "unknown", rider: riderA, path: swapPage, says: "unknown", hotline: true, digits: true, set: view(func(v *swap.View) {
			v.Step, v.Slot, v.Reachable = swap.StepDispense, 48, false
		})},
		{name: "door-open", rider: riderA, path: swapPage, says: "door_open", hotline: true, digits: true, set: view(func(v *swap.View) {
			v.Step, v.Slot, v.Door, v.UpdatedAt = swap.StepDispense, 48, protocol.DoorOpen, time.Now().Add(-time.Minute)
		})},
	}
	for _, st := range []swap.Step{swap.StepRequested, swap.StepGranted, swap.StepDeposit, swap.StepReopen, swap.StepVerify, swap.StepDispense, swap.StepReturn} {
		slot := 0
		if st != swap.StepRequested && st != swap.StepGranted && st != swap.StepVerify {
			slot = 12
		}
		all = append(all, state{name: "step-" + string(st), rider: riderA, path: swapPage, says: "step." + string(st), digits: slot > 0, set: view(func(v *swap.View) {
			v.Step, v.Slot = st, slot
		})})
	}
	for _, o := range outcomes() {
		all = append(all, state{name: "outcome-" + string(o), rider: riderA, path: swapPage, says: "outcome." + string(o), hotline: !good(o), set: view(func(v *swap.View) {
			v.State, v.Step, v.Outcome = swap.StateClosed, swap.StepClosed, o
		})})
	}
	for _, r := range protocol.Reasons() {
		all = append(all,
			state{
				name: "refused-" + string(r), rider: riderA, path: "/c/hb-0001", tap: "form[action$='/swaps'] button.go", says: "reason." + string(r),
				hotline: true, alike: r != protocol.ReasonPresence && r != protocol.ReasonAlarm && r != protocol.ReasonNoChargedBattery, set: func(s *site) { s.refuse(swap.Refusal{Reason: r}) },
			},
			state{name: "review-" + string(r), rider: riderA, path: swapPage, says: "reason." + string(r), hotline: true, alike: true, set: view(func(v *swap.View) {
				v.State, v.Step, v.Outcome, v.Reason = swap.StateClosed, swap.StepClosed, protocol.OutcomeReview, r
			})})
	}
	return all
}

// riderC has nothing but a credit.
const riderC = swap.RiderID("0190aaaa-0000-7000-8000-00000000000c")

// outcomes is the protocol's list.
func outcomes() []protocol.Outcome {
	var all []protocol.Outcome
	for _, o := range declared("../../../protocol", "Outcome") {
		all = append(all, protocol.Outcome(o))
	}
	return all
}

// declared are the string constants of a type, as a package's source has them.
func declared(dir, typeName string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	var all []string
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // the compiler says so
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == typeName {
				all = append(all, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			}
			return true
		})
	}
	return all
}

// TestEveryStateOnAPhone shows everything that a rider can meet in a real browser,
// in both languages and two sizes, and measures it.
func TestEveryStateOnAPhone(t *testing.T) {
	for _, size := range [][2]int{{360, 640}, {412, 915}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			s := newSite(t).placed()
			s.books.mu.Lock()
			s.books.riders[riderC] = swap.RiderView{RiderID: riderC, OpenCredits: 1}
			s.books.mu.Unlock()
			b := newTab(t, s, size[0], size[1])
			for i, st := range states() {
				lang := languages[i%len(languages)]
				if size[0] == 412 { // every state in each language, on one of the sizes
					lang = languages[(i+1)%len(languages)]
					if strings.HasPrefix(st.name, "review-") {
						continue // the same words as those of the refusals
					}
				}
				b.shows(st, lang, float64(size[0]))
			}
		})
	}
}

// shows brings a state about and measures it.
func (b *tab) shows(st state, lang string, width float64) {
	b.t.Helper()
	if st.set != nil {
		st.set(b.site)
	}
	// The page before must not ask once more, and sign in anew, meanwhile.
	require.NoError(b.t, chromedp.Do(b.ctx, chromedp.Navigate("about:blank")))
	_, err := chromedp.Call(b.ctx, network.ClearBrowserCookies, cdp.Empty{})
	require.NoError(b.t, err)
	if st.rider != "" {
		b.as(st.rider)
	}
	sep := "?"
	if strings.Contains(st.path, "?") {
		sep = "&"
	}
	b.open(st.path + sep + "lang=" + lang)
	if st.tap != "" {
		require.NoError(b.t, chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(st.tap)), chromedp.WaitVisible(chromedp.CSS("[role=alert]"))))
	}
	b.measures(st, lang, width)
}

// measures holds what the tab shows against what every page must keep.
func (b *tab) measures(st state, lang string, width float64) {
	b.t.Helper()
	words, err := loadTexts(lang)
	require.NoError(b.t, err)
	m := b.look(st.name, lang)
	require.Contains(b.t, strings.Join(strings.Fields(m.Text), " "), strings.Join(strings.Fields(firstWords(words[st.says])), " "), "%s in %s", st.name, lang)
	require.LessOrEqual(b.t, m.Width, width, "%s in %s is scrolled sideways", st.name, lang)
	require.Empty(b.t, m.Small, "%s: too small for a finger", st.name)
	require.Empty(b.t, m.Faint, "%s: too faint for the sun", st.name)
	require.Empty(b.t, m.Over, "%s in %s: one thing on another", st.name, lang)
	require.Empty(b.t, m.Cut, "%s in %s: cut off", st.name, lang)
	if !st.alike {
		require.Empty(b.t, axeFindings(b.ctx, b.t), "%s in %s", st.name, lang)
	}
	require.Empty(b.t, m.Unnamed, "%s: a control without a name", st.name)
	require.Empty(b.t, m.Foreign, "%s loads from elsewhere", st.name)
	require.LessOrEqual(b.t, m.Requests, maxRequests, "%s", st.name) // what follows a swap, live, is not part of the page
	require.LessOrEqual(b.t, m.Bytes, maxBytes, "%s", st.name)
	require.True(b.t, strings.HasPrefix(m.Lang, lang), "%s", st.name)
	require.Positive(b.t, m.Roles, "%s says nothing to who cannot see", st.name)
	if st.digits {
		require.GreaterOrEqual(b.t, m.Digits, minDigits, "%s", st.name)
	}
	if st.hotline {
		require.Contains(b.t, m.Text, "0571-5555-0100", "%s", st.name)
	}
}

// firstWords are the words before a number that is filled in.
func firstWords(text string) string {
	before, _, _ := strings.Cut(text, "{")
	return before
}

// TestTheScannedCodeIsFilledIn: the code of the screen's QR stays in the phone
// until it is posted, over the sign-in too, and leaves the address at once.
func TestTheScannedCodeIsFilledIn(t *testing.T) {
	s := newSite(t).placed()
	s.books.mu.Lock()
	s.books.riders[riderC] = swap.RiderView{RiderID: riderC, OpenCredits: 1}
	got := make(chan string, 1)
	s.books.onScan = func(sc swap.Scan) (swap.View, *swap.Refusal, error) {
		got <- sc.Presence
		return swap.View{}, &swap.Refusal{Reason: protocol.ReasonBusy}, nil
	}
	s.books.mu.Unlock()
	b := newTab(t, s, 360, 640)
	b.open("/c/hb-0001?lang=en#ABC234")
	address, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href`))
	require.NoError(t, err)
	require.NotContains(t, address, "ABC234")
	b.as(riderC)
	b.open("/c/hb-0001")
	typed, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.querySelector("input[name=presence]").value`))
	require.NoError(t, err)
	require.Equal(t, "ABC234", typed)
	require.NoError(t, chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS("button.go")), chromedp.WaitVisible(chromedp.CSS("[role=alert]"))))
	require.Equal(t, "ABC234", <-got)
	require.NotContains(t, s.log.String(), "ABC234")
	for _, route := range func() []string { s.mu.Lock(); defer s.mu.Unlock(); return append([]string(nil), s.routes...) }() {
		require.NotContains(t, route, "ABC234")
	}
}

// TestKeyboardOnly: tab and enter are enough.
func TestKeyboardOnly(t *testing.T) {
	s := newSite(t).placed()
	s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
	b := newTab(t, s, 360, 640)
	b.as(riderA)
	b.open("/c/hb-0001?lang=en")
	require.NoError(t, chromedp.Do(b.ctx, chromedp.KeyEvent("\t"), chromedp.KeyEvent("\t")))
	focused, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.activeElement.innerText + getComputedStyle(document.activeElement).outlineStyle`))
	require.NoError(t, err)
	require.Contains(t, focused, "Swap", "after the language, the one thing to do")
	require.Contains(t, focused, "solid", "and it can be seen")
	require.NoError(t, chromedp.Do(b.ctx, chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS(".slot"))))
	require.Contains(t, s.books.did()[len(s.books.did())-1], "scan")
	require.Equal(t, http.StatusOK, func() int { r, _ := s.ask(t, "GET", "/healthz", "", ""); return r.StatusCode }())
}
