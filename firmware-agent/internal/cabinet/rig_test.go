package cabinet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// The rig is a cabinet with a journal, a link and a board made of facts, in a
// synctest bubble: its time is the bubble's. lineTime is what the serial line
// takes for one slot at 19200 baud.
const lineTime = 27 * time.Millisecond

type box struct {
	open    bool
	serial  string
	soc     int32
	charge  bool
	dead    bool
	unlock  time.Duration // how long the board takes to answer a pulse
	failing bool          // the board answers a pulse with an error, though the door opens
	stay    bool          // a pulse does nothing
	loose   bool          // the battery inside does not say who it is
}

type rig struct {
	t      *testing.T
	began  time.Time
	mu     sync.Mutex
	boxes  []box
	button bool
	key    bool // turned
	away   bool // the cabinet's own board does not answer
	smoke  bool
	log    []string // what happened, in order: journal and locks
	sent   []protocol.Message
	deaf   bool // the link takes nothing
	jErr   error
	hurry  bool
	watch  []int
	// verdict is what the safety loop says.
	verdict charging.Verdict
	cuts    []protocol.ChargeCut
	out     protocol.Reason
	codes   []string // on the screen
	fold    Fold

	c    *Cabinet
	stop context.CancelFunc
	err  chan error
}

func newRig(t *testing.T, boxes ...box) *rig {
	if boxes == nil {
		boxes = []box{{}, {}, {serial: "C3", soc: 960}, {serial: "C4", soc: 960}, {serial: "F5", soc: 300}}
	}
	r := &rig{t: t, began: time.Now(), boxes: boxes}
	r.verdict = charging.Verdict{Contactor: true, Power: slices.Repeat([]bool{true}, len(boxes))}
	r.write(protocol.Boot{BootID: protocol.BootID{7}, Epoch: protocol.Epoch{1}})
	r.start()
	return r
}

func (r *rig) now() time.Duration { return time.Since(r.began) }

// write is the journal's disk.
func (r *rig) write(p protocol.Payload) {
	b, err := protocol.MarshalPayload(p)
	require.NoError(r.t, err)
	require.NoError(r.t, r.fold.Add(protocol.Record{
		Type: p.RecordType(), Payload: b, BootSeq: 1, MonoMS: uint64(r.now().Milliseconds()),
	}))
}

// start runs the cabinet and its poller.
func (r *rig) start() {
	var n uint64
	c, err := New(Options{
		Journal: r, Board: r, Safety: r, Sensors: r, Send: r.send, Now: r.now,
		CoreOptions: CoreOptions{
			Slots: len(r.boxes), State: r.fold.State(),
			Random: readerFunc(func(b []byte) (int, error) { n++; return copy(b, fmt.Sprintf("%016d", n)), nil }),
			Limits: slot.DefaultLimits(), MaxPulsesPerHour: 120, Plan: charging.DefaultPlan(), OutOfService: r.reason, Codes: r.shown, Software: "test",
			Backlog: func() uint64 { return 3 }, EnergyJ: func() (uint64, bool) { return 9_000_000, true }, Log: slog.New(slog.DiscardHandler),
		},
	})
	require.NoError(r.t, err)
	ctx, stop := context.WithCancel(r.t.Context())
	r.c, r.stop, r.err = c, stop, make(chan error, 1)
	go func() { r.err <- c.Run(ctx) }()
	go r.poll(ctx, c)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

var _ io.Reader = readerFunc(nil)

// end stops everything and gives Run's error.
func (r *rig) end() error {
	r.stop()
	return <-r.err
}

func (r *rig) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *rig) reason() protocol.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out
}

func (r *rig) shown() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.codes
}

// Append is the journal.
func (r *rig) Append(payloads ...protocol.Payload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jErr != nil {
		return r.jErr
	}
	for _, p := range payloads {
		b, _ := json.Marshal(p)
		r.note("%s %s", p.RecordType(), b)
		r.write(p)
	}
	return nil
}

func (r *rig) send(m protocol.Message) bool {
	require.NoError(r.t, m.Validate())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf {
		return false
	}
	r.sent = append(r.sent, m)
	return true
}

func (r *rig) Hurry(on bool) { r.mu.Lock(); defer r.mu.Unlock(); r.hurry = on }
func (r *rig) Watch(slots ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch = append([]int(nil), slots...)
}

// Poll and Unlock are the board.
func (r *rig) Poll(ctx context.Context, n int) (slot.Reading, error) {
	if err := sleep(ctx, lineTime); err != nil {
		return slot.Reading{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.boxes[n-1]
	if b.dead {
		return slot.Reading{}, errors.New("no answer")
	}
	in := b.serial != ""
	v := slot.Reading{
		Slot: n, At: r.now(), DoorOpen: slot.TriOf(b.open), Bolt: slot.TriOf(!b.open), BoltFitted: true, CoilActive: slot.No,
		Switch: slot.TriOf(in), BatteryLink: slot.TriOf(in), Serial: b.serial, Alive: uint16(r.now() / time.Second),
		ChargeEnabled: slot.TriOf(b.charge), Charging: slot.TriOf(b.charge), Smoke: slot.No, Full: slot.No,
	}
	if b.loose {
		v.BatteryLink, v.Serial = slot.No, ""
	} else if in {
		v.SocPermille, v.VoltageMV = slot.Known(b.soc), slot.Known(64_000)
		v.CellMin, v.CellMax = slot.Known(240), slot.Known(250)
	}
	return v, nil
}

func (r *rig) Unlock(ctx context.Context, n int) error {
	r.mu.Lock()
	b := r.boxes[n-1]
	r.note("PULSE %d", n)
	r.mu.Unlock()
	if err := sleep(ctx, max(b.unlock, lineTime)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !b.stay {
		r.boxes[n-1].open = true
	}
	if b.failing {
		return errors.New("no answer")
	}
	return nil
}

// Want, Verdict and Cuts are the safety loop.
func (r *rig) Want(orders []charging.Order) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.boxes {
		r.boxes[i].charge = slices.ContainsFunc(orders, func(o charging.Order) bool { return o.Slot == i+1 && o.On })
	}
}

func (r *rig) Verdict() charging.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verdict
}

func (r *rig) Cuts() []protocol.ChargeCut {
	r.mu.Lock()
	defer r.mu.Unlock()
	cuts := r.cuts
	r.cuts = nil
	return cuts
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// poll reads every slot in turn, once a second or as fast as the line allows.
func (r *rig) poll(ctx context.Context, c *Cabinet) {
	for ctx.Err() == nil {
		began := r.now()
		for n := range r.boxes {
			if v, err := r.Poll(ctx, n+1); err == nil {
				c.Observe(v)
			}
		}
		r.mu.Lock()
		hurry := r.hurry
		board := driver.CabinetReading{At: r.now(), Button: slot.TriOf(r.button), Smoke: slot.TriOf(r.smoke), MaintenanceKey: slot.TriOf(r.key)}
		away := r.away
		r.mu.Unlock()
		if !away {
			c.ObserveBoard(board)
		}
		if !hurry {
			_ = sleep(ctx, began+time.Second-r.now())
		}
	}
}

// set changes the facts.
func (r *rig) set(n int, f func(*box)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.boxes[n-1])
}

func (r *rig) get(n int) box {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.boxes[n-1]
}

// events are what happened so far.
func (r *rig) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.log...)
}

// until waits in the bubble's time.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := r.now() + 5*time.Minute; !ok(); {
		require.Less(r.t, r.now(), end, "waited for %s\n%v", what, r.events())
		time.Sleep(10 * time.Millisecond)
	}
}

func messages[M protocol.Message](r *rig) []M {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []M
	for _, m := range r.sent {
		if m, ok := m.(M); ok {
			out = append(out, m)
		}
	}
	return out
}

func swapID(n int) protocol.SwapID {
	return protocol.SwapID(fmt.Sprintf("01920000-0000-7000-8000-%012d", n))
}

// prepare asks and waits for prepared.
func (r *rig) prepare(n int, k protocol.Kind) protocol.Prepared {
	was := len(messages[protocol.Prepared](r))
	require.True(r.t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(n), Kind: k}}))
	r.until("prepared", func() bool { return len(messages[protocol.Prepared](r)) > was })
	return messages[protocol.Prepared](r)[was]
}

func (r *rig) grant(p protocol.Prepared, k protocol.Kind, expect ...protocol.BatterySerial) {
	g := protocol.Grant{
		SwapID: p.SwapID, Kind: k, Nonce: p.Nonce, BootID: p.BootID, RiderRef: "00112233445566778899aabbccddeeff", DepositSlots: p.DepositSlots,
		Dispense: p.Dispense, ExpectSerials: expect,
	}
	raw, err := json.Marshal(g)
	require.NoError(r.t, err)
	require.True(r.t, r.c.Deliver(Command{Message: g, Raw: raw}))
}

// opened waits for an open door and gives its slot.
func (r *rig) opened() int {
	n := 0
	r.until("an open door", func() bool {
		for i := range r.boxes {
			if r.get(i + 1).open {
				n = i + 1
			}
		}
		return n != 0
	})
	return n
}

// act changes what is in an open slot, and shuts the door.
func (r *rig) act(n int, serial string) {
	time.Sleep(1500 * time.Millisecond)
	r.set(n, func(b *box) { b.serial, b.soc = serial, 120 })
	time.Sleep(time.Second)
	r.set(n, func(b *box) { b.open = false })
}

// inBubble runs a test in a bubble: no goroutine may outlive it.
func inBubble(t *testing.T, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		time.Sleep(5 * time.Second)
		f(r)
		require.NoError(t, r.end())
	})
}
