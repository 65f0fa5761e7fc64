package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func TestAPIErrors(t *testing.T) {
	s := newSite(t)
	a, b := s.token(t, riderA), s.token(t, riderB)
	key := "Idempotency-Key: k1"
	for _, c := range []struct {
		name, method, path, token, body, header string
		status                                  int
		kind                                    string // last part of the problem's type
		says                                    string // somewhere in the answer
	}{
		{"wrong JSON", "POST", "/api/v1/swaps", a, `{"cabinet_id":`, key, 400, "invalid-request", "unexpected end"},
		{"unknown field", "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-0001","slot":3}`, key, 422, "invalid-request", "body.slot"},
		{"wrong type", "POST", "/api/v1/swaps", a, `{"cabinet_id":7}`, key, 422, "invalid-request", "body.cabinet_id"},
		{"missing field", "POST", "/api/v1/swaps", a, `{}`, key, 422, "invalid-request", "cabinet_id"},
		{"bad cabinet_id", "POST", "/api/v1/swaps", a, `{"cabinet_id":"HB 1"}`, key, 422, "invalid-request", "body.cabinet_id"},
		{"no key", "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-0001"}`, "", 422, "invalid-request", "Idempotency-Key"},
		{"key with a space", "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-0001"}`, "Idempotency-Key: a b", 422, "invalid-request", "Idempotency-Key"},
		{"key too long", "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-0001"}`, "Idempotency-Key: " + strings.Repeat("k", 65), 422, "invalid-request", "Idempotency-Key"},
		{"unknown cabinet", "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-9999"}`, key, 404, "scan-refused", `"reason":"cabinet_unknown"`},
		{"oversize", "POST", "/api/v1/swaps", a, `{"cabinet_id":"` + strings.Repeat("x", 17<<10) + `"}`, key, 413, "body-too-large", "16384"},
		{"media type", "POST", "/api/v1/swaps", a, `cabinet_id=hb-0001`, "Content-Type: text/plain", 415, "media-type", ""},
		{"nobody", "POST", "/api/v1/swaps", "", `{"cabinet_id":"hb-0001"}`, key, 401, "sign-in-required", "Bearer"},
		{"wrong token", "GET", "/api/v1/riders/me", "nonsense", "", "", 401, "sign-in-required", ""},
		{"foreign swap", "GET", "/api/v1/swaps/" + string(swapB), a, "", "", 404, "not-found", ""},
		{"foreign events", "GET", "/api/v1/swaps/" + string(swapB) + "/events", a, "", "", 404, "not-found", ""},
		{"foreign wish", "POST", "/api/v1/swaps/" + string(swapB) + "/wish", a, `{"what":"recheck"}`, "", 404, "not-found", ""},
		{"no such swap", "GET", "/api/v1/swaps/" + strings.Replace(string(swapA), "a", "f", 1), a, "", "", 404, "not-found", ""},
		{"not a swap_id", "GET", "/api/v1/swaps/7", a, "", "", 404, "not-found", ""},
		{"wish for more", "POST", "/api/v1/swaps/" + string(swapB) + "/wish", b, `{"what":"open"}`, "", 422, "invalid-request", "body.what"},
		{"bad Last-Event-ID", "GET", "/api/v1/swaps/" + string(swapB) + "/events", b, "", "Last-Event-ID: x", 400, "invalid-request", "header.Last-Event-ID"},
		{"wrong code", "POST", "/api/v1/sessions", "", `{"rider_id":"` + string(riderA) + `","code":"guess"}`, "", 403, "sign-in-refused", ""},
		{"unknown rider", "POST", "/api/v1/sessions", "", `{"rider_id":"nobody","code":"letmein"}`, "", 403, "sign-in-refused", ""},
		{"no such cabinet", "GET", "/api/v1/cabinets/hb-9999", "", "", "", 404, "not-found", ""},
		{"bad limit", "GET", "/api/v1/cabinets?limit=0", "", "", "", 422, "invalid-request", "query.limit"},
		{"no such path", "GET", "/api/v1/nothing", "", "", "", 404, "not-found", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if c.header != "" {
				headers = append(headers, c.header)
			}
			resp, body := s.ask(t, c.method, c.path, c.token, c.body, headers...)
			require.Equal(t, c.status, resp.StatusCode, body)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
			var p Problem
			require.NoError(t, json.Unmarshal([]byte(body), &p))
			require.Equal(t, problemRoot+c.kind, p.Type)
			require.Equal(t, c.status, p.Status)
			require.NotEmpty(t, p.Title)
			require.NotEmpty(t, resp.Header.Get("X-Request-ID"))
			require.Equal(t, resp.Header.Get("X-Request-ID"), p.RequestID)
			require.Contains(t, body, c.says)
			require.NotContains(t, body, "guess", "what was sent must not come back")
		})
	}
	require.Contains(t, s.log.String(), `"event":"urn:batteryswap:problem:body-too-large"`)
	require.NotContains(t, s.log.String(), "letmein")
	require.NotContains(t, s.log.String(), a)
}

func TestBooksDown(t *testing.T) {
	s := newSite(t)
	a := s.token(t, riderA)
	s.books.setDown(errDown)
	for _, path := range []string{"/api/v1/riders/me", "/api/v1/cabinets", "/api/v1/cabinets/hb-0001", "/api/v1/swaps/" + string(swapA)} {
		resp, body := s.ask(t, "GET", path, a, "")
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "5", resp.Header.Get("Retry-After"))
		require.Contains(t, body, "unavailable")
		require.NotContains(t, body, "connection refused")
	}
	require.Contains(t, s.log.String(), "connection refused")
	resp, body := s.ask(t, "GET", "/c/hb-0001", a, "")
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, body, "稍后再试")
}

func TestSessionAndAccount(t *testing.T) {
	s := newSite(t)
	resp, body := s.ask(t, "POST", "/api/v1/sessions", "", `{"rider_id":"`+strings.ToUpper(string(riderA))+`","code":"letmein"}`)
	require.Equal(t, 201, resp.StatusCode, body)
	var got struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	c := resp.cookies[0]
	require.Equal(t, got.Token, c.Value)
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, c.SameSite)
	require.Equal(t, "swap_session", c.Name)

	for _, h := range []string{"Authorization: Bearer " + got.Token, "Cookie: swap_session=" + got.Token} {
		resp, body = s.ask(t, "GET", "/api/v1/riders/me", "", "", h)
		require.Equal(t, 200, resp.StatusCode)
		require.JSONEq(t, `{"rider_id":"`+string(riderA)+`","swaps_this_month":41,"swaps_total":99,"open_credits":0,"batteries":["B-1"],"active":true}`, body)
	}

	https := newWeb(t, s, "https://swap.example")
	c = https.cookie(session{token: "x"})
	require.Equal(t, "__Host-swap_session", c.Name)
	require.True(t, c.Secure)
	require.Equal(t, "/", c.Path)
	require.Empty(t, c.Domain)
}

func TestCabinets(t *testing.T) {
	s := newSite(t)
	resp, body := s.ask(t, "GET", "/api/v1/cabinets?limit=2", "", "")
	require.Equal(t, 200, resp.StatusCode)
	var page struct {
		Cabinets []cabinetBody
		Next     string
	}
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	require.Len(t, page.Cabinets, 2)
	require.Equal(t, "hb-0002", page.Next)
	require.Equal(t, 7, page.Cabinets[0].Charged)
	_, body = s.ask(t, "GET", "/api/v1/cabinets?limit=2&after="+page.Next, "", "")
	page.Next = ""
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	require.Len(t, page.Cabinets, 1)
	require.Empty(t, page.Next)

	_, body = s.ask(t, "GET", "/api/v1/cabinets/hb-0001", "", "")
	require.Contains(t, body, `"inventory":[{"slot":1,"presence":"holds_battery","charged":true}]`)
	require.NotContains(t, body, "SECRET-SERIAL")
}

func TestScanBecomesSwap(t *testing.T) {
	s := newSite(t)
	a := s.token(t, riderA)
	s.books.change(func(v *swap.View) { v.State, v.Step = swap.StateGranted, swap.StepGranted })
	resp, body := s.ask(t, "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-0001"}`, "Idempotency-Key: k1", "X-Request-ID: abc-1")
	require.Equal(t, 201, resp.StatusCode, body)
	require.Equal(t, "abc-1", resp.Header.Get("X-Request-ID"))
	require.JSONEq(t, `{"swap_id":"`+string(swapA)+`","cabinet_id":"hb-0001","kind":"swap","state":"granted","step":"granted","seq":2,
		"started_at":"2026-03-01T08:00:00Z","updated_at":"2026-03-01T08:00:00Z","reachable":true}`, body)
	require.Equal(t, []string{ScanGranted}, s.scans())

	resp, body = s.ask(t, "POST", "/api/v1/swaps/"+string(swapA)+"/wish", a, `{"what":"recheck"}`)
	require.Equal(t, 202, resp.StatusCode, body)
	require.Contains(t, s.books.did(), "wish hb-0001 "+string(swapA))
	s.books.wish = ErrCabinetOffline
	resp, body = s.ask(t, "POST", "/api/v1/swaps/"+string(swapA)+"/wish", a, `{"what":"recheck"}`)
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, body, `"reason":"cabinet_offline"`)
	s.books.change(func(v *swap.View) { v.State, v.Outcome = swap.StateClosed, protocol.OutcomeSwapped })
	resp, _ = s.ask(t, "POST", "/api/v1/swaps/"+string(swapA)+"/wish", a, `{"what":"recheck"}`)
	require.Equal(t, 409, resp.StatusCode)
}

func TestKeyOfAnotherScan(t *testing.T) {
	s := newSite(t)
	s.books.onScan = func(swap.Scan) (swap.View, *swap.Refusal, error) { return swap.View{}, nil, ErrKeyReused }
	resp, body := s.ask(t, "POST", "/api/v1/swaps", s.token(t, riderA), `{"cabinet_id":"hb-0001"}`, "Idempotency-Key: k")
	require.Equal(t, 422, resp.StatusCode)
	require.Contains(t, body, problemRoot+"key-reused")
	p := newPhone(t, s)
	p.open("/c/hb-0001")
	p.submit("/sign-in", "rider_id", string(riderA), "code", "letmein")
	p.submit("/swaps")
	require.Equal(t, "/c/hb-0001", p.at)
	require.Equal(t, 200, p.status)
}

func TestEveryReasonHasAStatus(t *testing.T) {
	s := newSite(t)
	a := s.token(t, riderA)
	for _, reason := range protocol.Reasons() {
		s.books.onScan = func(swap.Scan) (swap.View, *swap.Refusal, error) {
			return swap.View{}, &swap.Refusal{Reason: reason, SwapID: swapB}, nil
		}
		resp, body := s.ask(t, "POST", "/api/v1/swaps", a, `{"cabinet_id":"hb-0001"}`, "Idempotency-Key: k")
		want, special := map[protocol.Reason]int{
			protocol.ReasonCabinetUnknown: 404, protocol.ReasonRiderNotActive: 403, protocol.ReasonNoBattery: 403,
			protocol.ReasonPresence: 403, protocol.ReasonTooManyScans: 429, protocol.ReasonCabinetOffline: 503,
			protocol.ReasonOutOfService: 503, protocol.ReasonAlarm: 503, protocol.ReasonRecovering: 503,
			protocol.ReasonMaintenance: 503,
		}[reason]
		if !special {
			want = 409
		}
		require.Equal(t, want, resp.StatusCode, reason)
		require.Contains(t, body, `"reason":"`+string(reason)+`"`)
		require.Contains(t, body, string(swapB))
		require.Equal(t, slices.Contains([]int{429, 503}, resp.StatusCode), resp.Header.Get("Retry-After") != "")
	}
}

// scanIn runs a scan in a bubble where time is virtual.
func scanIn(t *testing.T, silent bool, during func(*fakeBooks)) (v swap.View, refusal *swap.Refusal, took time.Duration, reads int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{books: newFakeBooks(), log: &safeBuffer{}}
		s.books.silent = silent
		requested := s.books.swaps[swapA]
		s.books.onScan = func(swap.Scan) (swap.View, *swap.Refusal, error) { return requested, nil, nil }
		w := newWeb(t, s, "http://swap.example")
		go during(s.books)
		began := time.Now()
		var err error
		v, refusal, err = w.scan(t.Context(), swap.Scan{RiderID: riderA, CabinetID: home, IdempotencyKey: "k"})
		require.NoError(t, err)
		took, reads = time.Since(began), s.books.reads
		synctest.Wait()
	})
	return
}

func TestScanWaitsForTheCabinet(t *testing.T) {
	granted := func(after time.Duration) func(*fakeBooks) {
		return func(f *fakeBooks) {
			<-time.After(after)
			f.change(func(v *swap.View) { v.State, v.Step = swap.StateGranted, swap.StepGranted })
		}
	}
	v, refusal, took, reads := scanIn(t, false, granted(120*time.Millisecond))
	require.Nil(t, refusal)
	require.Equal(t, swap.StateGranted, v.State)
	require.Equal(t, 120*time.Millisecond, took, "a notification is enough")
	require.Equal(t, 1, reads)

	_, refusal, took, _ = scanIn(t, true, granted(620*time.Millisecond))
	require.Nil(t, refusal)
	require.Equal(t, time.Second, took, "without notifications the next reading finds it")

	_, refusal, took, _ = scanIn(t, false, func(*fakeBooks) {})
	require.Equal(t, protocol.ReasonCabinetOffline, refusal.Reason)
	require.Equal(t, grantWait, took)

	v, refusal, took, _ = scanIn(t, true, granted(grantWait-time.Millisecond))
	require.Nil(t, refusal, "granted at the last moment, and nobody said so")
	require.Equal(t, swap.StateGranted, v.State)
	require.Equal(t, grantWait, took)

	_, refusal, took, _ = scanIn(t, false, func(f *fakeBooks) {
		<-time.After(time.Second)
		f.change(func(v *swap.View) {
			v.State, v.Outcome, v.Reason = swap.StateClosed, protocol.OutcomeNotStarted, protocol.ReasonBusy
		})
	})
	require.Equal(t, protocol.ReasonBusy, refusal.Reason)
	require.Equal(t, time.Second, took)

	v, refusal, took, _ = scanIn(t, false, func(f *fakeBooks) {
		f.setDown(errDown)
		<-time.After(2 * time.Second)
		f.setDown(nil)
		f.change(func(v *swap.View) { v.State = swap.StateGranted })
	})
	require.Nil(t, refusal, "a database that is away for a moment refuses nobody")
	require.Equal(t, swap.StateGranted, v.State)
	require.Equal(t, 2*time.Second, took)
}

func TestOpenAPIIsCommitted(t *testing.T) {
	got, err := newSite(t).web.OpenAPI()
	require.NoError(t, err)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile("openapi.yaml", got, 0o644))
	}
	want, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "the API changed: look at it, then UPDATE_GOLDEN=1 go test ./backend/internal/web -run OpenAPI")
	require.NotContains(t, string(got), "ErrorModel")
}

func TestHealth(t *testing.T) {
	s := newSite(t)
	resp, _ := s.ask(t, "GET", "/healthz", "", "")
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = s.ask(t, "GET", "/readyz", "", "")
	require.Equal(t, 200, resp.StatusCode)
	s.web.o.Ready = func(context.Context) error { return errors.New("database: not reachable") }
	resp, body := s.ask(t, "GET", "/readyz", "", "")
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, body, "database: not reachable")
	require.NotContains(t, s.log.String(), `"level":"ERROR"`, "who watches does not fill the log")
}

func TestRoutesAreObservedAsPatterns(t *testing.T) {
	s := newSite(t)
	s.ask(t, "GET", "/api/v1/swaps/"+string(swapA), s.token(t, riderA), "")
	s.ask(t, "GET", "/c/hb-0001", "", "")
	s.ask(t, "GET", "/wp-login.php", "", "")
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, []string{"GET /api/v1/swaps/{swap_id}", "GET /c/{cabinet_id}", "GET /"}, s.routes)
}
