package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// Measures of the phones that are served: the smallest, and a usual one.
const (
	phoneWidth  = 360 // CSS px
	phoneHeight = 640
	wideWidth   = 412
	wideHeight  = 915
	minTarget   = 48 // of what a finger must hit
	minDigits   = 96 // of a slot's number
)

// phoneKind is how a rider meets the page.
type phoneKind struct {
	name, language string
	width, height  int
	noScript       bool
	keyboard       bool          // tab, letters and enter are all there is
	roundTrip      time.Duration // that the network adds
}

// screenshots is the folder for a test's pictures: in SCREENSHOTS, to be looked
// at, or one that goes away.
func screenshots(t testing.TB, name string) string {
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
	t     testing.TB
	ctx   context.Context //nolint:containedctx // it is the tab
	kind  phoneKind
	url   string            // where the backend is
	words map[string]string // of the page's language
	shots string
	pages int
}

// openPhone opens a tab of a phone's size, with a memory of its own, in a running
// browser.
func openPhone(ctx context.Context, t testing.TB, url string, kind phoneKind) *phonePage {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(root, "backend", "internal", "web", "locales", kind.language+".json"))
	require.NoError(t, err)
	p := &phonePage{t: t, kind: kind, url: url, shots: screenshots(t, kind.name)}
	require.NoError(t, json.Unmarshal(b, &p.words))
	if kind.roundTrip > 0 {
		p.url = "http://" + slowLine(t, strings.TrimPrefix(url, "http://"), kind.roundTrip/2)
	}
	var closeTab context.CancelFunc
	p.ctx, closeTab = chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	require.NoError(t, chromedp.Do(p.ctx, chromedp.EmulateViewport(int64(kind.width), int64(kind.height), chromedp.EmulateMobile, chromedp.EmulateTouch)))
	if kind.noScript {
		_, err = chromedp.Call(p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		require.NoError(t, err)
	}
	return p
}

// browserBound is how long one browser may take for its test.
const browserBound = 8 * time.Minute

// openBrowser starts a browser with an empty memory; the context is its tab.
func openBrowser(t testing.TB, width, height int) context.Context {
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

// signIn opens a cabinet's page as a rider.
func (p *phonePage) signIn(c *cabinet, riderID string) {
	p.t.Helper()
	p.open("/c/" + c.id + "?lang=" + p.kind.language)
	p.look("sign-in")
	p.fill("input[name=rider_id]", riderID)
	p.fill("form[action$='/sign-in'] input[name=code]", riderCode)
	p.tap("form[action$='/sign-in'] button")
	p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["history"]) })
	p.look("cabinet")
}

// swapButton is the one thing to do on a cabinet's page.
const swapButton = "form[action$='/swaps']:not(:has([name=hand_back])) button"

// follow asks, and does what the page says with the rider's hands, until it says
// how the swap ended: put is the battery to put in, and what is to be taken back
// is left where it is if leave is set. The key of the end's text is returned.
func (p *phonePage) follow(s *stage, c *cabinet, riderID, put string, leave bool, ask func()) string {
	p.t.Helper()
	ask()
	doors := map[string]bool{"step.deposit": true, "step.dispense": true, "step.return": true}
	acted := map[string]bool{}
	for {
		key, slot := p.next()
		switch {
		case strings.HasPrefix(key, "outcome."):
			p.look(strings.TrimPrefix(key, "outcome."))
			return key
		case again(key):
			p.toCabinet(c)
			ask()
		case key == "reason.presence_required": // the button was not noticed yet
			p.tap(swapButton)
			p.wait("an answer", func(page string) bool { return !strings.Contains(page, p.words["step.requested"]) })
		case strings.HasPrefix(key, "reason."):
			p.t.Fatalf("refused: %s", p.words[key])
		case doors[key] && !acted[key]:
			acted[key] = true
			p.look(strings.TrimPrefix(key, "step."))
			require.Equal(p.t, slot, s.openDoor(c, 1), "the page names another door than the one that opens")
			s.handsAt(c, riderID, key, slot, put, leave)
		}
	}
}

// toCabinet goes back to the cabinet's page.
func (p *phonePage) toCabinet(c *cabinet) {
	p.t.Helper()
	p.tap("a.button[href='/c/" + c.id + "']")
	p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["history"]) })
}

// handsAt do at a door what its step asks for.
func (s *stage) handsAt(c *cabinet, riderID, step string, slot int, put string, leave bool) {
	s.t.Helper()
	switch {
	case step == "step.deposit":
		require.NoError(s.t, s.world.Insert(s.now(), riderID, c.id, slot, put, true))
	case step == "step.dispense", step == "step.return" && !leave:
		_, err := s.world.Take(s.now(), riderID, c.id, slot)
		require.NoError(s.t, err)
	case leave: // a door that is shut again before anybody saw it open did not open
		s.until("the open door is not seen", func() bool {
			var v struct {
				Inventory []struct {
					Slot int
					Door protocol.Door
				}
			}
			seen := false
			if s.replicas[0].get("/api/v1/cabinets/"+c.id, &v) {
				for _, one := range v.Inventory {
					seen = seen || one.Slot == slot && one.Door == protocol.DoorOpen
				}
			}
			return seen
		})
	}
	require.NoError(s.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
}

func (p *phonePage) open(path string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.Navigate(p.url+path)))
}

// tap presses a button, as a finger does, or the keys of a keyboard.
func (p *phonePage) tap(selector string) {
	p.t.Helper()
	if p.kind.keyboard {
		p.tabTo(selector)
		require.NoError(p.t, chromedp.Do(p.ctx, chromedp.KeyEvent("\r")))
		return
	}
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.Click(chromedp.CSS(selector))))
}

// fill types into a field.
func (p *phonePage) fill(selector, text string) {
	p.t.Helper()
	if p.kind.keyboard {
		p.tabTo(selector)
		require.NoError(p.t, chromedp.Do(p.ctx, chromedp.KeyEvent(text)))
		return
	}
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.SendKeys(chromedp.CSS(selector), text)))
}

// maxTabs is more than any page has places for the keyboard.
const maxTabs = 30

// tabTo presses tab until something has the keyboard.
func (p *phonePage) tabTo(selector string) {
	p.t.Helper()
	for range maxTabs {
		require.NoError(p.t, chromedp.Do(p.ctx, chromedp.KeyEvent("\t")))
		there, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](fmt.Sprintf("document.activeElement.matches(%q)", selector)))
		if err == nil && there {
			return
		}
	}
	p.t.Fatalf("the keyboard does not get to %s", selector)
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

// next is the key of the step, outcome or refusal that the page shows, and the
// number in huge digits.
func (p *phonePage) next() (key string, slot int) {
	p.t.Helper()
	p.wait("what to do next", func(page string) bool {
		key, slot = p.saying(page, "step.", "outcome."), 0
		if key == "" {
			key = p.saying(page, "reason.")
		}
		for line := range strings.Lines(page) {
			if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				slot = n
				break
			}
		}
		return key != ""
	})
	return key, slot
}

// saying is the key, of those that begin so, of a text that stands on the page.
func (p *phonePage) saying(page string, kinds ...string) string {
	for key, text := range p.words {
		for _, kind := range kinds {
			if strings.HasPrefix(key, kind) && strings.Contains(page, text) {
				return key
			}
		}
	}
	return ""
}

// again reports whether a refusal passes by itself: the door of the swap before is
// not known to be closed for two seconds yet, or a busy machine was too slow.
func again(key string) bool { return key == "reason.busy" || key == "reason.cabinet_offline" }

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
			Targets: [...document.querySelectorAll("button, a, input:not([type=hidden]):not([type=checkbox]), textarea")].map(size),
			Digits: digits ? Math.round(parseFloat(getComputedStyle(digits).fontSize)) : 0,
			Foreign: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith(location.origin)),
			Language: document.documentElement.lang,
		};
	})()`))
	require.NoError(p.t, err)
	require.LessOrEqual(p.t, measured.Width, p.kind.width, "%s must be scrolled sideways", name)
	for _, height := range measured.Targets {
		require.GreaterOrEqual(p.t, height, minTarget, "%s has a target too small for a finger", name)
	}
	if name == "deposit" || name == "dispense" {
		require.GreaterOrEqual(p.t, measured.Digits, minDigits, "the slot's number on %s", name)
	}
	require.Empty(p.t, measured.Foreign, "%s loads from elsewhere", name)
	require.True(p.t, strings.HasPrefix(measured.Language, p.kind.language), "%s is in %s", name, measured.Language)
}

// pageMeasures are what the browser says of a page, in CSS px.
type pageMeasures struct {
	Width, Digits int
	Targets       []int
	Foreign       []string
	Language      string
}
