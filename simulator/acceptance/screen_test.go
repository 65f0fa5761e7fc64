package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// A 10-inch screen is 217 × 135 mm; so many CSS px it is shown in.
const (
	screenWidth, screenHeight = 1280, 800
	screenMillimetres         = 217.0
	minLetter                 = 15.0 // mm, of what is read from two metres
	capHeight                 = 0.7  // of the size of a font
)

// TestTheCabinetsScreen looks at the screen of a real agent through a whole swap
// and through all that can be the matter; what it shows is what is so.
func TestTheCabinetsScreen(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c, other := s.newCabinet(6, 4), s.newCabinet(6, 2)
	for i, id := range []string{c.id, other.id} {
		s.run("backend", "cabinet", "place", id, "--hotline", "0571-5555-0100", fmt.Sprintf("--latitude=%.4f", 30.2583+.004*float64(i)), "--longitude=120.1592")
	}
	other.startBoards()
	other.startAgent()
	s.until("the other cabinet is not heard", func() bool {
		var v struct{ Charged int }
		return r.get("/api/v1/cabinets/"+other.id, &v) && v.Charged == 2
	})
	// The list that guides are made of may be a minute old.
	r.Kill()
	require.NoError(t, r.Start())
	s.until("the backend is not ready", func() bool {
		var v struct{ Charged int }
		return r.status("/readyz") == http.StatusOK && r.get("/api/v1/cabinets/"+other.id, &v) && v.Charged == 2
	})
	c.startBoards()
	c.startAgent()
	c.heard(4)
	k := openKiosk(openBrowser(t, screenWidth, screenHeight), t, c)
	k.wait("ready, with a QR code", "满电电池", `class="qr"`)
	k.look("ready")

	id, own := s.newRider()
	granted := s.scan(r, id, c)
	k.wait("the deposit", "把电池放进这个仓", "Put your battery")
	k.look("deposit")
	slot := k.slot()
	require.Equal(t, slot, s.openDoor(c, 1))
	// A battery that does not say at once who it is: the screen stays long enough
	// for a slow machine to see it.
	require.NoError(t, s.world.SetFault(s.now(), c.id, slot, world.DeadLink, world.Setting{}))
	require.NoError(t, s.world.Insert(s.now(), id, c.id, slot, own, true))
	require.NoError(t, s.world.CloseDoor(s.now(), id, c.id, slot))
	k.wait("that it was noticed", "正在识别")
	k.look("verify")
	require.NoError(t, s.world.ClearFault(s.now(), c.id, slot, world.DeadLink))
	k.wait("the dispense", "取走满电电池")
	k.look("dispense")
	slot = k.slot()
	require.Equal(t, slot, s.openDoor(c, 1))
	_, err := s.world.Take(s.now(), id, c.id, slot)
	require.NoError(t, err)
	require.NoError(t, s.world.CloseDoor(s.now(), id, c.id, slot))
	k.wait("the end", "换电完成")
	k.look("done")
	require.NotEmpty(t, granted)
	k.wait("ready again", `class="qr"`)

	set := func(change func(*world.CabinetSensors)) {
		require.NoError(t, s.world.SetCabinet(s.now(), c.id, change))
	}
	set(func(cs *world.CabinetSensors) { cs.MaintenanceKey = true })
	k.wait("maintenance", "工作人员正在维护", "Staff are working here")
	k.look("maintenance")
	set(func(cs *world.CabinetSensors) { cs.MaintenanceKey = false })
	k.wait("ready again", `class="qr"`)

	s.broker.Stop()
	k.wait("offline, with the nearest cabinets", "没有联网", "not online", other.id, "445 m", "0571-5555-0100")
	k.look("offline")
	require.NotContains(t, k.html(), `id="code"`)
	c.Stop()
	k.wait("that nobody is there", "没有响应", "does not answer")
	k.look("agent-gone")
	require.NoError(t, c.Start())
	k.wait("offline still, with what was kept over the restart", "没有联网", other.id)
	require.NoError(t, s.broker.Start())
	k.wait("ready by itself", `class="qr"`)
	set(func(cs *world.CabinetSensors) { cs.EmergencyStop = true })
	k.wait("the alarm", "安全报警", "Safety alarm")
	k.look("alarm")
}

// TestOwedByTheScreensCode: an owed battery needs the code that the screen shows;
// one that was made up, is two windows old, or is of another cabinet, opens nothing; the button does it
// too.
func TestOwedByTheScreensCode(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c, other := s.newCabinet(6, 4), s.newCabinet(6, 4)
	for _, one := range s.cabinets {
		one.startBoards()
		one.startAgent()
		one.heard(4)
	}
	id := s.newOwedRider()
	phone := s.phone(r, id)
	old := screenCode(t, c)
	refused := func(key, code string) {
		_, err := phone.ScanWithCode(t.Context(), c.id, key, code)
		var no *rider.Refused
		require.ErrorAs(t, err, &no)
		require.Equal(t, protocol.ReasonPresence, no.Reason)
	}
	s.until("the cabinet is not at rest", func() bool {
		_, err := phone.Scan(t.Context(), c.id, fmt.Sprint("rest", s.now()))
		var no *rider.Refused
		return errors.As(err, &no) && no.Reason == protocol.ReasonPresence
	})
	refused("none", "")
	refused("guess", "AAAAAA")
	refused("elsewhere", screenCode(t, other))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	seen := map[string]bool{old: true}
	for tick := time.NewTicker(time.Second); len(seen) < 3; {
		select {
		case <-tick.C:
			seen[screenCode(t, c)] = true
		case <-ctx.Done():
			t.Fatal("the code does not change")
		}
	}
	refused("old", old)
	code := screenCode(t, c)
	granted, err := phone.ScanWithCode(t.Context(), c.id, "code", strings.ToLower(code[:3])+" "+code[3:])
	require.NoError(t, err, "as a person types it")
	require.Equal(t, protocol.KindIssue, granted.Kind)
	slot := s.openDoor(c, 1)
	_, err = s.world.Take(s.now(), id, c.id, slot)
	require.NoError(t, err)
	require.NoError(t, s.world.CloseDoor(s.now(), id, c.id, slot))
	s.until("not issued", func() bool {
		v, err := phone.Swap(t.Context(), granted.SwapID)
		return err == nil && v.Outcome == protocol.OutcomeIssued
	})
	require.Empty(t, s.audited().Differences)
}

// newOwedRider adds a rider who has no battery and is to get the first one.
func (s *stage) newOwedRider() string {
	s.t.Helper()
	id := strings.TrimSpace(s.run("backend", "rider", "add", "--name", "New rider"))
	s.run("backend", "rider", "credit", id)
	return id
}

// screenCode reads the code as a person does.
func screenCode(t testing.TB, c *cabinet) string {
	t.Helper()
	resp, err := http.Get(c.screen + "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	found := regexp.MustCompile(`id="code">([0-9A-Z]{6})<`).FindStringSubmatch(string(page))
	require.NotNil(t, found, "%s", page)
	return found[1]
}

// kiosk is the browser of a cabinet's screen.
type kiosk struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // it is the tab
	shots string
	n     int
}

func openKiosk(ctx context.Context, t *testing.T, c *cabinet) *kiosk {
	t.Helper()
	k := &kiosk{t: t, shots: screenshots(t, "screen-"+c.id)}
	var closeTab context.CancelFunc
	k.ctx, closeTab = chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	require.NoError(t, chromedp.Do(k.ctx, chromedp.EmulateViewport(screenWidth, screenHeight)))
	require.NoError(t, chromedp.Do(k.ctx, chromedp.Navigate(c.screen+"/")))
	return k
}

// html is what is visible, as HTML and as words.
func (k *kiosk) html() string {
	said, err := chromedp.Run(k.ctx, chromedp.Evaluate[string](`document.body.innerText + "\n" +
		[...document.querySelectorAll("#live, #down")].filter(e => !e.hidden).map(e => e.innerHTML).join("\n")`))
	if err != nil {
		require.NoError(k.t, k.ctx.Err(), "the browser does not answer: %v", err)
		return ""
	}
	return said
}

func (k *kiosk) wait(what string, words ...string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		said, missing := k.html(), ""
		for _, w := range words {
			if !strings.Contains(said, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			k.t.Fatalf("the screen does not come to show %s (%q); it shows:\n%s", what, missing, said)
		case <-tick.C:
		}
	}
}

// slot is the number in huge digits.
func (k *kiosk) slot() int {
	k.t.Helper()
	text, err := chromedp.Run(k.ctx, chromedp.Evaluate[string](`document.querySelector(".slot").innerText`))
	require.NoError(k.t, err)
	n, err := strconv.Atoi(strings.TrimSpace(text))
	require.NoError(k.t, err)
	return n
}

// look takes a picture and measures: nothing is cut off, and what matters can be
// read from where a rider stands.
func (k *kiosk) look(name string) {
	k.t.Helper()
	picture, err := chromedp.Run(k.ctx, chromedp.CaptureScreenshot())
	require.NoError(k.t, err)
	k.n++
	require.NoError(k.t, os.WriteFile(filepath.Join(k.shots, fmt.Sprintf("%02d-%s.png", k.n, name)), picture, 0o644)) //nolint:gosec // a picture
	m, err := chromedp.Run(k.ctx, chromedp.Evaluate[screenMeasures](`(() => {
		const visible = e => e.getClientRects().length > 0;
		const all = [...document.querySelectorAll("main *, footer *")].filter(visible);
		return {
			Out: all.filter(e => { const r = e.getBoundingClientRect(); return r.left < -1 || r.top < -1 || r.right > innerWidth + 1 || r.bottom > innerHeight + 1; }).map(e => e.tagName + "." + e.className),
			Big: all.filter(e => e.matches(".slot, .code")).map(e => parseFloat(getComputedStyle(e).fontSize)),
			Requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin)).length,
		};
	})()`))
	require.NoError(k.t, err)
	require.Empty(k.t, m.Out, "%s: cut off at the screen's edge", name)
	require.Zero(k.t, m.Requests)
	for _, px := range m.Big {
		require.GreaterOrEqual(k.t, px*capHeight*screenMillimetres/screenWidth, minLetter, "%s: mm of a letter", name)
	}
}

type screenMeasures struct {
	Out      []string
	Big      []float64
	Requests int
}
