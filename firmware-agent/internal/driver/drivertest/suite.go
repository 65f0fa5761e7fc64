package drivertest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
)

// Facts is how things are in a slot.
type Facts struct {
	DoorOpen, Locked, Battery bool
	// Serial is the battery's code, "" while it does not tell.
	Serial      string
	SocPermille int
	Charging    bool // charging is enabled
}

// Board is a board of the kind under test, as the suite sees and changes it.
type Board interface {
	Device
	Facts(slot int) Facts
	Put(slot int, f Facts)
	// Dead makes the slot silent, Refuse makes it refuse whatever is asked. Slot 0
	// is the cabinet's own board.
	Dead(slot int, dead bool)
	Refuse(slot int, refuse bool)
	// Reset restarts the board of the slot, which forgets what it had in RAM.
	Reset(slot int)
	// Pulses is how often the lock was pulsed, also across resets; Hot is how
	// often it was pulsed with charging enabled.
	Pulses(slot int) int
	Hot(slot int) int
	// Contactor is whether the main contactor is closed.
	Contactor() bool
	// Air is what a slot's fan and heater were told last.
	Air(slot int) (fan, heater slot.Air)
}

// Fixture is a kind of board and how to make one.
type Fixture struct {
	Kind driver.Kind
	Baud int
	// New makes a board with that many slots: shut, locked, empty.
	New func(slots int) Board
}

// rig is a driver, a board and the line between.
type rig struct {
	Line   *Line
	Board  Board
	Driver driver.Board
	Bus    *bus.Bus
	Now    func() time.Duration
}

// device is how long a board may take.
const device = 50 * time.Millisecond

// newRig makes a driver of the kind and a board for it to talk to, within a
// synctest bubble.
func (f Fixture) newRig(t *testing.T, slots int) *rig {
	t.Helper()
	r := &rig{Board: f.New(slots)}
	began := time.Now()
	r.Now = func() time.Duration { return time.Since(began) }
	r.Line = NewLine(f.Baud, r.Board)
	log := quiet()
	b, err := bus.New(bus.Config{Open: func() (bus.Line, error) { return r.Line, nil },
		Baud: f.Baud, CharBits: 10, Device: device, Log: log})
	require.NoError(t, err)
	r.Bus = b
	r.Driver, err = f.Kind.Open(driver.Options{Bus: b, Slots: slots, Now: r.Now, Log: log})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.Empty(t, r.Line.Violations())
	})
	return r
}

// Run checks that a kind of board keeps what driver.Board promises, whatever the
// board and the line do.
func Run(t *testing.T, f Fixture) {
	tests := []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"start makes outputs safe and moves no lock", testStart},
		{"poll says what is", testPoll},
		{"poll is right or fails, whatever happens to replies", testPollFaults},
		{"a serial is never another battery's", testSerial},
		{"unlock pulses once", testUnlock},
		{"unlock never pulses twice, whatever happens to replies", testUnlockFaults},
		{"a board that forgets is not pulsed again", testUnlockReset},
		{"a reset board is made safe again", testReset},
		{"a board that is reset between two reads of one poll is made safe again", testResetInPoll},
		{"a dead slot harms no other", testDead},
		{"a refusal is an error", testRefusal},
		{"an echo is no reply", testEcho},
		{"a slot that is not there", testNoSuchSlot},
		{"one dead board costs a twentieth", testDeadCost},
		{"a look says what is", testLook},
		{"the main contactor", testContactor},
		{"fan and heater do as they are told", testAir},
		{"charging is switched off at once, whatever waits", testOffAtOnce},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.run(t, f) })
	}
}

func bubble(t *testing.T, f Fixture, slots int, run func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { run(t, f.newRig(t, slots)) })
}

// requireReading says that a reading is these facts.
func requireReading(t *testing.T, want Facts, got slot.Reading, context ...any) {
	t.Helper()
	require.Equal(t, slot.TriOf(want.DoorOpen), got.DoorOpen, context...)
	if got.BoltFitted {
		require.Equal(t, slot.TriOf(want.Locked), got.Bolt, context...)
	} else {
		require.Equal(t, slot.Unknown, got.Bolt, context...)
	}
	require.Equal(t, slot.TriOf(want.Battery), got.Switch, context...)
	require.Equal(t, want.Serial, got.Serial, context...)
	if want.Serial == "" {
		require.False(t, got.SocPermille.Known, context...)
	} else {
		require.Equal(t, slot.Known(int32(want.SocPermille)), got.SocPermille, context...)
	}
}

var (
	shut    = Facts{Locked: true}
	open    = Facts{DoorOpen: true}
	holding = Facts{Locked: true, Battery: true, Serial: "BT3072020120000200521001", SocPermille: 431}
	mute    = Facts{Locked: true, Battery: true}
	another = Facts{Locked: true, Battery: true, Serial: "BT3072020120000200521002", SocPermille: 987}
	third   = Facts{Locked: true, Battery: true, Serial: "X12MCPM27KLPCLX2M2382320", SocPermille: 0}
)

func testStart(t *testing.T, f Fixture) {
	bubble(t, f, 3, func(t *testing.T, r *rig) {
		charging := holding
		charging.Charging = true
		for n := 1; n <= 3; n++ {
			r.Board.Put(n, charging)
		}
		r.Board.Dead(2, true)
		err := r.Driver.Start(t.Context())
		require.ErrorContains(t, err, "slot 2")
		require.NotContains(t, err.Error(), "slot 3")
		require.False(t, r.Board.Facts(1).Charging)
		require.False(t, r.Board.Facts(3).Charging, "a dead slot does not stop Start")

		r.Board.Dead(2, false)
		require.True(t, r.Board.Facts(2).Charging)
		got, err := r.Driver.Poll(t.Context(), 2)
		require.NoError(t, err)
		require.False(t, r.Board.Facts(2).Charging, "what Start could not do, the first poll does")
		requireReading(t, holding, got)
		for n := 1; n <= 3; n++ {
			require.Zero(t, r.Board.Pulses(n))
		}
	})
}

func testPoll(t *testing.T, f Fixture) {
	bubble(t, f, 2, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		_, err := r.Driver.PollCabinet(t.Context())
		require.NoError(t, err)
		for i, facts := range []Facts{shut, open, holding, mute, another, open, holding, holding} {
			r.Board.Put(1, facts)
			got, err := r.Driver.Poll(t.Context(), 1)
			require.NoError(t, err)
			requireReading(t, facts, got, "step %d", i)
			require.Equal(t, 1, got.Slot)
			require.LessOrEqual(t, got.At, r.Now())
			require.Greater(t, got.At, r.Now()-100*time.Millisecond)
			time.Sleep(time.Second)
		}
		require.NoError(t, r.Driver.Charge(t.Context(), 1, true))
		require.True(t, r.Board.Facts(1).Charging)
		require.False(t, r.Board.Facts(2).Charging)
		require.NoError(t, r.Driver.Charge(t.Context(), 1, false))
		require.False(t, r.Board.Facts(1).Charging)
	})
}

func testPollFaults(t *testing.T, f Fixture) {
	for _, fault := range faults() {
		t.Run(fault.name, func(t *testing.T) {
			bubble(t, f, 2, func(t *testing.T, r *rig) {
				fault.put(r.Line, func(n int) bool { return n%7 == 3 })
				good, steps := 0, []Facts{shut, open, holding, another, mute, holding}
				for i := range 120 {
					n := 1 + i%2
					facts := steps[i%len(steps)]
					r.Board.Put(n, facts)
					got, err := r.Driver.Poll(t.Context(), n)
					if err == nil {
						good++
						requireReading(t, facts, got, "poll %d", i)
					}
				}
				require.Greater(t, good, 30)
				r.Line.mend()
				got, err := r.Driver.Poll(t.Context(), 1)
				if err != nil { // the last fault's late bytes
					got, err = r.Driver.Poll(t.Context(), 1)
				}
				require.NoError(t, err)
				requireReading(t, r.Board.Facts(1), got)
			})
		})
	}
}

// testSerial changes the battery after some request of a poll, once or again and
// again: a reading is of one instant, and its serial is the battery's that was
// there at that instant, or unknown.
func testSerial(t *testing.T, f Fixture) {
	for at := range 10 {
		for _, often := range []bool{false, true} {
			bubble(t, f, 1, func(t *testing.T, r *rig) { serialChanges(t, r, at, often) })
		}
	}
}

func serialChanges(t *testing.T, r *rig, at int, often bool) {
	r.Board.Put(1, holding)
	require.NoError(t, r.Driver.Start(t.Context()))
	_, err := r.Driver.Poll(t.Context(), 1)
	require.NoError(t, err)
	r.Board.Put(1, shut)
	_, err = r.Driver.Poll(t.Context(), 1)
	require.NoError(t, err)
	r.Board.Put(1, holding)
	first := r.Line.Requests()
	var replied Facts // when the last reply was made
	r.Line.Fault = func(n int, _, reply []byte) []Burst {
		replied = r.Board.Facts(1)
		next := map[string]Facts{holding.Serial: another, another.Serial: third, third.Serial: holding}[replied.Serial]
		if n-first == at || often && n-first >= at {
			r.Board.Put(1, next)
		}
		return []Burst{{Bytes: reply}}
	}
	during, err := r.Driver.Poll(t.Context(), 1)
	require.NoError(t, err, "changed after request %d", at)
	if during.Serial != "" {
		requireReading(t, replied, during, "changed after request %d", at)
	}
	r.Line.mend()
	after, err := r.Driver.Poll(t.Context(), 1)
	require.NoError(t, err)
	requireReading(t, r.Board.Facts(1), after, "changed after request %d", at)
	if during.Serial != "" && during.Serial != after.Serial {
		require.NotEqual(t, during.IdentityEpoch, after.IdentityEpoch, "another battery is another epoch")
	}
}

func testReset(t *testing.T, f Fixture) {
	bubble(t, f, 1, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		r.Board.Put(1, holding)
		time.Sleep(time.Minute)
		_, err := r.Driver.Poll(t.Context(), 1)
		require.NoError(t, err)
		r.Board.Reset(1)
		wrong := another
		wrong.Charging = true
		r.Board.Put(1, wrong)
		got, err := r.Driver.Poll(t.Context(), 1)
		require.NoError(t, err)
		requireReading(t, another, got)
		require.False(t, r.Board.Facts(1).Charging)
		require.Zero(t, r.Board.Pulses(1))
	})
}

// testResetInPoll resets the board after each request of a poll in turn, while
// charging is on.
func testResetInPoll(t *testing.T, f Fixture) {
	for at := range 5 {
		bubble(t, f, 1, func(t *testing.T, r *rig) {
			require.NoError(t, r.Driver.Start(t.Context()))
			time.Sleep(time.Minute)
			r.Board.Put(1, holding)
			wrong, done := another, false
			wrong.Charging = true
			first := r.Line.Requests()
			r.Line.Fault = func(n int, _, reply []byte) []Burst {
				if n-first == at {
					done = true
					r.Board.Reset(1)
					r.Board.Put(1, wrong)
				}
				return []Burst{{Bytes: reply}}
			}
			_, _ = r.Driver.Poll(t.Context(), 1) // may say that it failed
			r.Line.mend()
			require.True(t, done || at > 0, "a poll asks something")
			if !done {
				return // this kind's poll is shorter
			}
			got, err := r.Driver.Poll(t.Context(), 1)
			require.NoError(t, err)
			requireReading(t, another, got, "reset after request %d", at)
			require.False(t, r.Board.Facts(1).Charging, "reset after request %d", at)
		})
	}
}

func testDead(t *testing.T, f Fixture) {
	bubble(t, f, 3, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		r.Board.Dead(2, true)
		r.Board.Put(3, holding)
		for range 5 {
			_, err := r.Driver.Poll(t.Context(), 1)
			require.NoError(t, err)
			began := r.Now()
			_, err = r.Driver.Poll(t.Context(), 2)
			require.ErrorIs(t, err, bus.ErrTimeout)
			require.Less(t, r.Now()-began, 500*time.Millisecond, "bounded by the line's timing")
			got, err := r.Driver.Poll(t.Context(), 3)
			require.NoError(t, err)
			requireReading(t, holding, got)
		}
		require.Error(t, r.Driver.Unlock(t.Context(), 2))
		require.Error(t, r.Driver.Charge(t.Context(), 2, true))
		r.Board.Dead(2, false)
		_, err := r.Driver.Poll(t.Context(), 2)
		require.NoError(t, err)
	})
}

func testRefusal(t *testing.T, f Fixture) {
	bubble(t, f, 2, func(t *testing.T, r *rig) {
		require.NoError(t, r.Driver.Start(t.Context()))
		r.Board.Refuse(1, true)
		_, err := r.Driver.Poll(t.Context(), 1)
		require.ErrorContains(t, err, "slot 1")
		require.ErrorContains(t, r.Driver.Unlock(t.Context(), 1), "slot 1")
		require.ErrorContains(t, r.Driver.Charge(t.Context(), 1, true), "slot 1")
		require.Zero(t, r.Board.Pulses(1))
		_, err = r.Driver.Poll(t.Context(), 2)
		require.NoError(t, err)
	})
}

func testEcho(t *testing.T, f Fixture) {
	bubble(t, f, 2, func(t *testing.T, r *rig) {
		r.Line.Fault = func(_ int, request, reply []byte) []Burst {
			return []Burst{{Bytes: append(append([]byte(nil), request...), reply...)}}
		}
		require.NoError(t, r.Driver.Start(t.Context()))
		r.Board.Put(1, holding)
		got, err := r.Driver.Poll(t.Context(), 1)
		require.NoError(t, err)
		requireReading(t, holding, got)
		require.NoError(t, r.Driver.Unlock(t.Context(), 1))
		require.Equal(t, 1, r.Board.Pulses(1))
		r.Board.Dead(2, true)
		require.Error(t, r.Driver.Unlock(t.Context(), 2), "the echo is not the board's word")
		require.Error(t, r.Driver.Charge(t.Context(), 2, true))
	})
}

func testNoSuchSlot(t *testing.T, f Fixture) {
	bubble(t, f, 2, func(t *testing.T, r *rig) {
		for _, n := range []int{-1, 0, 3, 256 + 1} {
			_, err := r.Driver.Poll(t.Context(), n)
			require.ErrorContains(t, err, "expected 1 to 2")
			require.ErrorContains(t, r.Driver.Unlock(t.Context(), n), "expected 1 to 2")
			require.ErrorContains(t, r.Driver.Charge(t.Context(), n, true), "expected 1 to 2")
			require.ErrorContains(t, r.Driver.Limit(t.Context(), n, 0), "expected 1 to 2")
			_, err = r.Driver.Look(t.Context(), n)
			require.ErrorContains(t, err, "expected 1 to 2")
		}
		require.Zero(t, r.Line.Requests())
	})
	for _, slots := range []int{0, f.Kind.MaxSlots + 1} {
		_, err := f.Kind.Open(driver.Options{Slots: slots})
		require.ErrorContains(t, err, "slots")
	}
	_, err := f.Kind.Open(driver.Options{Slots: 1})
	require.Error(t, err, "no bus")
}
