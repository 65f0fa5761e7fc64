package safety_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	"batteryswap/firmware-agent/internal/driver/slotboard"
	"batteryswap/firmware-agent/internal/safety"
	"batteryswap/protocol"
)

// rig is the safety loop over the real driver and the real bus, with a line in
// memory, in a synctest bubble.
type rig struct {
	*safety.Loop
	t      *testing.T
	boards *boards
	line   *drivertest.Line
	driver driver.Board
	poller *driver.Poller
	now    func() time.Duration

	ctx     context.Context
	stop    context.CancelFunc
	ended   chan struct{}
	planner context.CancelFunc
	// stopPoller: nobody reads the slots any more but the loop itself.
	stopPoller context.CancelFunc
	whole      *whole // nil: the loop alone
}

type rigOptions struct {
	slots   int
	baud    int
	device  time.Duration // that the boards take
	latched []charging.Alarm
	change  func(*boards)
	line    func(*drivertest.Line)
	// whole: the cabinet's loop is there, too.
	whole bool
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, boards: newBoards(o.slots)}
	if o.change != nil {
		o.change(r.boards)
	}
	began := time.Now()
	r.now = func() time.Duration { return time.Since(began) }
	if o.baud == 0 {
		o.baud = 19200
	}
	r.line = drivertest.NewLine(o.baud, r.boards)
	r.line.DeviceTime, r.line.Chunk = o.device, 64
	if o.line != nil {
		o.line(r.line)
	}
	log := slog.New(slog.DiscardHandler)
	b, err := bus.New(bus.Config{
		Open: func() (bus.Line, error) { return r.line, nil }, Baud: o.baud, CharBits: 10, Device: 50 * time.Millisecond, Log: log,
	})
	require.NoError(t, err)
	r.driver, err = slotboard.Open(driver.Options{Bus: b, Slots: o.slots, Now: r.now, Log: log})
	require.NoError(t, err)
	r.driver = newInTurn(r.driver, o.slots)
	r.Loop = safety.New(safety.Options{
		Board: r.driver, Limits: charging.DefaultLimits(o.slots), Latched: o.latched, Now: r.now, Log: log, Seen: r.seen,
	})
	r.poller = driver.NewPoller(driver.PollerOptions{
		Board: r.driver, Slots: o.slots, Interval: time.Second, Report: r.report, Now: r.now, Log: log,
	})
	r.ctx, r.stop = context.WithCancel(t.Context())
	if o.whole {
		r.whole = newWhole(r, o.slots, log)
	}
	r.ended = make(chan struct{})
	polled := make(chan struct{})
	polling, stop := context.WithCancel(r.ctx)
	r.stopPoller = stop
	go func() { defer close(polled); r.poller.Run(polling) }()
	go func() { defer close(r.ended); r.Run(r.ctx) }()
	if r.whole != nil {
		r.whole.start()
	}
	t.Cleanup(func() {
		r.stop()
		if r.whole != nil {
			r.whole.stop()
		}
		<-polled
		<-r.ended
		require.NoError(t, b.Close())
	})
	return r
}

// report and seen pass on what was read, as the agent does.
func (r *rig) report(p driver.Report) {
	r.Report(p)
	r.observe(p)
}

func (r *rig) seen(p driver.Report) {
	if p.Slot == driver.OwnBoard {
		r.observe(p)
	}
}

func (r *rig) observe(p driver.Report) {
	switch {
	case r.whole == nil || p.Err != nil:
	case p.Slot == driver.OwnBoard:
		r.whole.cabinet.ObserveBoard(p.Cabinet)
	default:
		r.whole.cabinet.Observe(p.Reading)
	}
}

// want has a plan charge these slots until it is stopped: it is the cabinet's
// goroutine, and it takes what is to be journalled.
func (r *rig) want(slots ...int) {
	var orders []charging.Order
	for _, n := range slots {
		orders = append(orders, charging.Order{Slot: n, On: true})
	}
	r.wish(orders...)
}

// wish is want with whole orders.
func (r *rig) wish(orders ...charging.Order) {
	if r.planner != nil {
		r.planner()
	}
	ctx, stop := context.WithCancel(r.ctx)
	r.planner = stop
	go func() {
		for ctx.Err() == nil {
			r.Want(orders)
			r.Cuts()
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	}()
}

// until waits in the bubble's time.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := r.now() + 2*time.Minute; !ok(); {
		require.Less(r.t, r.now(), end, "waited for %s: %+v", what, r.State())
		time.Sleep(20 * time.Millisecond)
	}
}

// charging waits until current flows into these slots.
func (r *rig) charging(slots ...int) {
	r.t.Helper()
	r.until("charging", func() bool {
		r.boards.mu.Lock()
		defer r.boards.mu.Unlock()
		for _, n := range slots {
			if !r.boards.power(n) {
				return false
			}
		}
		return true
	})
}

// after sets a fact and says how long it takes until power has gone, as off says.
func (r *rig) after(fact func(), off func() bool) time.Duration {
	r.t.Helper()
	var began time.Time
	r.boards.set(func() {
		fact()
		began = time.Now()
		r.boards.off = off
	})
	select {
	case <-r.boards.gone:
	case <-time.After(20 * time.Second):
		require.Fail(r.t, "power stays on", "%+v", r.State())
	}
	return r.boards.offAt.Sub(began)
}

// alarmed waits for an alarm.
func (r *rig) alarmed(kind protocol.AlarmKind, slotNumber int) {
	r.t.Helper()
	r.until("alarm "+string(kind), func() bool {
		for _, a := range r.State().Alarms {
			if a == (charging.Alarm{Kind: kind, Slot: slotNumber}) {
				return true
			}
		}
		return false
	})
}
