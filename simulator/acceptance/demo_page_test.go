package acceptance

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/simulator/process"
)

// badRoundTrip is what a phone's network adds in a basement.
const badRoundTrip = 600 * time.Millisecond

// demoSigns are what the demo prints for a person.
type demoSigns struct{ page, number, hands, cabinet, out string }

// code is the last one that was sent to the person's phone, which the demo prints.
func (d demoSigns) code(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(d.out)
	require.NoError(t, err)
	all := regexp.MustCompile(`text message to `+d.number+`: ([0-9]{6})`).FindAllStringSubmatch(string(b), -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// startDemo starts the demo as a person does, and reads what it prints.
func startDemo(t testing.TB, args ...string) demoSigns {
	t.Helper()
	out := filepath.Join(t.TempDir(), "demo.log")
	p := &process.Program{
		Name: "simulator demo", Path: filepath.Join(programs(t), "simulator"), Log: out, Ending: syscall.SIGINT,
		Args: append([]string{"demo", "--listen", "127.0.0.1:0"}, args...),
	}
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	printed := regexp.MustCompile(`your page +(\S+)\n +your phone +(\S+) .*\nthe cabinets +(\S+) .*cabinet (\S+) is yours`)
	var signs []string
	require.Eventually(t, func() bool {
		require.NoError(t, p.Alone())
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		signs = printed.FindStringSubmatch(string(b))
		return signs != nil
	}, 2*time.Minute, 100*time.Millisecond, "the demo prints no link")
	return demoSigns{page: signs[1], number: signs[2], hands: signs[3], cabinet: signs[4], out: out}
}

// demoPhone is a phone at the demo's own link, bound by the code that it prints.
func demoPhone(t testing.TB, d demoSigns, kind phoneKind) *phonePage {
	t.Helper()
	browser := openBrowser(t, kind.width, kind.height)
	_, err := chromedp.Run(browser, chromedp.Title()) // it starts with its first action
	require.NoError(t, err)
	link, err := url.Parse(d.page)
	require.NoError(t, err)
	p := openPhone(browser, t, link.Scheme+"://"+link.Host, kind)
	p.open(link.RequestURI() + "?lang=" + kind.language)
	p.bindByPhone(d.number, func() string { return d.code(t) })
	p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["history"]) })
	return p
}

// handAt does one thing at the demo's cabinet, and gives what is said of it.
func (p *phonePage) handAt(d demoSigns, act string, slot int) string {
	p.t.Helper()
	resp, err := http.PostForm(d.hands+"/cabinets/"+d.cabinet, url.Values{"act": {act}, "slot": {strconv.Itoa(slot)}, "still": {""}})
	require.NoError(p.t, err)
	require.NoError(p.t, resp.Body.Close())
	require.Equal(p.t, http.StatusOK, resp.StatusCode)
	return resp.Request.URL.Query().Get("said")
}

// byDemo does a swap at the demo's cabinet with the hands that it gives a person,
// and says how long the page took to name a slot, and to say that it is done.
func (p *phonePage) byDemo(d demoSigns) (toSlot, toDone time.Duration) {
	p.t.Helper()
	hand := func(act string, slot int) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for p.ctx.Err() == nil {
			said := p.handAt(d, act, slot)
			if !strings.Contains(said, "the door is shut") { // the page names a slot a moment before its door opens
				require.NotContains(p.t, said, "no: ", "%s %d", act, slot)
				return
			}
			<-tick.C
		}
		p.t.Fatalf("%s %d: the door does not open", act, slot)
	}
	began := time.Now()
	p.tap(swapButton)
	acted := map[string]bool{}
	for {
		key, slot := p.next()
		switch {
		case key == "outcome.swapped":
			return toSlot, time.Since(began)
		case again(key), key == "reason.no_charged_battery": // others were quicker; some charge meanwhile
			p.tap("a.button[href^='/c/']")
			p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["history"]) })
			began = time.Now()
			p.tap(swapButton)
		case strings.HasPrefix(key, "outcome."), strings.HasPrefix(key, "reason."):
			p.t.Fatalf("the swap ended: %s", p.words[key])
		case key == "step.deposit" && !acted[key]:
			toSlot = time.Since(began)
			acted[key] = true
			hand("insert", slot)
			hand("close", slot)
		case key == "step.dispense" && !acted[key]:
			acted[key] = true
			hand("remove", slot)
			hand("close", slot)
		}
	}
}

// TestSwapOnTheDemo: who follows the link that the demo prints swaps a battery
// with no instruction but the page's, over a network with a round trip as where it
// is bad, while others swap.
func TestSwapOnTheDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--cabinets", "2", "--riders", "2")
	p := demoPhone(t, d, phoneKind{name: "demo", language: "zh", width: wideWidth, height: wideHeight, roundTrip: badRoundTrip})
	toSlot, toDone := p.byDemo(d)
	p.look("swapped")
	t.Logf("a slot after %.2f s, done after %.1f s", toSlot.Seconds(), toDone.Seconds())
}

// BenchmarkTapOnTheDemo is the wait of a real browser on the demo, while twenty
// riders swap, over a network that adds 100 ms: BenchmarkTapToSlot has more taps,
// and no browser.
func BenchmarkTapOnTheDemo(b *testing.B) {
	d := startDemo(b, "--cabinets", "11", "--riders", strconv.Itoa(tapRiders))
	p := demoPhone(b, d, phoneKind{name: "demo", language: "en", width: wideWidth, height: wideHeight, roundTrip: slowRoundTrip})
	var waits, whole []time.Duration
	b.ResetTimer()
	for range b.N {
		toSlot, toDone := p.byDemo(d)
		waits, whole = append(waits, toSlot), append(whole, toDone)
		require.NotContains(b, p.handAt(d, "ride", 0), "no: ")
		p.tap("a.button[href='/c/" + d.cabinet + "']")
		p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["history"]) })
	}
	slices.Sort(waits)
	slices.Sort(whole)
	b.ReportMetric(waits[len(waits)/2].Seconds(), "s-p50")
	b.ReportMetric(waits[len(waits)*95/100].Seconds(), "s-p95")
	b.ReportMetric(whole[len(whole)-1].Seconds(), "s-whole-max")
	b.ReportMetric(0, "ns/op")
	require.LessOrEqual(b, waits[len(waits)*95/100], maxTapToSlot)
}
