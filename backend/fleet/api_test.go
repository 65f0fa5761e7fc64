package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// apiSeed is fixed: a request that breaks something is the same in every run.
const apiSeed, apiRequests = 7, 1500

// stranger sends requests to the API that no page of ours would send.
type stranger struct {
	*rand.Rand
	at    *replica
	swaps []protocol.SwapID // somebody else's
}

func pick[T any](s *stranger, from ...T) T { return from[s.IntN(len(from))] }

func (s *stranger) text() string {
	return pick(s, "", "hb-0001", "hb-0002", "hb-9999", "HB-0001", "../../etc", "hb-0001'; DROP TABLE swap; --", "\x00", "换电", strings.Repeat("x", 300), string(s.swaps[0]),
		"00000000-0000-0000-0000-000000000000", "NaN")
}

func (s *stranger) value() any {
	return pick[any](s, s.text(), s.text(), s.Int64(), -1, 1e308, true, nil, []any{s.text()}, map[string]any{s.text(): s.text()})
}

// body is mostly an object of fields that the API knows, with values that it may
// not.
func (s *stranger) body() string {
	if s.IntN(8) == 0 {
		return pick(s, "", "null", "[]", "{", `"x"`, strings.Repeat("[", 10_000), `{"cabinet_id":"hb-0001","cabinet_id":"hb-0002"}`, strings.Repeat(" ", 20<<10))
	}
	o := map[string]any{}
	for range s.IntN(4) {
		o[pick(s, "cabinet_id", "hand_back", "presence", "rider_id", "code", "what", "phone", "language", "kind", "swap_id", "state", "outcome", "admin")] = s.value()
	}
	if s.IntN(2) == 0 {
		o["cabinet_id"] = "hb-0001"
	}
	b, err := json.Marshal(o)
	if err != nil {
		return "{}"
	}
	return string(b)
}

func (s *stranger) request(t *testing.T, tokens []string) *http.Request {
	t.Helper()
	id := string(pick(s, s.swaps...))
	path := pick(s, "swaps", "swaps", "swaps/"+id, "swaps/"+id+"/wish", "swaps/nonsense", "cabinets", "cabinets/hb-0001", "cabinets/..%2f", "riders/me", "riders/me/devices",
		"riders/me/devices/"+id, "sessions", "codes", "privacy", "statistics/swaps?from=x", "staff/swaps", "staff/riders/"+id, "staff/cabinets/hb-0001/slots/3", "nothing")
	method := pick(s, "GET", "GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
	if strings.HasSuffix(path, "devices") || path == "sessions" {
		method = pick(s, "GET", "PUT") // signing out is no attack
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.at.Address()+"/api/v1/"+path, strings.NewReader(s.body()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", pick(s, "application/json", "application/json", "application/json", "text/plain", "application/x-www-form-urlencoded", "image/png"))
	r.Header.Set("Authorization", pick(s, "Bearer "+pick(s, tokens...), "Bearer "+pick(s, tokens...), "", "Bearer x", "Basic eDp4", "Bearer "+strings.Repeat("y", 200)))
	r.Header.Set("Idempotency-Key", pick(s, "k", "k", fmt.Sprint(s.Int64()), "", strings.Repeat("k", 100), "k\u00e9"))
	return r
}

// TestT07TheAPIWithoutThePage: whatever a program of one's own sends, it is told
// what is wrong, sees nothing of others, opens nothing, and the books agree.
func TestT07TheAPIWithoutThePage(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	r := w.start().ready()
	c := w.cabinet("hb-0001")
	c.hello()
	c.ship()
	victim := w.rider(r, "victim")
	a := victim.scan(r, "hb-0001", 201)
	me, other := w.rider(r, "me"), w.rider(r, "other")
	s := &stranger{rand.New(rand.NewPCG(apiSeed, 1)), r, []protocol.SwapID{a.SwapID}} //nolint:gosec // repeatable
	statuses := map[int]int{}
	for n := range apiRequests {
		q := s.request(t, []string{me.token, other.token})
		resp, err := http.DefaultClient.Do(q)
		require.NoError(t, err)
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		what := fmt.Sprintf("request %d: %s %s: %d %s", n, q.Method, q.URL, resp.StatusCode, body)
		statuses[resp.StatusCode]++
		if resp.StatusCode >= 500 {
			var p answer
			require.NoError(t, json.Unmarshal(body, &p), what)
			require.NotEmpty(t, p.Reason, "only a refusal may be a 5xx: %s", what)
		}
		if resp.StatusCode >= 400 && q.Method != "TRACE" && resp.StatusCode != http.StatusMethodNotAllowed && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/") {
			require.Contains(t, resp.Header.Get("Content-Type"), "problem+json", what)
		}
		require.NotContains(t, string(body), string(victim.id), what)
		require.NotContains(t, string(body), "R-victim", what)
	}
	require.Greater(t, statuses[http.StatusNotFound], 50)
	require.Greater(t, statuses[http.StatusUnauthorized], 50)
	require.Greater(t, statuses[http.StatusUnprocessableEntity], 50, "%v", statuses)

	require.Equal(t, a.SwapID, victim.swap(r, a.SwapID).SwapID)
	rows, err := w.store.SwapRows(t.Context(), "", "", "")
	require.NoError(t, err)
	for _, x := range rows {
		require.True(t, x.RiderID == victim.id || x.State == swap.StateClosed, "%+v: the cabinet is the victim's", x)
	}
	for _, p := range []*handset{me, other} {
		require.Zero(t, p.me(r).SwapsTotal)
		require.Zero(t, p.me(r).OpenCredits)
	}
	w.audited()
}
