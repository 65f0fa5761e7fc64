package screen

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// A 10-inch screen is 217 × 135 mm; so many CSS px it is shown in.
const (
	screenWidth, screenHeight = 1280, 800
	screenMillimetres         = 217.0
	minLetter                 = 15.0 // mm, of what is read from two metres
	minContrast               = 7.0
)

// scenes are all that a screen can show: each step, each outcome, each reason,
// and all that can be the matter.
func scenes(t *testing.T) map[string]Scene {
	all := map[string]Scene{
		"ready": {Charged: 7, Empty: 12}, "ready-none": {Empty: 3}, "offline": {Charged: 3}, "maintenance": {Maintenance: true},
		"alarm": {Alarm: true}, "out-of-service": {Out: protocol.ReasonOutOfService},
	}
	soc := 31
	for _, st := range declared(t, "../cabinet", "Step") {
		sc := Scene{Step: st, Slot: 48}
		switch st {
		case "granted", "verify":
			sc.Slot = 0
		case "dispense", "return":
			sc.Soc = &soc
		}
		all["step-"+st] = sc
	}
	for _, o := range declared(t, "../../../protocol", "Outcome") {
		all["outcome-"+o] = Scene{Outcome: protocol.Outcome(o), EndedAt: time.Hour, Charged: 3}
	}
	for _, r := range protocol.Reasons() {
		all["reason-"+string(r)] = Scene{Outcome: protocol.OutcomeDepositedOwed, Reason: r, EndedAt: time.Hour} // the longest text
	}
	return all
}

// measures are what a browser says of the screen.
type measures struct {
	Out, Faint []string
	Letters    []letters
	Foreign    int
}

// letters are of what must be read from afar; Height is of a capital, or of a
// Chinese sign, in CSS px.
type letters struct {
	Text   string
	Height float64
}

// A capital is 0.7 of its font's size, a Chinese sign 0.93.
const measure = `(minContrast => {
	const shown = [...document.querySelectorAll("main, main *, footer *")].filter(e => e.getClientRects().length);
	const words = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
	const light = c => { const p = c.match(/[\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); }); return .2126 * p[0] + .7152 * p[1] + .0722 * p[2]; };
	const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
	const contrast = e => { const a = light(getComputedStyle(e).color), b = light(ground(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); };
	const px = e => parseFloat(getComputedStyle(e).fontSize);
	return {
		Out: shown.filter(e => { const r = e.getBoundingClientRect(); return r.left < -1 || r.top < -1 || r.right > innerWidth + 1 || r.bottom > innerHeight + 1 || (words(e) && e.clientWidth && e.scrollWidth > e.clientWidth + 1); }).map(e => e.outerHTML.slice(0, 120))
			.concat(document.querySelector("main").scrollHeight > document.querySelector("main").clientHeight + 1 ? ["main is too full"] : []),
		Faint: shown.filter(e => words(e) && contrast(e) < minContrast).map(e => e.outerHTML.slice(0, 120)),
		Letters: shown.filter(e => e.matches(".slot, .code, dd")).map(e => ({Text: e.innerText, Height: .7 * px(e)}))
			.concat(shown.filter(e => e.matches(".say [lang=zh]")).map(e => ({Text: e.innerText, Height: .93 * px(e)}))),
		Foreign: performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin)).length,
	};
})(%f)`

// TestEverySceneOnTheScreen shows everything that the screen can show in a real
// browser and measures it: nothing is cut off, and what matters can be read from
// where a rider stands.
func TestEverySceneOnTheScreen(t *testing.T) {
	t.Parallel()
	var shown atomic.Pointer[Scene]
	var online atomic.Bool
	now := func() time.Duration { return time.Hour }
	s, err := New(Options{
		CabinetID: "hb-0001", Scene: func() Scene { return *shown.Load() }, Online: online.Load, Codes: NewCodes(now, rand.Reader), Now: now,
		GuideFile: filepath.Join(t.TempDir(), "guide.json"),
	})
	require.NoError(t, err)
	g := guide()
	g.PageURL = "https://swap.hangzhou-riders.example/c/hb-0001" // as long as they come
	g.Nearest = []protocol.Neighbour{
		{CabinetID: "hb-0002", Station: "湖滨银泰东门", Street: "文三路", Metres: 420, Charged: 5, Empty: 2},
		{CabinetID: "hb-0003", Station: "Hubin", Street: "Wensan Road", Metres: 1340, Charged: 11, Empty: 2},
		{CabinetID: "hb-0004", Station: "武林广场地铁站", Street: "环城北路", Metres: 12340, Charged: 1, Empty: 2},
	}
	require.NoError(t, s.Guide(g))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	ctx := openTab(t)
	folder := t.TempDir()
	if keep := os.Getenv("SCREENSHOTS"); keep != "" { // to be looked at
		folder = filepath.Join(keep, "screen-scenes")
		require.NoError(t, os.MkdirAll(folder, 0o755)) //nolint:gosec // pictures
	}
	for name, sc := range scenes(t) {
		shown.Store(&sc)
		online.Store(name != "offline")
		require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(server.URL+"/")))
		picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644)) //nolint:gosec // a picture
		m, err := chromedp.Run(ctx, chromedp.Evaluate[measures](fmt.Sprintf(measure, minContrast)))
		require.NoError(t, err)
		require.Empty(t, m.Out, "%s: cut off", name)
		require.Empty(t, m.Faint, "%s: too faint", name)
		require.Zero(t, m.Foreign, "%s loads from elsewhere", name)
		require.NotEmpty(t, m.Letters, "%s: nothing to be read from afar", name)
		for _, l := range m.Letters {
			require.GreaterOrEqual(t, l.Height*screenMillimetres/screenWidth, minLetter, "%s: mm of %q", name, l.Text)
		}
	}
}

// openTab starts a browser of the screen's size.
func openTab(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, //nolint:gocritic // a copy
		chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(screenWidth, screenHeight))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(screenWidth, screenHeight)))
	return ctx
}
