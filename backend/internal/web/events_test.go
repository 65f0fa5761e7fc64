package web

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// event is one server-sent event.
type event struct {
	id, name string
	swap     swapBody
}

// listen opens an event stream; the channel is closed when the stream ends.
func (s *site) listen(t *testing.T, token, lastID string) (<-chan event, int, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/swaps/"+string(swapA)+"/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultTransport.RoundTrip(r) //nolint:bodyclose // closed by who reads it
	require.NoError(t, err)
	events := make(chan event, 100)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		var e event
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				if json.Unmarshal([]byte(value), &e.swap) != nil {
					return
				}
				events <- e
			}
		}
	}()
	return events, resp.StatusCode, cancel
}

func next(t *testing.T, events <-chan event) (event, bool) {
	t.Helper()
	select {
	case e, ok := <-events:
		return e, ok
	case <-time.After(10 * time.Second):
		require.Fail(t, "no event in time")
		return event{}, false
	}
}

func TestEventsFollowAndResume(t *testing.T) {
	s := newSite(t)
	a := s.token(t, riderA)
	events, status, cancel := s.listen(t, a, "")
	require.Equal(t, 200, status)
	e, ok := next(t, events)
	require.True(t, ok)
	require.Equal(t, "1", e.id)
	require.Equal(t, "swap", e.name)
	require.Equal(t, swap.StateRequested, e.swap.State)

	require.Eventually(t, func() bool { return s.books.watched(swapA) > 0 }, 30*time.Second, time.Millisecond)
	s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
	e, _ = next(t, events)
	require.Equal(t, "2", e.id)
	require.Equal(t, 3, e.swap.Slot)
	cancel()

	// What was seen is not sent again; what was missed is.
	events, _, _ = s.listen(t, a, "2")
	s.books.change(func(v *swap.View) { v.Step, v.Slot = swap.StepDispense, 7 })
	e, _ = next(t, events)
	require.Equal(t, "3", e.id)
	require.Equal(t, 7, e.swap.Slot)

	// An unreachable cabinet is news although no record moved the swap.
	s.books.change(func(v *swap.View) { v.Seq--; v.Reachable = false })
	e, _ = next(t, events)
	require.Equal(t, "3", e.id)
	require.False(t, e.swap.Reachable)

	s.books.change(func(v *swap.View) {
		v.Reachable, v.State, v.Step, v.Outcome = true, swap.StateClosed, swap.StepClosed, protocol.OutcomeSwapped
	})
	e, _ = next(t, events)
	require.Equal(t, protocol.OutcomeSwapped, e.swap.Outcome)
	_, ok = next(t, events)
	require.False(t, ok, "the stream ends with the swap")

	_, status, _ = s.listen(t, a, "4")
	require.Equal(t, 204, status, "nothing more will come")
	require.Eventually(t, func() bool { return len(s.web.streams) == 0 }, 10*time.Second, time.Millisecond,
		"every place is free again, also that of the client who went away")
}

func TestStreamOutlivesTheServersTimeouts(t *testing.T) {
	s := newSite(t, func(server *http.Server) {
		server.ReadTimeout, server.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	events, _, _ := s.listen(t, s.token(t, riderA), "")
	next(t, events)
	<-time.After(time.Second)
	s.books.change(func(v *swap.View) { v.State = swap.StateActive })
	e, ok := next(t, events)
	require.True(t, ok, "still open")
	require.Equal(t, "2", e.id)
}

func TestStreamsAreBounded(t *testing.T) {
	s := newSite(t)
	a := s.token(t, riderA)
	for range maxStreams {
		s.web.streams <- struct{}{}
	}
	resp, _ := s.ask(t, "GET", "/api/v1/swaps/"+string(swapA)+"/events", a, "")
	require.Equal(t, 503, resp.StatusCode)
}

// sink is a ResponseWriter in memory, for a bubble without a network.
type sink struct {
	safeBuffer
	header http.Header
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Flush()              {}

func TestStreamHeartbeatAndClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{books: newFakeBooks(), log: &safeBuffer{}}
		w := newWeb(t, s, "http://swap.example")
		closing := make(chan struct{})
		w.o.Closing = closing
		rw := &sink{header: http.Header{}}
		st := &stream{w: w, rw: rw, control: http.NewResponseController(rw)}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			st.run(t.Context(), s.books.swaps[swapA])
		}()
		<-time.After(46 * time.Second)
		require.Equal(t, 3, strings.Count(rw.String(), ": still here"))
		require.Equal(t, 1, strings.Count(rw.String(), "event: swap"))
		close(closing)
		<-ended
	})
}
