package web

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
)

// TestBindingOnAPhone binds a real browser step by step, in both languages and two
// sizes, with every answer that there is, and measures each page.
func TestBindingOnAPhone(t *testing.T) {
	for i, size := range [][2]int{{360, 640}, {412, 915}} {
		lang := languages[i]
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			s, f := bindingSite(t)
			b := newTab(t, s, size[0], size[1])
			shows := func(name, says string, hotline bool) {
				t.Helper()
				b.measures(state{name: "bind-" + name, says: says, hotline: hotline}, lang, float64(size[0]))
			}
			// A tap leads to another page: what is waited for is not of the old one.
			const fresh = "body:not([data-old]) "
			tap := func(selector string) {
				t.Helper()
				_, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.dataset.old = "yes"`))
				require.NoError(t, err)
				require.NoError(t, chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(selector))))
			}
			tick := func() {
				t.Helper()
				require.NoError(t, chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS("input[type=checkbox]"))))
			}
			typed := func(name, text string) {
				t.Helper()
				field := "input[name=" + name + "]"
				require.NoError(t, chromedp.Do(b.ctx, chromedp.WaitVisible(chromedp.CSS(fresh+field))))
				_, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.querySelector("`+field+`").value = ""`))
				require.NoError(t, err)
				require.NoError(t, chromedp.Do(b.ctx, chromedp.SendKeys(chromedp.CSS(field), text)))
			}
			wait := func(selector string) {
				t.Helper()
				require.NoError(t, chromedp.Do(b.ctx, chromedp.WaitVisible(chromedp.CSS(fresh+selector))))
			}
			b.open("/c/hb-0001?lang=" + lang)
			shows("phone", "bind.phone", false)
			tap("a[href^='/privacy']")
			wait(".read")
			shows("privacy", "privacy.long.text", true)
			tap("a[href='/c/hb-0001']")
			typed("who", "154 0000 000")
			tick()
			tap("button.go")
			wait("[role=alert]")
			shows("phone-wrong", "bind.phone.wrong", false)
			typed("who", string(phoneA))
			tap("button.go")
			wait("input[name=code]")
			shows("code", "bind.sent", true)
			f.fail(&binding.TooMany{Wait: 42 * time.Second, Bound: binding.OfAsking})
			tap("form[action$='/bind/code'] button")
			wait("[role=alert]")
			shows("wait", "bind.wait.asked", true)
			f.fail(&binding.TooMany{Wait: 50 * time.Minute, Bound: binding.OfTrying})
			typed("code", "000000")
			tap("button.go")
			wait("[role=alert]")
			shows("wait-tried", "bind.wait.tried", true)
			f.fail(nil)
			typed("code", "000000")
			tap("button.go")
			wait("[role=alert]")
			shows("wrong", "bind.wrong", true)
			b.open("/c/hb-0001/bind")
			shows("staff", "bind.staff.why", true)
			typed("who", memberA)
			typed("code", "12345678")
			tick()
			tap("button.go")
			wait("form[action$='/swaps']")
			shows("bound", "devices", false)
			tap("a[href^='/devices']")
			wait("form[action$='/end']")
			shows("devices", "devices.here", false)
			s.books.mu.Lock()
			s.books.sessions["another of the rider's"] = riderA
			s.books.mu.Unlock()
			b.open("/devices?from=hb-0001")
			shows("devices-two", "devices.others", false)
			tap("form[action$='/end-others'] button")
			wait("li:only-child form[action$='/end']")
			tap("li:only-child form[action$='/end'] button")
			wait("input[name=who]")
			b.open("/devices")
			shows("devices-signin", "devices.signin", false)
			f.silent = true
			b.open("/c/hb-0001")
			shows("staff-only", "bind.who", true)
			s.web.o.DevelopmentCode = "letmein"
			b.open("/c/hb-0001")
			shows("development", "signin.development", false)
		})
	}
}
