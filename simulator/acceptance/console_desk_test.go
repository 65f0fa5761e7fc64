package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/simulator/authenticator"
)

// desk is a tab of the console with a memory of its own, and who sits there.
type desk struct {
	*phonePage
	replica *replica
	script  bool
	stage   *stage
	cabinet *cabinet
	news    *news

	width                   int
	login, password, secret string
	axe                     string
	findings                []string // what keeps people from using a page, page by page
}

// newDesk opens a tab of a size, in a language.
func newDesk(browser context.Context, t *testing.T, r *replica, language string, width, height int) *desk {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	d := &desk{replica: r, width: width, phonePage: &phonePage{
		t: t, url: r.url, kind: phoneKind{language: language, width: width, height: height}, words: map[string]string{},
	}}
	for _, name := range []string{language, "staff." + language, "figures." + language} {
		b, err := os.ReadFile(filepath.Join(root, "backend", "internal", "web", "locales", name+".json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &d.words))
	}
	axe, err := os.ReadFile(filepath.Join(root, ".tools", "npm", "node_modules", "axe-core", "axe.min.js"))
	require.NoError(t, err, "make deps gets axe-core")
	d.axe = string(axe)
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	d.ctx = ctx
	size := []chromedp.EmulateViewportOption{}
	if width <= phoneWidth {
		size = append(size, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(int64(width), int64(height), size...)))
	d.withScript()
	t.Cleanup(func() { require.Empty(t, strings.Join(d.findings, "\n")) })
	return d
}

func (d *desk) withScript()    { d.setScript(true) }
func (d *desk) withoutScript() { d.setScript(false) }

func (d *desk) setScript(on bool) {
	d.t.Helper()
	d.script = on
	_, err := chromedp.Call(d.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	require.NoError(d.t, err)
}

// newAccount adds the account of who sits here, with every role.
func (d *desk) newAccount(login string) {
	d.t.Helper()
	d.login = login
	printed := d.stage.run("backend", "staff", "add", login, "--name", "Wang Wei", "--role", "operator,union,maintenance,admin")
	for line := range strings.Lines(printed) {
		switch f := strings.Fields(line); f[0] {
		case "password":
			d.password = f[1]
		case "secret":
			d.secret = f[1]
		}
	}
	require.NotEmpty(d.t, d.password)
	require.NotEmpty(d.t, d.secret)
}

// signIn signs in: with a wrong code, which is told, and with the right one.
func (d *desk) signIn() {
	d.open("/staff/cabinets?lang=" + d.kind.language)
	d.says(d.words["field.password"])
	d.see("sign-in")
	give := func(code string) {
		require.NoError(d.t, chromedp.Do(d.ctx, chromedp.SetValue(chromedp.CSS("input[name=login]"), d.login)))
		d.fill("input[name=password]", d.password)
		d.fill("input[name=code]", code)
		d.tap("button.go")
	}
	code, err := authenticator.Code(d.secret, time.Now())
	require.NoError(d.t, err)
	wrong, err := strconv.Atoi(code)
	require.NoError(d.t, err)
	give(strconv.Itoa(1_000_000 + (wrong+1)%1_000_000)[1:])
	d.says(d.words["no.sign_in"])
	d.see("sign-in-wrong")
	give(code)
	d.says(d.words["page.cabinets"], d.words["staff.sign_out"])
}

// says waits until the page says all of the texts.
func (d *desk) says(texts ...string) {
	d.t.Helper()
	for _, text := range texts {
		require.NotEmpty(d.t, text, "a text that is not in the locale, among %q", texts)
	}
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		page, missing := d.text(), ""
		for _, text := range texts {
			if !strings.Contains(page, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.t.Fatalf("the page does not come to say %q; it says:\n%s", missing, page)
		}
	}
}

// fill types into a field.
func (d *desk) fill(selector, text string) {
	d.t.Helper()
	require.NoError(d.t, chromedp.Do(d.ctx, chromedp.SendKeys(chromedp.CSS(selector), text)))
}

// see looks for what keeps people from using a page, and takes a picture of all
// of it when somebody wants to look.
func (d *desk) see(name string) {
	d.t.Helper()
	if os.Getenv("SCREENSHOTS") != "" {
		picture, err := chromedp.Run(d.ctx, chromedp.FullScreenshot(100))
		require.NoError(d.t, err)
		d.pages++
		require.NoError(d.t, os.WriteFile(filepath.Join(d.shots, fmt.Sprintf("%02d-%s.png", d.pages, name)), picture, 0o644)) //nolint:gosec // a picture
	}
	m, err := chromedp.Run(d.ctx, chromedp.Evaluate[deskMeasures](`(() => {
		const words = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT), texts = [];
		while (words.nextNode()) if (!words.currentNode.parentElement.closest("code, .sticker")) texts.push(words.currentNode.data);
		return {
			Width: document.documentElement.scrollWidth,
			Foreign: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith(location.origin)),
			Language: document.documentElement.lang,
			Texts: texts,
		};
	})()`))
	require.NoError(d.t, err)
	find := func(is bool, format string, a ...any) {
		if is {
			d.findings = append(d.findings, name+": "+fmt.Sprintf(format, a...))
		}
	}
	find(m.Width > d.width, "must be scrolled sideways: %d px", m.Width)
	find(len(m.Foreign) > 0, "loads from elsewhere: %q", m.Foreign)
	find(!strings.HasPrefix(m.Language, d.kind.language), "is in %s", m.Language)
	other := regexp.MustCompile(map[string]string{"zh": `[a-z]{2,} [a-z]{2,} [a-z]{2,}`, "en": `\p{Han}`}[d.kind.language])
	for _, text := range m.Texts {
		find(other.MatchString(text), "is in two languages: %q", text)
		find(strings.Contains(text, "%!") || strings.Contains(text, "<nil>"), "was not made to be read: %q", text)
	}
	if !d.script {
		return // axe is a script itself; the page with scripts is the same
	}
	found, err := chromedp.Run(d.ctx, chromedp.Evaluate[[]string](d.axe+`; axe.run(document, {resultTypes: ["violations"]}).then(r =>
		r.violations.map(v => v.id + ": " + v.help + "\n" + v.nodes.map(n => "  " + n.html).join("\n")))`, chromedp.EvalAwaitPromise))
	require.NoError(d.t, err)
	find(len(found) > 0, "axe finds %s", strings.Join(found, "\n"))
}

// deskMeasures are what the browser says of a page.
type deskMeasures struct {
	Width    int // CSS px
	Foreign  []string
	Language string
	Texts    []string // but for codes, and what is printed in two languages
}
