package safety_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// What is in the cabinet of these tests: a battery that needs no charging, an empty
// slot for a deposit, a charged battery to be given out, and else batteries that are
// charged.
const (
	wholeSlots  = 12
	fullSlot    = 10
	emptySlot   = 11
	chargedSlot = 12
)

// chargedSlots are those that are charged.
func chargedSlots() []int {
	var out []int
	for n := 1; n < fullSlot; n++ {
		out = append(out, n)
	}
	return out
}

// inTurn lets one at a time read a slot, or unlock one, by a channel: the board's own
// mutexes, held while the line is used, would keep the bubble's time from going on.
type inTurn struct {
	driver.Board
	polls, unlocks []chan struct{} // by slot number less 1
}

func newInTurn(b driver.Board, slots int) inTurn {
	t := inTurn{Board: b}
	for range slots {
		t.polls, t.unlocks = append(t.polls, make(chan struct{}, 1)), append(t.unlocks, make(chan struct{}, 1))
	}
	return t
}

func (t inTurn) Poll(ctx context.Context, n int) (slot.Reading, error) {
	t.polls[n-1] <- struct{}{}
	defer func() { <-t.polls[n-1] }()
	return t.Board.Poll(ctx, n)
}

func (t inTurn) Unlock(ctx context.Context, n int) error {
	t.unlocks[n-1] <- struct{}{}
	defer func() { <-t.unlocks[n-1] }()
	return t.Board.Unlock(ctx, n)
}

// whole is a cabinet's loop beside the safety loop, as the agent wires them: it plans
// and swaps, and waits for its journal. The broker, and the backend behind it, are the
// test's.
type whole struct {
	r       *rig
	cabinet *cabinet.Cabinet
	ended   chan struct{}

	mu       sync.Mutex
	fold     cabinet.Fold
	recorded []protocol.Payload
	dead     bool          // the device answers each write with an error
	blocked  chan struct{} // closed at the end; a write waits for it
	deaf     bool          // the broker takes nothing
	prepared chan protocol.Prepared
}

func newWhole(r *rig, slots int, log *slog.Logger) *whole {
	w := &whole{r: r, ended: make(chan struct{}), prepared: make(chan protocol.Prepared, 1)}
	require.NoError(r.t, w.Append(protocol.Boot{BootID: protocol.BootID{7}, Epoch: protocol.Epoch{1}}))
	for n, soc := range map[int]int32{fullSlot: 970, chargedSlot: 970} {
		r.boards.units[n-1].permille = soc
	}
	r.boards.units[emptySlot-1].put("", 0)
	plan := charging.DefaultPlan()
	plan.BudgetW = 20_000
	var err error
	w.cabinet, err = cabinet.New(cabinet.Options{
		Journal: w, Board: r.driver, Safety: r.Loop, Sensors: r.poller, Send: w.send, Now: r.now,
		CoreOptions: cabinet.CoreOptions{
			Slots: slots, State: w.fold.State(), Random: rand.NewChaCha8([32]byte{1}), Limits: slot.DefaultLimits(),
			MaxPulsesPerHour: 120, Plan: plan, Software: "test", Log: log,
		},
	})
	require.NoError(r.t, err)
	return w
}

func (w *whole) start() {
	go func() {
		defer close(w.ended)
		_ = w.cabinet.Run(w.r.ctx) // it ends when the journal dies
	}()
}

// stop lets a disk that blocks go, and waits for the loop. The rig's context has ended.
func (w *whole) stop() {
	w.mu.Lock()
	if w.blocked != nil {
		close(w.blocked)
	}
	w.mu.Unlock()
	<-w.ended
}

var errDead = errors.New("input/output error")

// Append is the journal.
func (w *whole) Append(payloads ...protocol.Payload) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.blocked; b != nil {
		w.mu.Unlock()
		<-b
		w.mu.Lock()
		return errDead
	}
	if w.dead {
		return errDead
	}
	for _, p := range payloads {
		b, err := protocol.MarshalPayload(p)
		if err != nil {
			return err
		}
		if err := w.fold.Add(protocol.Record{
			Type: p.RecordType(), Payload: b, BootSeq: 1, MonoMS: uint64(w.r.now().Milliseconds()),
		}); err != nil {
			return err
		}
		w.recorded = append(w.recorded, p)
	}
	return nil
}

// send is the link.
func (w *whole) send(m protocol.Message) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return false
	}
	if p, ok := m.(protocol.Prepared); ok {
		w.prepared <- p
	}
	return true
}

// loseBroker: nothing is sent any more, and nothing comes.
func (w *whole) loseBroker() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = true
}

// killDisk makes the device fail, and blockDisk block for ever. Either has the cabinet
// write something soon.
func (w *whole) killDisk() {
	w.mu.Lock()
	w.dead = true
	w.mu.Unlock()
	w.cabinet.Reject(protocol.TypeGrant, "malformed")
}

func (w *whole) blockDisk() {
	w.mu.Lock()
	w.blocked = make(chan struct{})
	w.mu.Unlock()
	w.cabinet.Reject(protocol.TypeGrant, "malformed")
}

// tells says whether a record of these is in the journal.
func (w *whole) tells(is func(protocol.Payload) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.recorded {
		if is(p) {
			return true
		}
	}
	return false
}

// swap begins a swap, loses the broker, and sends a rider who carries it on in the
// background, as quickly as chance has it.
func (w *whole) swap(random *rand.Rand) {
	r, id := w.r, protocol.SwapID("01920000-0000-7000-8000-000000000001")
	r.t.Helper()
	require.True(r.t, w.cabinet.Deliver(cabinet.Command{Message: protocol.Prepare{SwapID: id, Kind: protocol.KindSwap}}))
	var p protocol.Prepared
	select {
	case p = <-w.prepared:
	case <-time.After(10 * time.Second):
		require.FailNow(r.t, "no swap is prepared", "%+v", r.State())
	}
	const own = "BT-RIDER"
	g := protocol.Grant{
		SwapID: id, Kind: protocol.KindSwap, Nonce: p.Nonce, BootID: p.BootID, RiderRef: "00112233445566778899aabbccddeeff",
		DepositSlots: p.DepositSlots, Dispense: p.Dispense, ExpectSerials: []protocol.BatterySerial{own},
	}
	raw, err := json.Marshal(g)
	require.NoError(r.t, err)
	require.True(r.t, w.cabinet.Deliver(cabinet.Command{Message: g, Raw: raw}))
	w.loseBroker()
	r.until("the swap begins", w.underWay)
	patience := []time.Duration{time.Second + upTo(random, 4*time.Second), time.Second + upTo(random, 4*time.Second)}
	go w.rider(own, patience)
}

// swapLasts is what a swap takes at least: each door is closed for two seconds before
// it counts, and no rider is quicker than one.
const swapLasts = 6 * time.Second

// underWay says whether a swap is accepted and not closed.
func (w *whole) underWay() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fold.State().Open != nil
}

// upTo is a time of chance.
func upTo(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

// rider puts the own battery in, and takes the charged one.
func (w *whole) rider(own string, patience []time.Duration) {
	for _, wait := range patience {
		slots := w.open()
		if slots == nil || !pauses(w.r.ctx, wait) {
			return
		}
		w.r.boards.set(func() {
			u := w.r.boards.units[slots[0]-1]
			if slots[0] == chargedSlot {
				u.put("", 0)
			} else {
				u.put(own, 300)
			}
			u.open = false
		})
	}
}

// open waits for an open door; nil when the test ends.
func (w *whole) open() []int {
	for {
		w.r.boards.mu.Lock()
		slots := w.r.boards.opened()
		w.r.boards.mu.Unlock()
		if slots != nil {
			return slots
		}
		if !pauses(w.r.ctx, 50*time.Millisecond) {
			return nil
		}
	}
}

// pauses lets time pass; false when the test ends.
func pauses(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// cutTold says whether the journal tells of a cut and of an alarm.
func (w *whole) cutTold(kind protocol.AlarmKind, where int) func() bool {
	return func() bool {
		return w.tells(func(p protocol.Payload) bool {
			c, ok := p.(protocol.ChargeCut)
			return ok && c.Kind == kind && c.Slot == where
		}) && w.tells(func(p protocol.Payload) bool {
			a, ok := p.(protocol.Alarm)
			return ok && a.Kind == kind && a.Slot == where
		})
	}
}

// String tells how far a swap has come, for a run that failed.
func (w *whole) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var types []string
	for _, p := range w.recorded {
		types = append(types, p.RecordType().String())
	}
	return fmt.Sprint(types)
}
