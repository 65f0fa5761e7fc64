package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const (
	riderA = swap.RiderID("0190aaaa-0000-7000-8000-00000000000a")
	riderB = swap.RiderID("0190aaaa-0000-7000-8000-00000000000b")
	swapA  = protocol.SwapID("01920000-0000-7000-8000-00000000000a")
	swapB  = protocol.SwapID("01920000-0000-7000-8000-00000000000b")
	home   = protocol.CabinetID("hb-0001")
)

// fakeBooks is Books in memory. Acts counts everything that changes something.
type fakeBooks struct {
	mu       sync.Mutex
	down     error
	acts     []string
	sessions map[string]swap.RiderID
	swaps    map[protocol.SwapID]swap.View
	riders   map[swap.RiderID]swap.RiderView
	cabinets map[protocol.CabinetID]swap.CabinetView
	watchers map[protocol.SwapID][]chan struct{}
	silent   bool // notifications are lost
	reads    int
	onScan   func(swap.Scan) (swap.View, *swap.Refusal, error)
	wish     error
	faults   []staff.Fault
	tooMany  error
}

func newFakeBooks() *fakeBooks {
	began := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	return &fakeBooks{
		sessions: map[string]swap.RiderID{},
		swaps: map[protocol.SwapID]swap.View{
			swapA: {SwapID: swapA, CabinetID: home, RiderID: riderA, Kind: protocol.KindSwap, State: swap.StateRequested, Step: swap.StepRequested, Seq: 1, StartedAt: began, UpdatedAt: began, Reachable: true},
			swapB: {SwapID: swapB, CabinetID: home, RiderID: riderB, Kind: protocol.KindSwap, State: swap.StateActive, Step: swap.StepDeposit, Slot: 3, Seq: 4, StartedAt: began, UpdatedAt: began, Reachable: true},
		},
		riders: map[swap.RiderID]swap.RiderView{
			riderA: {RiderID: riderA, SwapsThisMonth: 41, SwapsTotal: 99, Batteries: []protocol.BatterySerial{"B-1"}},
			riderB: {RiderID: riderB, OpenCredits: 1, OpenSwap: swapB},
		},
		cabinets: map[protocol.CabinetID]swap.CabinetView{
			home: {
				CabinetID: home, Station: "Hubin", Street: "Wensan Road", Reachable: true, LastSeen: began, Slots: 12, Charged: 7, Empty: 2,
				Inventory: protocol.Inventory{{Slot: 1, Presence: protocol.HoldsBattery, BatterySerial: "SECRET-SERIAL", Charged: true}},
			},
			"hb-0002": {CabinetID: "hb-0002", Slots: 12},
			"hb-0003": {CabinetID: "hb-0003", Slots: 12},
		},
		watchers: map[protocol.SwapID][]chan struct{}{},
	}
}

func (f *fakeBooks) act(what string) { f.acts = append(f.acts, what) }

func (f *fakeBooks) Scan(_ context.Context, s swap.Scan) (swap.View, *swap.Refusal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act("scan " + s.IdempotencyKey)
	if f.onScan != nil {
		return f.onScan(s)
	}
	if f.down != nil {
		return swap.View{}, nil, f.down
	}
	if _, ok := f.cabinets[s.CabinetID]; !ok {
		return swap.View{}, &swap.Refusal{Reason: protocol.ReasonCabinetUnknown}, nil
	}
	return f.swaps[swapA], nil, nil
}

func (f *fakeBooks) Swap(_ context.Context, rider swap.RiderID, id protocol.SwapID) (swap.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.down != nil {
		return swap.View{}, f.down
	}
	v, ok := f.swaps[id]
	if !ok || v.RiderID != rider {
		return swap.View{}, ErrNotFound
	}
	return v, nil
}

// change moves swapA on and tells who watches it.
func (f *fakeBooks) change(change func(*swap.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.swaps[swapA]
	v.Seq++
	change(&v)
	f.swaps[swapA] = v
	if f.silent {
		return
	}
	for _, c := range f.watchers[swapA] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (f *fakeBooks) Withdraw(_ context.Context, v swap.View) (swap.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act("withdraw " + string(v.SwapID))
	if f.down != nil {
		return v, f.down
	}
	now := f.swaps[v.SwapID]
	if now.State == swap.StateRequested {
		now.State, now.Step, now.Outcome, now.Reason = swap.StateClosed, swap.StepClosed, protocol.OutcomeNotStarted, protocol.ReasonCabinetOffline
		f.swaps[v.SwapID] = now
	}
	return now, nil
}

func (f *fakeBooks) Watch(id protocol.SwapID) (<-chan struct{}, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan struct{}, 1)
	f.watchers[id] = append(f.watchers[id], c)
	return c, func() {}
}

func (f *fakeBooks) watched(id protocol.SwapID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers[id])
}

func (f *fakeBooks) Wish(_ context.Context, c protocol.CabinetID, id protocol.SwapID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act("wish " + string(c) + " " + string(id))
	return f.wish
}

func (f *fakeBooks) Cabinets(context.Context) ([]swap.CabinetView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []swap.CabinetView
	for _, c := range f.cabinets {
		all = append(all, c)
	}
	return all, f.down
}

func (f *fakeBooks) Cabinet(_ context.Context, id protocol.CabinetID) (swap.CabinetView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.cabinets[id]
	if f.down == nil && !ok {
		return c, ErrNotFound
	}
	return c, f.down
}

func (f *fakeBooks) Rider(_ context.Context, id swap.RiderID) (swap.RiderView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.riders[id]
	if f.down == nil && !ok {
		return r, ErrNotFound
	}
	return r, f.down
}

func (f *fakeBooks) CreateSession(_ context.Context, rider swap.RiderID, n binding.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.riders[rider]; !known && f.down == nil {
		return ErrNotFound
	}
	f.act("session")
	f.sessions[string(n.TokenHash)] = rider
	return f.down
}

func (f *fakeBooks) SessionRider(_ context.Context, hash []byte) (swap.RiderID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.sessions[string(hash)]
	if f.down == nil && !ok {
		return "", ErrNotFound
	}
	return r, f.down
}

func (f *fakeBooks) History(_ context.Context, id swap.RiderID, n int) ([]swap.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []swap.View
	for _, v := range f.swaps {
		if v.RiderID == id && len(all) < n {
			all = append(all, v)
		}
	}
	return all, f.down
}

func (f *fakeBooks) ReportFault(_ context.Context, r staff.Fault) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act("fault")
	f.faults = append(f.faults, r)
	return int64(len(f.faults)), f.tooMany
}

func (f *fakeBooks) EndSession(_ context.Context, hash []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, string(hash))
	return f.down
}

func (f *fakeBooks) setDown(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *fakeBooks) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.acts...)
}

var errDown = errors.New("dial tcp: connection refused")

// site is a Web on a real listener, and what it was seen to do.
type site struct {
	*httptest.Server
	books   *fakeBooks
	web     *Web
	log     *safeBuffer
	mu      sync.Mutex
	scanned []string
	routes  []string
}

func (s *site) scans() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.scanned...)
}

// safeBuffer is a log that two goroutines may use.
type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newWeb(t *testing.T, s *site, public string) *Web {
	t.Helper()
	u, err := url.Parse(public)
	require.NoError(t, err)
	w, err := New(Options{
		Books: s.books, DevelopmentCode: "letmein", PublicURL: u,
		Observe: func(route, method string, status int, _ time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.routes = append(s.routes, method+" "+route)
		},
		Scanned: func(result string, _ time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.scanned = append(s.scanned, result)
		},
		Version: "test", Hotline: "0571-5555-0100", Log: slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	require.NoError(t, err)
	return w
}

func newSite(t *testing.T, change ...func(*http.Server)) *site {
	t.Helper()
	s := &site{books: newFakeBooks(), log: &safeBuffer{}}
	s.Server = httptest.NewUnstartedServer(nil)
	s.web = newWeb(t, s, "http://"+s.Listener.Addr().String())
	s.Config.Handler = s.web
	for _, c := range change {
		c(s.Config)
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// token signs a rider in.
func (s *site) token(t *testing.T, rider swap.RiderID) string {
	t.Helper()
	got, ok, err := s.web.developmentSession(t.Context(), string(rider), "letmein", "")
	require.NoError(t, err)
	require.True(t, ok)
	return got.token
}

// reply is an answer that has been read to its end.
type reply struct {
	StatusCode int
	Header     http.Header
	cookies    []*http.Cookie
}

// ask makes a request with a token and header lines "Name: value".
func (s *site) ask(t *testing.T, method, path, token, body string, headers ...string) (reply, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return reply{resp.StatusCode, resp.Header, resp.Cookies()}, string(b)
}
