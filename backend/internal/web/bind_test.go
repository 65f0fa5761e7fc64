package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"html/template"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/swap"
)

// TestBindWithoutJavaScript: phone, code, bound; in both languages.
func TestBindWithoutJavaScript(t *testing.T) {
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			s, f := bindingSite(t)
			words, err := loadTexts(lang)
			require.NoError(t, err)
			p := newPhone(t, s)
			p.open("/c/hb-0001?lang=" + lang)
			require.Equal(t, 200, p.status)
			require.Contains(t, p.html, words["bind.phone"])
			require.Contains(t, p.html, words["bind.privacy"])
			require.NotContains(t, p.html, "rider_id", "no development code, no form for it")
			require.Contains(t, p.html, `value="`+privacyVersion+`"`)

			p.submit("/bind/code", "who", "154 0000", "privacy", privacyVersion)
			require.Equal(t, 422, p.status)
			require.Contains(t, p.html, words["bind.phone.wrong"])
			require.Contains(t, p.html, `value="154 0000"`, "what was typed is kept")
			for _, version := range []string{"", "2020-01-01"} {
				p.submit("/bind/code", "who", string(phoneA), "privacy", version)
				require.Equal(t, 422, p.status)
				require.Contains(t, p.html, words["bind.privacy.missing"])
			}
			require.Empty(t, f.sent)
			p.submit("/bind/code", "who", "154-0000-0001", "privacy", privacyVersion)
			require.Equal(t, 200, p.status)
			require.Equal(t, []string{string(phoneA) + " 127.0.0.1 " + lang}, f.sent)
			require.Contains(t, p.html, strings.ReplaceAll(words["bind.sent"], "{phone}", "154****0001"))

			p.submit("/bind", "code", "654321")
			require.Equal(t, 403, p.status)
			require.Contains(t, p.html, words["bind.wrong"])
			require.NotContains(t, p.html, "654321")
			p.submit("/bind", "code", "123 456")
			require.Equal(t, "/c/hb-0001", p.at)
			require.Contains(t, p.html, words["swap"])
			require.Equal(t, privacyVersion, f.last.Privacy)
			require.Equal(t, "127.0.0.1", f.proofs[0].Address)
			require.NotContains(t, s.log.String(), "123456")
			require.NotContains(t, s.log.String(), string(phoneA))
		})
	}
}

// TestBindByStaffsCodeOnThePage: by phone or membership number; the only way where no
// codes are sent.
func TestBindByStaffsCodeOnThePage(t *testing.T) {
	s, f := bindingSite(t)
	for _, who := range []string{memberA, "15400000001"} {
		p := newPhone(t, s)
		p.open("/c/hb-0001/bind?lang=en")
		p.submit("/bind", "who", who, "code", "1234 5678")
		require.Equal(t, 422, p.status)
		require.Contains(t, p.html, "tick the box first")
		p.submit("/bind", "who", who, "code", "0000 5678", "privacy", privacyVersion)
		require.Equal(t, 403, p.status)
		require.Contains(t, p.html, `value="`+who+`"`)
		require.Contains(t, p.html, " checked")
		p.submit("/bind", "who", who, "code", "1234 5678", "privacy", privacyVersion)
		require.Equal(t, "/c/hb-0001", p.at)
	}
	f.silent = true
	p := newPhone(t, s)
	p.open("/c/hb-0001?lang=en")
	require.Contains(t, p.html, "binding code of 8 digits")
	require.NotContains(t, p.html, "/bind/code")
	resp, body := s.ask(t, "POST", "/api/v1/codes", "", `{"phone":"15400000001"}`)
	require.Equal(t, 403, resp.StatusCode)
	require.Contains(t, body, "codes-not-sent")
}

// TestADoubleTapBindsOnce: a form sent twice makes one session, and a form of the
// browser's history another try of the same.
func TestADoubleTapBindsOnce(t *testing.T) {
	s, f := bindingSite(t)
	p := newPhone(t, s)
	p.open("/c/hb-0001")
	p.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	page := p.html
	p.submit("/bind", "code", "123456")
	first := f.last.TokenHash
	p.html = page
	p.submit("/bind", "code", "123456")
	require.Equal(t, first, f.last.TokenHash)
	require.Len(t, s.books.sessions, 1)
	q := newPhone(t, s)
	q.open("/c/hb-0001")
	q.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	q.submit("/bind", "code", "123456")
	require.NotEqual(t, first, f.last.TokenHash, "another browser")
}

// TestBindingKeepsTheOpenSwap: who binds another browser at the cabinet where a swap
// is open goes on with it.
func TestBindingKeepsTheOpenSwap(t *testing.T) {
	s, _ := bindingSite(t)
	s.books.mu.Lock()
	own := s.books.riders[riderA]
	own.OpenSwap = swapA
	s.books.riders[riderA] = own
	s.books.mu.Unlock()
	s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
	for cabinet, want := range map[string]string{"hb-0001": "/c/hb-0001/swaps/" + string(swapA), "hb-0003": "/c/hb-0003"} {
		p := newPhone(t, s)
		p.open("/c/" + cabinet + "/swaps/" + string(swapA))
		require.Equal(t, 401, p.status)
		p.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
		p.submit("/bind", "code", "123456")
		require.Equal(t, want, p.at)
		require.Contains(t, p.html, "/c/hb-0001/swaps/"+string(swapA))
	}
}

// TestTooManyOnThePage: for how long is said, and in the header.
func TestTooManyOnThePage(t *testing.T) {
	s, f := bindingSite(t)
	p := newPhone(t, s)
	p.open("/c/hb-0001?lang=en")
	f.fail(&binding.TooMany{Wait: 41500 * time.Millisecond, Bound: binding.OfAsking})
	p.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	require.Equal(t, 429, p.status)
	require.Contains(t, p.html, "wait 45 seconds")
	require.Contains(t, p.html, "still works")
	require.Contains(t, p.html, `name="code"`, "a code that came before can be typed")
	require.Contains(t, p.html, `href="/c/hb-0001/bind"`, "and one from the station")
	f.fail(nil)
	p.submit("/bind", "code", "123456")
	require.Equal(t, "/c/hb-0001", p.at)
	f.fail(&binding.TooMany{Wait: time.Hour, Bound: binding.OfAsking})
	resp, body := s.ask(t, "POST", "/api/v1/codes", "", `{"phone":"15400000001"}`)
	require.Equal(t, 429, resp.StatusCode)
	require.Equal(t, "3600", resp.Header.Get("Retry-After"))
	require.Contains(t, body, "too-many-tries")
	f.fail(errDown)
	p.open("/c/hb-0002?lang=en")
	q := newPhone(t, s)
	q.open("/c/hb-0001?lang=en")
	q.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	require.Equal(t, 503, q.status)
	require.Contains(t, q.html, "try again soon")
}

// TestEveryBoundHasItsText: it says for how long in words, promises of codes that are
// there already only what is true, and names the code from the station.
func TestEveryBoundHasItsText(t *testing.T) {
	says := map[binding.Bound]map[string]string{ // of a code that came before
		binding.OfAsking: {"zh": "仍可使用", "en": "still works"}, binding.OfMessages: {"zh": "仍可使用", "en": "still works"},
		binding.OfTrying: {}, binding.OfGuessing: {},
	}
	station := map[string]string{"zh": "换电站给的绑定码现在", "en": "a binding code from the station works"}
	for _, lang := range languages {
		for _, b := range binding.Bounds() {
			s, f := bindingSite(t)
			words, err := loadTexts(lang)
			require.NoError(t, err)
			p := newPhone(t, s)
			p.open("/c/hb-0001?lang=" + lang)
			p.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
			f.fail(&binding.TooMany{Wait: 50*time.Minute + time.Second, Bound: b})
			if b == binding.OfTrying || b == binding.OfGuessing {
				p.submit("/bind", "code", "654321")
			} else {
				p.submit("/bind/code", "who", string(phoneA))
			}
			require.Equal(t, 429, p.status)
			text := words.wait("bind.wait."+string(b), 50*time.Minute+time.Second)
			require.Contains(t, p.html, template.HTMLEscapeString(text), "%s %s", lang, b)
			require.Contains(t, text, map[string]string{"zh": "51 分钟", "en": "51 minutes"}[lang])
			require.Contains(t, text, station[lang])
			for _, promise := range []string{"仍可使用", "still works"} {
				require.Equal(t, says[b][lang] == promise, strings.Contains(text, promise), "%s %s", lang, b)
			}
			require.Contains(t, p.html, "/c/hb-0001/bind\"", "where it is typed")
			p.open("/c/hb-0001/bind?lang=" + lang)
			p.submit("/bind", "who", memberA, "code", "00000000", "privacy", privacyVersion)
			require.Equal(t, 429, p.status)
			if b == binding.OfTrying {
				require.Contains(t, p.html, template.HTMLEscapeString(words.wait("bind.wait.handed", 50*time.Minute+time.Second)))
			}
		}
	}
}

// TestSpansInWords: nobody counts in thousands of seconds.
func TestSpansInWords(t *testing.T) {
	en, err := loadTexts("en")
	require.NoError(t, err)
	zh, err := loadTexts("zh")
	require.NoError(t, err)
	for d, want := range map[time.Duration][2]string{
		time.Millisecond: {"5 seconds", "5 秒"}, 41 * time.Second: {"45 seconds", "45 秒"}, time.Minute: {"60 seconds", "60 秒"},
		2 * time.Minute: {"120 seconds", "120 秒"}, 121 * time.Second: {"3 minutes", "3 分钟"}, time.Hour: {"60 minutes", "60 分钟"},
		2 * time.Hour: {"120 minutes", "120 分钟"}, 2*time.Hour + time.Second: {"3 hours", "3 小时"}, 23*time.Hour + time.Minute: {"24 hours", "24 小时"},
	} {
		require.Equal(t, want, [2]string{en.lasts(d), zh.lasts(d)}, "%s", d)
	}
}

// TestANumberCouldBeEither a phone or a membership: what is typed into one field is
// looked for as both, what a machine says it is only as that.
func TestANumberCouldBeEither(t *testing.T) {
	s, f := bindingSite(t)
	p := newPhone(t, s)
	p.open("/c/hb-0001/bind")
	p.submit("/bind", "who", " 154-0000 0001", "code", "00000000", "privacy", privacyVersion)
	require.Equal(t, binding.Proof{Phone: phoneA, MembershipNo: "154-0000 0001", Code: "00000000", Address: "127.0.0.1"}, f.proofs[0])
	p.submit("/bind", "who", "HZ-0002", "code", "00000000", "privacy", privacyVersion)
	require.Equal(t, binding.Proof{MembershipNo: "HZ-0002", Code: "00000000", Address: "127.0.0.1"}, f.proofs[1])
	for i, said := range []string{`"phone":"+86 154 0000 0001"`, `"membership_no":"15400000001"`} {
		s.ask(t, "POST", "/api/v1/sessions", "", `{`+said+`,"code":"00000000","privacy_version":"`+privacyVersion+`"}`)
		require.Equal(t, []binding.Proof{
			{Phone: phoneA, Code: "00000000", Address: "127.0.0.1"}, {MembershipNo: "15400000001", Code: "00000000", Address: "127.0.0.1"},
		}[i], f.proofs[2+i])
	}
}

// TestUnknownPhoneLooksLikeAnyOther (T13): not a byte of the answers tells whether
// a phone is a rider's.
func TestUnknownPhoneLooksLikeAnyOther(t *testing.T) {
	s, _ := bindingSite(t)
	keys := regexp.MustCompile(`name="key" value="[^"]*"`)
	pages := map[string][]string{}
	for _, n := range []string{string(phoneA), "15400000009"} {
		p := newPhone(t, s)
		p.open("/c/hb-0001")
		p.submit("/bind/code", "who", n, "privacy", privacyVersion)
		sent := p.html
		p.submit("/bind", "code", "000000")
		for _, html := range []string{sent, p.html} {
			html = keys.ReplaceAllString(html, "")
			html = strings.NewReplacer(n, "N", n[:3]+"****"+n[7:], "M").Replace(html)
			pages[n] = append(pages[n], html)
		}
		resp, body := s.ask(t, "POST", "/api/v1/codes", "", `{"phone":"`+n+`"}`)
		require.Equal(t, 202, resp.StatusCode)
		pages[n] = append(pages[n], body)
		resp, body = s.ask(t, "POST", "/api/v1/sessions", "", `{"phone":"`+n+`","code":"000000","privacy_version":"`+privacyVersion+`"}`)
		require.Equal(t, 403, resp.StatusCode)
		pages[n] = append(pages[n], regexp.MustCompile(`"request_id":"[^"]*"`).ReplaceAllString(body, ""))
	}
	require.Equal(t, pages[string(phoneA)], pages["15400000009"])
}

// TestBindingByAPI: what machines and tests do.
func TestBindingByAPI(t *testing.T) {
	s, f := bindingSite(t)
	_, body := s.ask(t, "GET", "/api/v1/privacy", "", "")
	require.Contains(t, body, `"version":"`+privacyVersion+`"`)
	require.Contains(t, body, `/privacy"`)
	resp, body := s.ask(t, "POST", "/api/v1/codes", "", `{"phone":"+86 154 0000 0001"}`, "Accept-Language: en")
	require.Equal(t, 202, resp.StatusCode, body)
	require.Contains(t, body, `"expires_in_s":300`)
	require.Equal(t, []string{string(phoneA) + " 127.0.0.1 en"}, f.sent)
	for _, c := range []struct {
		body   string
		status int
		kind   string
	}{
		{`{"phone":"15400000001","code":"123456"}`, 422, "privacy"},
		{`{"phone":"15400000001","code":"123456","privacy_version":"2020-01-01"}`, 422, "privacy"},
		{`{"phone":"15400000001","code":"000000","privacy_version":"` + privacyVersion + `"}`, 403, "sign-in-refused"},
		{`{"rider_id":"` + string(riderA) + `","code":"letmein"}`, 403, "sign-in-closed"},
		{`{"code":"123456","privacy_version":"` + privacyVersion + `"}`, 403, "sign-in-refused"},
		{`{"phone":"15400000001","code":"123456","privacy_version":"` + privacyVersion + `","admin":true}`, 422, "invalid-request"},
	} {
		resp, body := s.ask(t, "POST", "/api/v1/sessions", "", c.body)
		require.Equal(t, c.status, resp.StatusCode, c.body)
		require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
		require.Contains(t, body, problemRoot+c.kind, c.body)
	}
	resp, body = s.ask(t, "POST", "/api/v1/codes", "", `{"phone":"12345"}`)
	require.Equal(t, 422, resp.StatusCode)
	require.Contains(t, body, "body.phone")

	good := `{"membership_no":"HZ-0001","code":"12345678","privacy_version":"` + privacyVersion + `"}`
	token := regexp.MustCompile(`"token":"([^"]+)"`)
	var tokens []string
	for range 2 {
		resp, body = s.ask(t, "POST", "/api/v1/sessions", "", good, "Idempotency-Key: 0123456789abcdef")
		require.Equal(t, 201, resp.StatusCode, body)
		tokens = append(tokens, token.FindStringSubmatch(body)[1])
	}
	require.Equal(t, tokens[0], tokens[1], "the same key, the same session")
	_, body = s.ask(t, "POST", "/api/v1/sessions", "", good)
	third := token.FindStringSubmatch(body)[1]
	require.NotEqual(t, tokens[0], third)

	resp, body = s.ask(t, "GET", "/api/v1/riders/me/devices", third, "")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 2, strings.Count(body, "device_id"))
	require.Contains(t, body, `"here":true`)
	resp, _ = s.ask(t, "DELETE", "/api/v1/riders/me/devices/0000", third, "")
	require.Equal(t, 404, resp.StatusCode)
	resp, _ = s.ask(t, "DELETE", "/api/v1/riders/me/devices", third, "")
	require.Equal(t, 204, resp.StatusCode)
	resp, _ = s.ask(t, "GET", "/api/v1/riders/me", tokens[0], "")
	require.Equal(t, 401, resp.StatusCode)
	id := regexp.MustCompile(`"device_id":"([^"]+)"[^}]*"here":true`).FindStringSubmatch(body)[1]
	resp, _ = s.ask(t, "DELETE", "/api/v1/riders/me/devices/"+id, third, "")
	require.Equal(t, 204, resp.StatusCode)
	resp, _ = s.ask(t, "GET", "/api/v1/riders/me", third, "")
	require.Equal(t, 401, resp.StatusCode)
}

// TestDevicesPage: a rider sees the own devices and ends them.
func TestDevicesPage(t *testing.T) {
	s, _ := bindingSite(t)
	p := newPhone(t, s)
	p.open("/devices?lang=en")
	require.Equal(t, 401, p.status)
	require.Contains(t, p.html, "scan the code on a cabinet")
	p.open("/devices?from=hb-0001")
	require.Equal(t, "/c/hb-0001", p.at)
	p.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	p.submit("/bind", "code", "123456")
	q := newPhone(t, s)
	q.open("/c/hb-0001")
	q.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	q.submit("/bind", "code", "123456")

	p.open("/devices?from=hb-0001")
	require.Contains(t, p.html, "WeChat · Android")
	require.Equal(t, 2, strings.Count(p.html, "/end\""))
	p.submit("/devices/end-others")
	require.Equal(t, "/devices?from=hb-0001", p.at)
	require.Equal(t, 1, strings.Count(p.html, "/end\""))
	require.NotContains(t, p.html, "end-others")
	require.Contains(t, p.html, `href="/c/hb-0001"`)
	q.open("/c/hb-0001")
	require.Contains(t, q.html, "/bind/code", "it has to bind again")
	p.submit("/end")
	require.Equal(t, "/c/hb-0001", p.at)
	require.Contains(t, p.html, "/bind/code")
}

// TestPrivacyVersion: a text that changes is a new version, which riders are asked to
// accept. Both change together.
func TestPrivacyVersion(t *testing.T) {
	h := sha256.New()
	for _, lang := range languages {
		words, err := loadTexts(lang)
		require.NoError(t, err)
		for _, part := range privacyParts {
			for _, key := range []string{"privacy." + part, "privacy." + part + ".text"} {
				require.NotEmpty(t, words[key], key)
				h.Write([]byte(words[key] + "\n"))
			}
		}
		for _, app := range binding.Apps() {
			require.NotEmpty(t, words["device."+app], app)
		}
	}
	// All that postgres' RiderData gives is told, in both languages.
	for lang, all := range map[string][]string{
		"zh": {"姓名", "手机号", "会员编号", "会员起止日期", "扫码", "换电的时间", "仓位", "欠您的电池", "换电次数", "人工核实", "故障", "您写的话", "应用和系统", "网络地址", "工作人员查看"},
		"en": {"name", "phone number", "membership number", "days of the membership", "Of each scan", "Of each swap", "slot", "owed to you", "how often you swapped", "a person had to decide",
			"Faults that you report", "what you wrote", "which app and system", "network address", "When staff look"},
	} {
		words, err := loadTexts(lang)
		require.NoError(t, err)
		for _, said := range all {
			require.Contains(t, words["privacy.what.text"], said)
		}
	}
	require.Equal(t, "2026-12-01.3 09cd299f565fbd74", privacyVersion+" "+hex.EncodeToString(h.Sum(nil)[:8]), "the text of the privacy notice changed: give it today as its version")
	s, _ := bindingSite(t)
	_, html := s.ask(t, "GET", "/privacy?from=hb-0001&lang=en", "", "")
	require.Contains(t, html, "13 months after the membership ends")
	require.Contains(t, html, privacyVersion)
	require.Contains(t, html, "0571-5555-0100", "whom to ask")
}

// TestT10NothingToPayAndNoWayOut: no page of riders asks for a card, an amount or a
// password, none leads to another host but to the two maps, and none loads from one.
func TestT10NothingToPayAndNoWayOut(t *testing.T) {
	known := map[string]bool{
		"who": true, "code": true, "privacy": true, "step": true, "key": true, "presence": true, "hand_back": true, "from": true,
	}
	payment := regexp.MustCompile(`(?i)支付(?:密码|方式|金额)|付款码|余额|充值|押金|银行卡号|cvv|card number|amount|price|¥|￥|€|\$[0-9]|alipays?://|weixin://|wxpay`)
	inputs := regexp.MustCompile(`<(?:input|select|textarea)[^>]*\bname="([^"]*)"`)
	links := regexp.MustCompile(`(?i)\b(?:href|src|action|formaction|content|data)="([^"]*)"`)
	s, f := bindingSite(t)
	s.books.mu.Lock()
	s.books.riders[riderC] = swap.RiderView{RiderID: riderC, OpenCredits: 1}
	s.books.mu.Unlock()
	seen := 0
	check := func(name, html string) {
		t.Helper()
		seen++
		require.NotRegexp(t, payment, regexp.MustCompile(`(?s)<style>.*?</style>`).ReplaceAllString(html, ""), name)
		require.NotContains(t, html, `type="password"`, name)
		require.NotContains(t, html, "<iframe", name)
		for _, m := range inputs.FindAllStringSubmatch(html, -1) {
			require.True(t, known[m[1]] || knownFields()[m[1]], "%s asks for %q", name, m[1])
		}
		for _, m := range links.FindAllStringSubmatch(html, -1) {
			to := m[1]
			own := to == "" || strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") || strings.HasPrefix(to, "?") || strings.HasPrefix(to, "tel:") || !strings.Contains(to, ":")
			maps := strings.HasPrefix(to, "https://uri.amap.com/") || strings.HasPrefix(to, "https://apis.map.qq.com/")
			require.True(t, own || maps, "%s leads to %s", name, to)
		}
	}
	for _, st := range states() {
		if st.set != nil {
			st.set(s)
		}
		token := ""
		if st.rider != "" {
			s.books.mu.Lock()
			token = "token-" + string(st.rider)
			s.books.sessions[string(hashToken(token))] = st.rider
			s.books.mu.Unlock()
		}
		method, path, body := http.MethodGet, st.path, ""
		if strings.HasPrefix(st.name, "refused-") {
			method, path, body = http.MethodPost, st.path+"/swaps", "key=k"
		}
		_, html := s.ask(t, method, path, token, body, "Content-Type: application/x-www-form-urlencoded")
		check(st.name, html)
	}
	for _, path := range []string{"/privacy", "/privacy?lang=en", "/devices", "/c/hb-0001/bind", "/c/hb-0001"} {
		_, html := s.ask(t, http.MethodGet, path, "token-"+string(riderA), "")
		check(path, html)
	}
	p := newPhone(t, s)
	p.open("/c/hb-0001")
	p.submit("/bind/code", "who", string(phoneA), "privacy", privacyVersion)
	check("code", p.html)
	p.submit("/bind", "code", "1")
	check("wrong code", p.html)
	require.Len(t, f.sent, 1)
	require.Greater(t, seen, 100)
}

// TestBindingPagesAreSmall as all pages are.
func TestBindingPagesAreSmall(t *testing.T) {
	s, _ := bindingSite(t)
	for _, path := range []string{"/c/hb-0001", "/c/hb-0001/bind", "/privacy", "/privacy?lang=en"} {
		_, html := s.ask(t, "GET", path, "", "")
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write([]byte(html))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		require.Less(t, b.Len(), 14<<10, path)
		t.Logf("%s: %d bytes", path, b.Len())
	}
}
