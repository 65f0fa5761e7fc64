package acceptance

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Measures of the smallest phone that is served.
const (
	phoneWidth  = 360 // CSS px
	phoneHeight = 640
	minTarget   = 48 // of what a finger must hit
	minDigits   = 96 // of a slot's number
)

// TestSwapByThePage does a swap by the rider's page alone, on a phone-sized
// browser: in Chinese as it comes, and in English without JavaScript.
func TestSwapByThePage(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(6, 4)
	c.startBoards()
	c.startAgent()
	c.heard(4)
	for _, variant := range []struct {
		name, language string
		script         bool
	}{
		{"with-script", "zh", true},
		{"without-script", "en", false},
	} {
		t.Run(variant.name, func(t *testing.T) {
			id, own := s.newRider()
			p := openPhone(t, r, variant.language, variant.script)
			p.shots = screenshots(t, variant.name)
			p.swapByHand(s, c, id, own)
		})
	}
}

// screenshots is the folder for a test's pictures: in SCREENSHOTS, to be looked
// at, or one that goes away.
func screenshots(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv("SCREENSHOTS"); dir != "" {
		dir = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(dir, 0o755)) //nolint:gosec // pictures
		return dir
	}
	return t.TempDir()
}

// phonePage is a browser's tab with the rider's page.
type phonePage struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // it is the tab
	replica *replica
	script  bool
	words   map[string]string // of the page's language
	lang    string
	shots   string
	pages   int
}

// openPhone starts a browser of a phone's size with an empty memory.
func openPhone(t *testing.T, r *replica, language string, script bool) *phonePage {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(root, "backend", "internal", "web", "locales", language+".json"))
	require.NoError(t, err)
	p := &phonePage{t: t, replica: r, script: script, lang: language}
	require.NoError(t, json.Unmarshal(b, &p.words))

	ctx := openBrowser(t, phoneWidth, phoneHeight)
	p.ctx = ctx
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(phoneWidth, phoneHeight, chromedp.EmulateMobile, chromedp.EmulateTouch)))
	if !script {
		_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		require.NoError(t, err)
	}
	return p
}

// browserBound is how long one browser may take for its test.
const browserBound = 8 * time.Minute

// openBrowser starts a browser with an empty memory; the context is its tab.
func openBrowser(t *testing.T, width, height int) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, //nolint:gocritic // a copy
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(width, height))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, browserBound)
	t.Cleanup(cancel)
	return ctx
}

// swapByHand signs in, asks for a swap and does what the page says, until it
// says that the swap is done.
func (p *phonePage) swapByHand(s *stage, c *cabinet, riderID, own string) {
	p.open("/c/" + c.id + "?lang=" + p.lang)
	p.look("sign-in")
	require.NoError(p.t, chromedp.Do(p.ctx,
		chromedp.SendKeys(chromedp.CSS("input[name=rider_id]"), riderID),
		chromedp.SendKeys(chromedp.CSS("input[name=code]"), riderCode),
	))
	p.tap("form[action$='/sign-in'] button")
	p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["hand_back"]) })
	p.look("cabinet")
	p.tap("form[action$='/swaps'] button.go")

	taken := ""
	deposited, done := false, false
	for !done {
		said, slot := p.next()
		if said == p.words["step.deposit"] && !deposited {
			deposited = true
			p.look("deposit")
			require.Equal(p.t, slot, s.openDoor(c, 1), "the page names another door than the one that opens")
			require.NoError(p.t, s.world.Insert(s.now(), riderID, c.id, slot, own, true))
			require.NoError(p.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
		}
		if said == p.words["step.dispense"] && taken == "" {
			p.look("dispense")
			require.Equal(p.t, slot, s.openDoor(c, 1), "the page names another door than the one that opens")
			var err error
			taken, err = s.world.Take(s.now(), riderID, c.id, slot)
			require.NoError(p.t, err)
			require.NoError(p.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
		}
		if said == p.words["reason.busy"] { // no door is known to be closed before it has been so for two seconds
			p.tap("a.button")
			p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["hand_back"]) })
			p.tap("form[action$='/swaps'] button.go")
		}
		done = said == p.words["outcome.swapped"]
	}
	p.look("done")
	require.True(p.t, deposited)
	require.NotEmpty(p.t, taken)
	require.Equal(p.t, []string{taken}, s.world.Hands(riderID))
	require.Contains(p.t, p.text(), strings.ReplaceAll(p.words["month"], "{count}", "1"))
	books := s.audited().of(p.t, riderID)
	require.Equal(p.t, 1, books.Counted)
	require.Equal(p.t, []string{taken}, books.Batteries)
}

func (p *phonePage) open(path string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.Navigate(p.replica.url+path)))
}

// tap presses a button, as a finger does.
func (p *phonePage) tap(selector string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.Click(chromedp.CSS(selector))))
}

// text is what the page says now; "" while it changes.
func (p *phonePage) text() string {
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
	if err != nil {
		require.NoError(p.t, p.ctx.Err(), "the browser does not answer: %v", err)
		return "" // a page in the middle of being replaced
	}
	return text
}

// wait waits until the page says what it should.
func (p *phonePage) wait(what string, is func(page string) bool) {
	p.t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var page string
	for {
		if page = p.text(); is(page) {
			return
		}
		select {
		case <-p.ctx.Done():
			p.t.Fatalf("the page does not come to say %s; it says:\n%s", what, page)
		case <-ticker.C:
		}
	}
}

// next is the next step or outcome that the page shows, and the number in huge
// digits.
func (p *phonePage) next() (said string, slot int) {
	p.t.Helper()
	p.wait("what to do next", func(page string) bool {
		for key, text := range p.words {
			if (strings.HasPrefix(key, "step.") || strings.HasPrefix(key, "outcome.") || key == "reason.busy") && strings.Contains(page, text) {
				said = text
				break
			}
		}
		for line := range strings.Lines(page) {
			if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				slot = n
				break
			}
		}
		return said != ""
	})
	return said, slot
}

// look takes a picture, and measures what stands on the page.
func (p *phonePage) look(name string) {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	require.NoError(p.t, err)
	p.pages++
	file := filepath.Join(p.shots, strconv.Itoa(p.pages)+"-"+name+".png")
	require.NoError(p.t, os.WriteFile(file, picture, 0o644)) //nolint:gosec // a picture

	measured, err := chromedp.Run(p.ctx, chromedp.Evaluate[pageMeasures](`(() => {
		const size = e => Math.round(e.getBoundingClientRect().height);
		const digits = document.querySelector(".slot");
		return {
			Width: document.documentElement.scrollWidth,
			Targets: [...document.querySelectorAll("button, a, input:not([type=hidden])")].map(size),
			Digits: digits ? Math.round(parseFloat(getComputedStyle(digits).fontSize)) : 0,
			Foreign: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith(location.origin)),
			Language: document.documentElement.lang,
		};
	})()`))
	require.NoError(p.t, err)
	require.LessOrEqual(p.t, measured.Width, phoneWidth, "%s must be scrolled sideways", name)
	for _, height := range measured.Targets {
		require.GreaterOrEqual(p.t, height, minTarget, "%s has a target too small for a finger", name)
	}
	if name == "deposit" || name == "dispense" {
		require.GreaterOrEqual(p.t, measured.Digits, minDigits, "the slot's number on %s", name)
	}
	require.Empty(p.t, measured.Foreign, "%s loads from elsewhere", name)
	require.True(p.t, strings.HasPrefix(measured.Language, p.lang), "%s is in %s", name, measured.Language)
}

// pageMeasures are what the browser says of a page, in CSS px.
type pageMeasures struct {
	Width, Digits int
	Targets       []int
	Foreign       []string
	Language      string
}
