package rider_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"batteryswap/protocol"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

const (
	cabinetID = "hb-0001"
	riderID   = "019a0000-0000-7000-8000-000000000001"
	own       = "B1"
	charged   = "B2"
	foreign   = "X1"
	swapID    = "019a0000-0000-7000-8000-00000000000a"
)

// system is a backend and a cabinet in one, just clever enough to answer a
// rider: slot 1 takes the deposit, slot 2 holds the charged battery.
type system struct {
	world *world.World
	now   func() time.Duration

	mu       sync.Mutex
	changed  *sync.Cond
	refusals []refusal // answered first, one scan each
	keys     []string  // of every scan
	swap     rider.Swap
	mute     bool // the pages are down
	streams  int
}

type refusal struct {
	status int
	reason protocol.Reason
}

func newSystem(w *world.World, now func() time.Duration) *system {
	s := &system{world: w, now: now}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// RoundTrip answers without a network, so that fake time can pass.
func (s *system) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Path == "/api/v1/sessions":
		return reply(http.StatusCreated, `{"token":"t"}`), nil
	case r.Header.Get("Authorization") != "Bearer t":
		return reply(http.StatusUnauthorized, `{}`), nil
	case r.Method == http.MethodPost && r.URL.Path == "/api/v1/swaps":
		return s.scan(r.Header.Get("Idempotency-Key")), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return nil, fmt.Errorf("connection refused")
	}
	if !strings.HasSuffix(r.URL.Path, "/events") {
		b, err := json.Marshal(s.swap)
		return reply(http.StatusOK, string(b)), err
	}
	s.streams++
	body, feed := io.Pipe()
	go s.stream(feed, r)
	return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
}

func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}
}

// stream sends every view until the swap is closed or the reader goes.
func (s *system) stream(feed *io.PipeWriter, r *http.Request) {
	stop := r.Context().Done()
	go func() {
		<-stop
		feed.CloseWithError(r.Context().Err())
	}()
	sent := uint64(0)
	for {
		s.mu.Lock()
		for s.swap.Seq == sent && r.Context().Err() == nil {
			s.mu.Unlock()
			select {
			case <-stop:
			case <-time.After(50 * time.Millisecond):
			}
			s.mu.Lock()
		}
		view := s.swap
		s.mu.Unlock()
		sent = view.Seq
		b, err := json.Marshal(view)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(feed, ": hello\nid: %d\nevent: swap\ndata: %s\n\n", sent, b); err != nil {
			return
		}
		if view.Closed() {
			feed.Close()
			return
		}
	}
}

func (s *system) scan(key string) *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, key)
	if len(s.refusals) > 0 {
		r := s.refusals[0]
		s.refusals = s.refusals[1:]
		return reply(r.status, fmt.Sprintf(`{"reason":%q,"swap_id":%q}`, r.reason, ""))
	}
	s.swap = rider.Swap{
		SwapID: swapID, CabinetID: cabinetID, Kind: protocol.KindSwap, State: "granted", Step: "granted", Seq: 1, Reachable: true,
	}
	go s.run()
	b, err := json.Marshal(s.swap)
	if err != nil {
		return reply(http.StatusInternalServerError, "")
	}
	return reply(http.StatusCreated, string(b))
}

func (s *system) set(step string, slot int, outcome protocol.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swap.Step, s.swap.Slot, s.swap.Outcome, s.swap.State = step, slot, outcome, "active"
	if outcome != "" {
		s.swap.State = "closed"
	}
	s.swap.Seq++
}

// door opens a slot and waits until it is closed: what is inside, and how long
// it took.
func (s *system) door(slot int, step string) (*world.Battery, bool, time.Duration) {
	began := s.now()
	if err := s.world.Pulse(began, cabinetID, slot, 400*time.Millisecond); err != nil {
		panic(err)
	}
	s.set(step, slot, "")
	<-time.After(time.Second)
	for {
		f := s.world.Facts(s.now(), cabinetID)[slot-1]
		if !f.DoorOpen && f.BoltLocked {
			return f.Battery, f.Plugged, s.now() - began
		}
		<-time.After(50 * time.Millisecond)
	}
}

// run is one swap, as a cabinet does it.
func (s *system) run() {
	<-time.After(100 * time.Millisecond)
	in, plugged, took := s.door(1, "deposit")
	if in != nil && !plugged {
		in, _, took = s.door(1, "reopen")
	}
	switch {
	case in == nil:
		s.set("closed", 0, protocol.OutcomeNoDeposit)
		return
	case in.Serial != own:
		if left, _, _ := s.door(1, "return"); left == nil {
			s.set("closed", 0, protocol.OutcomeReturned)
			return
		}
		s.set("closed", 0, protocol.OutcomeReview)
		return
	case took > 90*time.Second:
		s.set("closed", 0, protocol.OutcomeDepositedOwed)
		return
	}
	s.set("verify", 1, "")
	<-time.After(2 * time.Second)
	if left, _, _ := s.door(2, "dispense"); left != nil {
		s.set("closed", 0, protocol.OutcomeDepositedOwed)
		return
	}
	s.set("closed", 0, protocol.OutcomeSwapped)
}
