package acceptance

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// codeInLog is the last code that a replica wrote to its log, "" for none.
func (r *replica) codeInLog() string {
	b, err := os.ReadFile(r.Log)
	if err != nil {
		return ""
	}
	lines := strings.Split(string(b), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		var l struct{ Event, Code string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Event == "binding_code" {
			return l.Code
		}
	}
	return ""
}

// bindByPhone types a number, and the code that comes to it.
func (p *phonePage) bindByPhone(number string, code func() string) {
	p.t.Helper()
	p.fill("input[name=who]", number)
	p.tap("input[name=privacy]")
	p.tap("form[action$='/bind/code'] button")
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.WaitVisible(chromedp.CSS("input[name=code]"))))
	p.look("code")
	require.Eventually(p.t, func() bool { return code() != "" }, patience, 50*time.Millisecond, "no code was sent")
	p.fill("input[name=code]", code())
	p.tap("form[action$='/bind'] button.go")
}

// TestT21BindAndSwap: a rider who is nobody to this browser binds it by phone and
// code, swaps, and ends the device; in a browser of a phone's size, against the real
// programs, without the development code. No log has a phone number afterwards: every
// stage looks (tellLogs), and here riders have typed theirs.
func TestT21BindAndSwap(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.newReplica()
	i := slices.Index(r.Args, "--rider-code")
	r.Args = append(slices.Delete(r.Args, i, i+2), "--rider-notify", "log")
	require.NoError(t, r.Start())
	t.Cleanup(r.Stop)
	s.replicas = append(s.replicas, r)
	s.until("the backend is not ready", func() bool { return r.status("/readyz") == 200 })
	c := s.newCabinet(6, 4)
	c.startBoards()
	c.startAgent()
	c.heard(4)
	id, own := s.newRider()

	browser := openBrowser(t, phoneWidth, phoneHeight)
	_, err := chromedp.Run(browser, chromedp.Title()) // it starts with its first action
	require.NoError(t, err)
	p := openPhone(browser, t, r.url, phoneKind{name: "bind", language: "zh", width: phoneWidth, height: phoneHeight})
	p.open("/c/" + c.id + "?lang=zh")
	p.look("phone")
	p.bindByPhone(s.number(s.riders), r.codeInLog)
	p.wait("the cabinet's page", func(page string) bool { return strings.Contains(page, p.words["history"]) })
	require.Equal(t, "outcome.swapped", p.follow(s, c, id, own, false, func() { p.tap(swapButton) }))

	p.open("/devices?from=" + c.id)
	p.look("devices")
	p.tap("form[action$='/end'] button")
	p.wait("that it is to bind again", func(page string) bool { return strings.Contains(page, p.words["bind.phone"]) })
	for _, name := range []string{r.Log, c.Log} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(b), s.number(s.riders))
		require.NotRegexp(t, phoneNumber, string(b))
	}
	require.True(t, said(r.Program, "CODES IN THE LOG"))
	require.True(t, said(r.Program, "154****"))
}
